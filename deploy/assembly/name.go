package assembly

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/scoria-storage/scoria/messages/block"
	volumenode "github.com/scoria-storage/scoria/volume-node"
)

// nodeName is the name that was given, else the one that the node has by its state directory, else the host's.
func (v *VolumeConfig) nodeName(log *slog.Logger) (string, error) {
	if v.Name != "" {
		return v.Name, nil
	}
	host, err := os.Hostname()
	name, _, _ := strings.Cut(host, ".")
	if kept := volumenode.KeptName(v.State); kept != "" {
		if kept != name {
			log.Info("the node keeps the name that stands in its state directory, which is not the host's", "node", kept, "path", v.State)
		}
		return kept, nil
	}
	if err != nil {
		return "", err
	}
	if block.CheckToken(name) != nil {
		return "", &SettingError{"name", "", fmt.Sprintf("the name of this host, %q, cannot be a node's name: give one of letters, digits, _ and -", host)}
	}
	return name, nil
}

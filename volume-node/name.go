package volumenode

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// KeptName is the name of the node whose identity stands in the state directory; "" if none can be read there. A node
// that is started without a name keeps it, whatever the host is called by then.
func KeptName(stateDir string) string {
	data, err := os.ReadFile(filepath.Join(stateDir, identityFile))
	if err != nil {
		return ""
	}
	var f identityFields
	if json.Unmarshal(data, &f) != nil {
		return "" // New says what is wrong with the file
	}
	return f.Name
}

package messages

import (
	"testing"

	"github.com/scoria-storage/scoria/messages/block"
)

// What admission checks of a connector is what everybody reads of it: a key in other letters is another key.
func TestAConnectorIsReadByItsExactNames(t *testing.T) {
	t.Parallel()
	for connector, want := range map[string][2]string{
		`{"host": "h1", "mountpoint": "/dev/vda"}`:           {"h1", "/dev/vda"},
		`{"host": "h1", "hosT": "h2", "MOUNTPOINT": "/dev"}`: {"h1", ""},
		`{"host": "h1", "hosT": 5}`:                          {"h1", ""},
		`{"HOST": "h2"}`:                                     {"", ""},
		`{"host": null}`:                                     {"", ""},
		`{}`:                                                 {"", ""},
		``:                                                   {"", ""},
	} {
		if err := (&AttachVolume{Volume: block.VolumeID(idA), Connector: []byte(connector)}).Validate(); err != nil {
			t.Errorf("%s: %v", connector, err)
		}
		if host, device := ReadConnector([]byte(connector)); [2]string{host, device} != want {
			t.Errorf("%s: host %q, device %q; want %q", connector, host, device, want)
		}
	}
}

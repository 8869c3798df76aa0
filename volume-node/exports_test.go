package volumenode

import (
	"testing"

	"github.com/scoria-storage/scoria/messages/block"
)

// At a start, only attachments that a host may use through this node are exported again.
func TestAHostThatWasCutOffIsNotServedAgain(t *testing.T) {
	t.Parallel()
	here := &block.Connection{Node: "n1"}
	for _, c := range []struct {
		name string
		a    block.Attachment
		want bool
	}{
		{"attached", block.Attachment{Status: block.AttachAttached, Connection: here}, true},
		{"attaching", block.Attachment{Status: block.AttachAttaching, Connection: here}, true},
		{"reserved", block.Attachment{Status: block.AttachReserved}, false},
		{"its detach was given up", block.Attachment{Status: block.AttachErrorDetaching, Connection: here}, false},
		{"its attach was given up", block.Attachment{Status: block.AttachErrorAttaching, Connection: here}, false},
		{"on another node", block.Attachment{Status: block.AttachAttached, Connection: &block.Connection{Node: "n2"}}, false},
	} {
		if got := mayUse(c.a, "n1"); got != c.want {
			t.Errorf("%s: mayUse = %t, want %t", c.name, got, c.want)
		}
	}
}

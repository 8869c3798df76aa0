package block

import (
	"errors"
	"strings"
	"testing"
)

func TestVolumeStatusIsDerivedFromHolderThenRecordThenAttachments(t *testing.T) {
	t.Parallel()
	attached := []AttachmentRef{{ID: "a", Status: AttachAttached}, {ID: "b", Status: AttachReserved}}
	for _, c := range []struct {
		name        string
		settled     VolumeStatus
		attachments []AttachmentRef
		holder      Holder
		attach      Holder
		want        VolumeStatus
	}{
		{"idle", VolumeAvailable, nil, Holder{}, Holder{}, VolumeAvailable},
		{"new", VolumeCreating, nil, Holder{Kind: VolumeCreate}, Holder{}, VolumeCreating},
		{"error", VolumeError, nil, Holder{}, Holder{}, VolumeError},
		{"extending", VolumeAvailable, nil, Holder{Kind: VolumeExtend}, Holder{}, VolumeExtending},
		{"stuck extend", VolumeAvailable, nil, Holder{Kind: VolumeExtend, Stuck: true}, Holder{}, VolumeErrorExtending},
		{"deleting", VolumeError, nil, Holder{Kind: VolumeDelete}, Holder{}, VolumeDeleting},
		{"stuck delete", VolumeAvailable, nil, Holder{Kind: VolumeDelete, Stuck: true}, Holder{}, VolumeErrorDeleting},
		{"attached wins over reserved", VolumeAvailable, attached, Holder{}, Holder{}, VolumeInUse},
		{"extending wins over attached", VolumeAvailable, attached, Holder{Kind: VolumeExtend}, Holder{}, VolumeExtending},
		{"reserved", VolumeAvailable, attached[1:], Holder{}, Holder{}, VolumeReserved},
		{"attach holds no volume", VolumeAvailable, attached[1:], Holder{Kind: VolumeAttach}, Holder{}, VolumeReserved},
		{"being attached", VolumeAvailable, attached[1:], Holder{}, Holder{Kind: VolumeAttach, Resource: "b"}, VolumeAttaching},
		{"being detached", VolumeAvailable, attached, Holder{}, Holder{Kind: VolumeDetach, Resource: "a"}, VolumeDetaching},
		{"one of two being detached", VolumeAvailable, attached, Holder{}, Holder{Kind: VolumeDetach, Resource: "b"}, VolumeInUse},
		{"stuck attach", VolumeAvailable, attached[1:], Holder{}, Holder{Kind: VolumeAttach, Resource: "b", Stuck: true}, VolumeReserved},
		{"extending wins over attaching", VolumeAvailable, attached, Holder{Kind: VolumeExtend}, Holder{Kind: VolumeAttach, Resource: "b"}, VolumeExtending},
	} {
		v := Volume{Status: c.settled, Attachments: c.attachments}
		if got := v.ShownStatus(c.holder, c.attach); got != c.want {
			t.Errorf("%s: ShownStatus = %s, want %s", c.name, got, c.want)
		}
	}
}

func TestChildSetsCanBeRepeated(t *testing.T) {
	t.Parallel()
	var v Volume
	for range 2 {
		v.AddSnapshot("s1")
		v.AddSnapshot("s2")
		v.SetAttachment("a1", AttachReserved)
		v.SetAttachment("a1", AttachAttached)
	}
	if len(v.Snapshots) != 2 || v.Snapshots[1] != "s2" || len(v.Attachments) != 1 || v.Attachments[0].Status != AttachAttached {
		t.Fatalf("after repeated adds: %+v", v)
	}
	before := v.Snapshots
	for range 2 {
		v.RemoveSnapshot("s1")
		v.RemoveAttachment("a1")
	}
	if len(v.Snapshots) != 1 || len(v.Attachments) != 0 {
		t.Fatalf("after repeated removes: %+v", v)
	}
	if before[0] != "s1" {
		t.Error("RemoveSnapshot changed a slice that others may share")
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "A-b_9", strings.Repeat("x", 64)} {
		if err := CheckToken(s); err != nil {
			t.Errorf("CheckToken(%q) = %v", s, err)
		}
	}
	for _, s := range []string{"", "a.b", "*", ">", "a b", "ä", "a/b", strings.Repeat("x", 65)} {
		if err := CheckToken(s); !errors.Is(err, ErrToken) {
			t.Errorf("CheckToken(%q) = %v, want ErrToken", s, err)
		}
	}
	if !IsUUID("6f2b3f4e-9d0c-4b7e-8a65-0123456789ab") || IsUUID("6F2B3F4E-9d0c-4b7e-8a65-0123456789ab") || IsUUID("x") {
		t.Error("IsUUID")
	}
}

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
		want        VolumeStatus
	}{
		{"idle", VolumeAvailable, nil, Holder{}, VolumeAvailable},
		{"new", VolumeCreating, nil, Holder{Kind: VolumeCreate}, VolumeCreating},
		{"error", VolumeError, nil, Holder{}, VolumeError},
		{"extending", VolumeAvailable, nil, Holder{Kind: VolumeExtend}, VolumeExtending},
		{"stuck extend", VolumeAvailable, nil, Holder{Kind: VolumeExtend, Stuck: true}, VolumeErrorExtending},
		{"deleting", VolumeError, nil, Holder{Kind: VolumeDelete}, VolumeDeleting},
		{"stuck delete", VolumeAvailable, nil, Holder{Kind: VolumeDelete, Stuck: true}, VolumeErrorDeleting},
		{"attached wins over reserved", VolumeAvailable, attached, Holder{}, VolumeInUse},
		{"extending wins over attached", VolumeAvailable, attached, Holder{Kind: VolumeExtend}, VolumeExtending},
		{"reserved", VolumeAvailable, attached[1:], Holder{}, VolumeReserved},
		{"attach holds no volume", VolumeAvailable, attached[1:], Holder{Kind: VolumeAttach}, VolumeReserved},
	} {
		v := Volume{Status: c.settled, Attachments: c.attachments}
		if got := v.ShownStatus(c.holder); got != c.want {
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

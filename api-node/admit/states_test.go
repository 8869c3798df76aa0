package admit_test

import (
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
)

// refused is a code and a text, in which V, S, A and O stand for the IDs of volume, snapshot, attachment and the operation in the way.
type refused struct {
	code messages.Code
	text string
}

const (
	cannotDelete = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and " +
		"must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."
	cannotClone    = "Invalid volume: Originating source volume status must be one of 'available, in-use' values"
	cannotRevert   = "Invalid volume: Can't revert volume V to its latest snapshot S. Volume's status must be 'available'."
	cannotSnapshot = "Invalid volume: The snapshot cannot be created when the volume is in error status."
)

func cannotExtend(want, is string) string {
	return "Invalid volume: Volume V status must be '{'status': '" + want + "'}' to extend, currently " + is + "."
}

func cannotAttach(is string) string {
	if strings.Contains(is, "error") {
		return "Invalid volume: Volume attachments can not be created if the volume is in an error state. The Volume V currently has a status of: " + is + " "
	}
	return "Invalid volume: Volume V status must be available or downloading to reserve, but the current status is " + is + "."
}

func mustBe(valid, is string) string {
	return "Invalid volume: Volume V status must be " + valid + ", but current status is: " + is + "."
}

// volumeCase is a volume in a state. All have a snapshot if snap is set.
type volumeCase struct {
	state string
	make  func(*stack) (block.VolumeID, block.SnapshotID)
	// what is asked of it that is refused; everything else is accepted
	want map[string]refused
}

// asks are what can be asked of a volume.
var asks = []struct {
	name string
	make func(v block.VolumeID, n block.SnapshotID) messages.Request
}{
	{"delete", func(v block.VolumeID, _ block.SnapshotID) messages.Request { return &messages.DeleteVolume{Volume: v} }},
	{"extend", func(v block.VolumeID, _ block.SnapshotID) messages.Request {
		return &messages.ExtendVolume{Volume: v, SizeGiB: 5}
	}},
	{"extend-attached", func(v block.VolumeID, _ block.SnapshotID) messages.Request {
		return &messages.ExtendVolume{Volume: v, SizeGiB: 5, AllowAttached: true}
	}},
	{"revert", func(v block.VolumeID, n block.SnapshotID) messages.Request {
		if n == "" {
			return nil
		}
		return &messages.RevertVolume{Volume: v, Snapshot: n}
	}},
	{"attach", func(v block.VolumeID, _ block.SnapshotID) messages.Request {
		return &messages.AttachVolume{Volume: v, Instance: "other"}
	}},
	{"clone", func(v block.VolumeID, _ block.SnapshotID) messages.Request {
		return &messages.CreateVolume{FromVolume: v}
	}},
	{"snapshot", func(v block.VolumeID, _ block.SnapshotID) messages.Request {
		return &messages.CreateSnapshot{Volume: v}
	}},
	{"snapshot-attached", func(v block.VolumeID, _ block.SnapshotID) messages.Request {
		return &messages.CreateSnapshot{Volume: v, AllowAttached: true}
	}},
}

// status is what a volume in a status that is not available is refused.
func status(is, extendAttached string, delete bool) map[string]refused {
	w := map[string]refused{
		"extend":            {messages.CodeInvalidVolume, cannotExtend("available", is)},
		"extend-attached":   {messages.CodeInvalidVolume, cannotExtend(extendAttached, is)},
		"revert":            {messages.CodeConflict, cannotRevert},
		"attach":            {messages.CodeInvalidVolume, cannotAttach(is)},
		"clone":             {messages.CodeInvalidVolume, cannotClone},
		"snapshot":          {messages.CodeInvalidVolume, mustBe("available", is)},
		"snapshot-attached": {messages.CodeInvalidVolume, mustBe("available, in-use", is)},
	}
	if !delete {
		w["delete"] = refused{messages.CodeInvalidVolume, cannotDelete}
	}
	if is == "error" {
		w["snapshot"] = refused{messages.CodeInvalidVolume, cannotSnapshot}
		w["snapshot-attached"] = w["snapshot"]
	}
	return w
}

func without(w map[string]refused, names ...string) map[string]refused {
	for _, n := range names {
		delete(w, n)
	}
	return w
}

func read(how string) map[string]refused {
	r := refused{messages.CodeInvalidVolume, "Invalid volume: Volume V is being read by " + how + ", operation O, for …"}
	return map[string]refused{"delete": r, "extend": r, "extend-attached": r, "revert": r}
}

var volumeCases = []volumeCase{
	{"available", func(s *stack) (block.VolumeID, block.SnapshotID) { return s.newVolume(), "" }, nil},
	{"with a snapshot", func(s *stack) (block.VolumeID, block.SnapshotID) { v := s.newVolume(); return v, s.newSnapshot(v) },
		map[string]refused{"delete": {messages.CodeInvalidVolume, cannotDelete}}},
	{"creating", func(s *stack) (block.VolumeID, block.SnapshotID) {
		return block.VolumeID(s.submit(&messages.CreateVolume{SizeGiB: 1}).Resource), ""
	}, status("creating", "available", false)},
	{"error", func(s *stack) (block.VolumeID, block.SnapshotID) {
		return block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: 1}, admittest.Fail).Resource), ""
	}, status("error", "available", true)},
	{"extending", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		s.submit(&messages.ExtendVolume{Volume: v, SizeGiB: 2})
		return v, ""
	}, status("extending", "available", false)},
	{"stuck extending", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		s.run(&messages.ExtendVolume{Volume: v, SizeGiB: 2}, admittest.Stick)
		return v, ""
	}, func() map[string]refused { // shown as error_extending, and held
		w := status("error_extending", "available", true)
		w["delete"] = refused{messages.CodeInvalidVolume, "Invalid volume: Volume V is held by volume.extend, operation O, step finish, for …"}
		return w
	}()},
	{"reverting", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		n := s.newSnapshot(v)
		s.submit(&messages.RevertVolume{Volume: v, Snapshot: n})
		return v, n
	}, status("reverting", "available", false)},
	{"deleting", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		s.submit(&messages.DeleteVolume{Volume: v})
		return v, ""
	}, status("deleting", "available", false)},
	{"error_deleting", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		s.run(&messages.DeleteVolume{Volume: v}, admittest.Stick)
		return v, ""
	}, status("error_deleting", "available", false)},
	{"reserved", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		must(first(s.admit.Reserve(s.t.Context(), alice, v, "", "vm", false)))
		return v, ""
	}, status("reserved", "available", false)},
	{"attaching", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		s.newAttachment(v)
		return v, ""
	}, status("attaching", "available", false)},
	{"in-use", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		must(s.admit.CompleteAttachment(s.t.Context(), alice, s.newAttachment(v)))
		return v, ""
	}, without(status("in-use", "in-use", false), "extend-attached", "clone", "snapshot-attached")},
	{"being attached", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		s.submit(&messages.AttachVolume{Volume: v})
		return v, ""
	}, status("attaching", "available", false)},
	{"being detached", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		a := s.newAttachment(v)
		must(s.admit.CompleteAttachment(s.t.Context(), alice, a))
		s.submit(&messages.DetachVolume{Attachment: a})
		return v, ""
	}, status("detaching", "available", false)},
	{"being cloned", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		s.submit(&messages.CreateVolume{FromVolume: v})
		return v, ""
	}, read("volume.create")},
	{"being snapshotted", func(s *stack) (block.VolumeID, block.SnapshotID) {
		v := s.newVolume()
		return v, block.SnapshotID(s.submit(&messages.CreateSnapshot{Volume: v}).Resource)
	}, func() map[string]refused {
		w := read("snapshot.create")
		w["delete"] = refused{messages.CodeInvalidVolume, cannotDelete} // it has a snapshot already
		w["revert"] = refused{messages.CodeConflict, "Invalid snapshot: Can't revert volume V to its latest snapshot S. Snapshot's status must be 'available'."}
		return w
	}()},
}

func first[A, B any](a A, _ B, err error) (A, error) { return a, err }

func TestEveryRequestInEveryStateOfAVolume(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	for _, c := range volumeCases {
		v, n := c.make(s) // what is refused changes nothing, so all of it can be asked of one volume
		for _, ask := range asks {
			req := ask.make(v, n)
			if req == nil {
				continue
			}
			want, isRefused := c.want[ask.name]
			if !isRefused {
				continue
			}
			before := s.bucket()
			_, err := s.submitAs(alice, "", req)
			checkRefused(t, c.state+", "+ask.name, err, want, v, n)
			if holder := messages.AsError(err).Holder; strings.HasSuffix(c.state, "tached") && holder == nil {
				t.Errorf("%s, %s: refused with %v, without the operation in the way", c.state, ask.name, err)
			}
			if after := s.bucket(); after != before {
				t.Errorf("%s, %s: refused, and the bucket changed:\n%s\nto\n%s", c.state, ask.name, before, after)
			}
		}
		for _, ask := range asks {
			if _, isRefused := c.want[ask.name]; isRefused {
				continue
			}
			v, n := c.make(s)
			if req := ask.make(v, n); req != nil {
				if _, err := s.submitAs(alice, "", req); err != nil {
					t.Errorf("%s, %s: refused: %v", c.state, ask.name, err)
				}
			}
		}
	}
	s.sound()
}

func checkRefused(t *testing.T, what string, err error, want refused, v block.VolumeID, n block.SnapshotID) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: accepted, want %s: %s", what, want.code, want.text)
		return
	}
	e := messages.AsError(err)
	text := strings.NewReplacer("Volume V", "Volume "+string(v), "volume V", "volume "+string(v), "snapshot S", "snapshot "+string(n), "Snapshot S", "Snapshot "+string(n)).Replace(want.text)
	if e.Holder != nil {
		text = strings.ReplaceAll(text, "operation O", "operation "+string(e.Holder.Operation))
	}
	prefix, begins := strings.CutSuffix(text, "…")
	if e.Code != want.code || !begins && e.Message != text || !strings.HasPrefix(e.Message, prefix) {
		t.Errorf("%s:\n got %s: %q\nwant %s: %q", what, e.Code, e.Message, want.code, text)
	}
}

func TestEveryRequestInEveryStateOfASnapshot(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	source := s.newVolume()
	const (
		cannotDelete = "Invalid snapshot: Snapshot status must be available or error and must not be part of a group."
		cannotCreate = "Invalid snapshot: Originating snapshot status must be one of 'available' values"
	)
	none := refused{}
	for _, c := range []struct {
		state          string
		make           func() block.SnapshotID
		delete, create refused
	}{
		{"available", func() block.SnapshotID { return s.newSnapshot(source) }, none, none},
		{"creating", func() block.SnapshotID {
			return block.SnapshotID(s.submit(&messages.CreateSnapshot{Volume: source}).Resource)
		}, refused{messages.CodeInvalidSnapshot, cannotDelete}, refused{messages.CodeInvalidSnapshot, cannotCreate}},
		{"error", func() block.SnapshotID {
			return block.SnapshotID(s.run(&messages.CreateSnapshot{Volume: source}, admittest.Fail).Resource)
		}, none, refused{messages.CodeInvalidSnapshot, cannotCreate}},
		{"deleting", func() block.SnapshotID {
			n := s.newSnapshot(source)
			s.submit(&messages.DeleteSnapshot{Snapshot: n})
			return n
		}, refused{messages.CodeInvalidSnapshot, cannotDelete}, refused{messages.CodeInvalidSnapshot, cannotCreate}},
		{"error_deleting", func() block.SnapshotID {
			n := s.newSnapshot(source)
			s.run(&messages.DeleteSnapshot{Snapshot: n}, admittest.Stick)
			return n
		}, refused{messages.CodeInvalidSnapshot, cannotDelete}, refused{messages.CodeInvalidSnapshot, cannotCreate}},
		{"restoring", func() block.SnapshotID {
			v := s.newVolume()
			n := s.newSnapshot(v)
			s.submit(&messages.RevertVolume{Volume: v, Snapshot: n})
			return n
		}, refused{messages.CodeInvalidSnapshot, cannotDelete}, refused{messages.CodeInvalidSnapshot, cannotCreate}},
		{"being read", func() block.SnapshotID {
			n := s.newSnapshot(source)
			s.submit(&messages.CreateVolume{FromSnapshot: n})
			return n
		}, refused{messages.CodeInvalidSnapshot, "Invalid snapshot: Snapshot S is being read by volume.create, operation O, for …"}, none},
	} {
		for _, ask := range []struct {
			name string
			want refused
			req  func(block.SnapshotID) messages.Request
		}{
			{"delete", c.delete, func(n block.SnapshotID) messages.Request { return &messages.DeleteSnapshot{Snapshot: n} }},
			{"create from it", c.create, func(n block.SnapshotID) messages.Request { return &messages.CreateVolume{FromSnapshot: n} }},
		} {
			n := c.make()
			before := s.bucket()
			_, err := s.submitAs(alice, "", ask.req(n))
			if ask.want == none {
				if err != nil {
					t.Errorf("%s, %s: refused: %v", c.state, ask.name, err)
				}
				continue
			}
			checkRefused(t, c.state+", "+ask.name, err, ask.want, "", n)
			if after := s.bucket(); after != before {
				t.Errorf("%s, %s: refused, and the bucket changed", c.state, ask.name)
			}
		}
	}
	s.sound()
}

// Requests that are wrong whatever the state.
func TestRefusalsInCindersWords(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	s.register(records.Backend{Name: "b2", Kind: "file", Zone: "east", KeepsData: true}, 10)
	v := s.newVolume()
	big := block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: 4}, admittest.Succeed).Resource)
	snap := s.newSnapshot(big)
	older := s.newSnapshot(v)
	s.newSnapshot(v)
	east := block.VolumeID(s.run(&messages.CreateVolume{SizeGiB: 1, Zone: "east"}, admittest.Succeed).Resource)
	must(first(s.admit.Reserve(t.Context(), alice, east, "", "vm", false)))
	grown := s.newVolume()
	latest := s.newSnapshot(grown)
	s.run(&messages.ExtendVolume{Volume: grown, SizeGiB: 2}, admittest.Succeed)
	const no = "6f2b3f4e-9d0c-4b7e-8a65-0123456789ab"
	bob := alice
	bob.Project = "p2"
	for _, c := range []struct {
		name string
		req  messages.Request
		code messages.Code
		text string
	}{
		{"no source snapshot", &messages.CreateVolume{FromSnapshot: no}, messages.CodeNotFound, "Snapshot " + no + " could not be found."},
		{"no source volume", &messages.CreateVolume{FromVolume: no}, messages.CodeNotFound, "Volume " + no + " could not be found."},
		{"no volume to delete", &messages.DeleteVolume{Volume: no}, messages.CodeNotFound, "Volume " + no + " could not be found."},
		{"no volume to extend", &messages.ExtendVolume{Volume: no, SizeGiB: 2}, messages.CodeNotFound, "Volume " + no + " could not be found."},
		{"no volume to attach", &messages.AttachVolume{Volume: no}, messages.CodeNotFound, "Volume " + no + " could not be found."},
		{"no attachment", &messages.DetachVolume{Attachment: no}, messages.CodeNotFound, "Volume attachment could not be found with filter: attachment_id = " + no + "."},
		{"no snapshot to delete", &messages.DeleteSnapshot{Snapshot: no}, messages.CodeNotFound, "Snapshot " + no + " could not be found."},
		{"no volume to snapshot", &messages.CreateSnapshot{Volume: no}, messages.CodeNotFound, "Volume " + no + " could not be found."},
		{"no type", &messages.CreateVolume{SizeGiB: 1, Type: "gold"}, messages.CodeNotFound, "Volume type with name gold could not be found."},
		{"no zone", &messages.CreateVolume{SizeGiB: 1, Zone: "mars"}, messages.CodeInvalid, "Availability zone 'mars' is invalid."},
		{"other zone than the snapshot", &messages.CreateVolume{FromSnapshot: snap, Zone: "east"}, messages.CodeInvalid,
			"Invalid input received: Volume must be in the same availability zone as the snapshot"},
		{"smaller than the snapshot", &messages.CreateVolume{FromSnapshot: snap, SizeGiB: 1}, messages.CodeInvalid,
			"Invalid input received: Volume size '1'GB cannot be smaller than the snapshot size 4GB. They must be >= original snapshot size."},
		{"smaller than the source", &messages.CreateVolume{FromVolume: big, SizeGiB: 1}, messages.CodeInvalid,
			"Invalid input received: Volume size '1'GB cannot be smaller than original volume size  4GB. They must be >= original volume size."},
		{"not larger", &messages.ExtendVolume{Volume: big, SizeGiB: 4}, messages.CodeInvalid,
			"Invalid input received: New size for extend must be greater than current size. (current: 4, extended: 4)."},
		{"no snapshots", &messages.RevertVolume{Volume: east, Snapshot: no}, messages.CodeInvalid, "Volume " + string(east) + " doesn't have any snapshots."},
		{"not the latest", &messages.RevertVolume{Volume: v, Snapshot: older}, messages.CodeInvalid,
			"Specified snapshot " + string(older) + " is None or not the latest one of volume " + string(v) + "."},
		{"revert of another size", &messages.RevertVolume{Volume: grown, Snapshot: latest}, messages.CodeInvalid,
			"Can't revert volume " + string(grown) + " to its latest snapshot " + string(latest) + ". The volume size must be equal to the snapshot size."},
		{"no room", &messages.CreateVolume{SizeGiB: 11, Zone: "east"}, messages.CodeNoBackend,
			"No valid backend was found. b1 is in zone nova, not in east; b2 has no room for 11 GiB: 1 GiB of at most 1.0 × 10.0 GiB are allocated, 10.0 GiB are free."},
		{"a taken volume ID", &messages.CreateVolume{Volume: v, SizeGiB: 1}, messages.CodeConflict, "Volume " + string(v) + " exists already"},
		{"a taken snapshot ID", &messages.CreateSnapshot{Volume: v, Snapshot: older}, messages.CodeConflict, "Snapshot " + string(older) + " exists already"},
		{"not a UUID", &messages.DeleteVolume{Volume: "../x"}, messages.CodeInvalid, "Invalid input for field/attribute volume: …"},
		{"no size", &messages.CreateVolume{}, messages.CodeInvalid, "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1"},
		{"nothing", nil, messages.CodeInvalid, "the request is missing"},
	} {
		before := s.bucket()
		_, err := s.submitAs(alice, "", c.req)
		t.Run(c.name, func(t *testing.T) { wantRefused(t, err, c.code, c.text) })
		if s.bucket() != before {
			t.Errorf("%s: refused, and the bucket changed", c.name)
		}
	}
	for name, req := range map[string]messages.Request{
		"delete": &messages.DeleteVolume{Volume: east}, "attach": &messages.AttachVolume{Volume: east}, "clone": &messages.CreateVolume{FromVolume: east},
	} {
		_, err := s.submitAs(bob, "", req)
		t.Run("of another project, "+name, func(t *testing.T) {
			wantRefused(t, err, messages.CodeNotFound, "Volume "+string(east)+" could not be found.")
		})
	}
	t.Run("on_conflict", func(t *testing.T) {
		for _, wrong := range []string{"wait", "queue;", "queue;deadline", "queue;deadline=0", "queue;deadline=-1", "queue;deadline=x", "queue;deadline=1e99", "refuse;deadline=1"} {
			_, err := s.admit.Submit(t.Context(), submission(wrong))
			wantRefused(t, err, messages.CodeInvalid, "Invalid input for field/attribute on_conflict: …")
		}
	})
}

func submission(onConflict string) admit.Submission {
	return admit.Submission{Caller: alice, OnConflict: onConflict, Request: &messages.CreateVolume{SizeGiB: 1}}
}

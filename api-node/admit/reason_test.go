package admit_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/admit/admittest"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// The longest reason fits into the record, whoever gives it; one that is longer is refused with the limit.
func TestTheLongestReasonFitsWhoeverGivesIt(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	a := s.breaking(func(string, block.OperationID) error { return nil })
	stuck := func() (block.VolumeID, block.OperationID) {
		v := s.newVolume()
		return v, s.run(&messages.DeleteVolume{Volume: v}, admittest.Stick).Operation
	}
	for user, shown := range map[string]string{
		"":                                    ": ",
		strings.Repeat("u", messages.MaxText): strings.Repeat("u", messages.MaxText) + ": ",
		strings.Repeat("ä", messages.MaxText): strings.Repeat("ä", 126) + "…: ",
		strings.Repeat("𝄞", messages.MaxText): strings.Repeat("𝄞", 63) + "…: ",
		strings.Repeat("\x80", 300):           "…: ",
	} {
		c := alice
		c.User = user
		reason := strings.Repeat("€", admit.MaxReason/3)
		tooLong := reason + "€"
		audited := func(id block.OperationID, action string) {
			t.Helper()
			audit := s.mustRecord(id).Audit
			if last := audit[len(audit)-1]; last.Action != action || last.Reason != shown+reason || !utf8.ValidString(last.Reason) {
				t.Errorf("audit %q %q, want %s %q", last.Action, last.Reason, action, shown+reason)
			}
		}
		v, id := stuck()
		b := brk(v)
		b.Reason = tooLong
		refusedReason := "Invalid input for field/attribute reason: it has 753 bytes, at most 750 are allowed"
		_, err := a.Break(t.Context(), c, b)
		wantRefused(t, err, messages.CodeInvalid, refusedReason)
		wantRefused(t, a.Resume(t.Context(), c, id, tooLong), messages.CodeInvalid, refusedReason)
		wantRefused(t, a.Abandon(t.Context(), c, id, tooLong), messages.CodeInvalid, refusedReason)
		wantRefused(t, a.Cancel(t.Context(), c, id, tooLong), messages.CodeInvalid, refusedReason)

		if err := a.Resume(t.Context(), c, id, reason); err != nil {
			t.Fatalf("resume by %.10s…: %v", user, err)
		}
		audited(id, "resume")
		s.end(id, admittest.Stick)
		b.Reason = reason
		if _, err := a.Break(t.Context(), c, b); err != nil {
			t.Fatalf("break by %.10s…: %v", user, err)
		}
		audited(id, "break")
		if _, id = stuck(); a.Abandon(t.Context(), c, id, reason) != nil {
			t.Fatalf("abandon by %.10s… was refused", user)
		}
		audited(id, "break")
		running := s.submit(&messages.CreateVolume{SizeGiB: 1}).Operation
		if err := a.Cancel(t.Context(), c, running, reason); err != nil || s.mustRecord(running).Cancel.By != shown+reason {
			t.Fatalf("cancel of one that runs by %.10s…: %v", user, err)
		}
		v = s.newVolume()
		s.submit(&messages.ExtendVolume{Volume: v, SizeGiB: 2})
		id = s.mustQueue(&messages.DeleteVolume{Volume: v}, kvlock.Queued).Operation
		shown = "canceled by " + shown
		if err := a.Cancel(t.Context(), c, id, reason); err != nil {
			t.Fatalf("cancel of one that waits by %.10s…: %v", user, err)
		}
		audited(id, "leave")
	}
	s.sound()
}

// Who goes on with a break, or abandons what is void already, is in the log: the record names who made it void.
func TestWhoGivesUpAVoidOperationAgainIsLogged(t *testing.T) {
	t.Parallel()
	s := newStack(t, roomy)
	var log strings.Builder
	a := admit.New(s.store, s.locks, s.view, admit.Defaults{}, slog.New(slog.NewTextHandler(&log, nil)), admit.WithFences(&backends{
		func(string, block.OperationID) error { return errors.New("node n1 does not answer") }}))
	v := s.available(1)
	id := s.run(&messages.ExtendVolume{Volume: v, SizeGiB: 2}, admittest.Stick).Operation
	bob := alice
	bob.User = "bob"
	logged := func(verb string) bool {
		return strings.Contains(log.String(), `msg="void operation `+verb+` again" operation=`+string(id)+` reason="the array burnt down" user=bob`)
	}
	for again := range 2 {
		if _, err := a.Break(t.Context(), bob, brk(v)); err == nil {
			t.Fatal("the break ended without a fence")
		}
		if want := again > 0; logged("broken") != want {
			t.Errorf("after %d breaks: log %s", again+1, log.String())
		}
	}
	if err := a.Abandon(t.Context(), bob, id, "the array burnt down"); err != nil || !logged("abandoned") {
		t.Errorf("abandon: %v, log %s", err, log.String())
	}
	s.sound()
}

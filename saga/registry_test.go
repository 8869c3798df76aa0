package saga_test

import (
	"strings"
	"testing"

	"github.com/scoria-storage/scoria/saga"
)

func TestWrongDefinitionsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	with := func(change func(*saga.Step[state])) saga.Definition[state] {
		s := b.step("a")
		change(&s)
		return define(s)
	}
	undoPast := b.step("b")
	for _, c := range []struct {
		def  saga.Definition[state]
		want string
	}{
		{saga.Definition[state]{Version: 1, Steps: []saga.Step[state]{b.step("a")}}, "name"},
		{saga.Definition[state]{Name: "a b", Version: 1, Steps: []saga.Step[state]{b.step("a")}}, "name"},
		{saga.Definition[state]{Name: "x", Steps: []saga.Step[state]{b.step("a")}}, "versions count from 1"},
		{define(), "no steps"},
		{define(b.step("a"), b.step("a")), "two steps"},
		{define(b.step("")), "name"},
		{with(func(s *saga.Step[state]) { s.Do = nil }), "no Do"},
		{with(func(s *saga.Step[state]) { s.Undo = nil }), "saga.Nothing"},
		{with(func(s *saga.Step[state]) { s.Timeout = -1 }), "Timeout"},
		{with(func(s *saga.Step[state]) { s.Retry.Max = -2 }), "Retry.Max"},
		{with(func(s *saga.Step[state]) { s.UndoRetry.Min = -2 }), "negative"},
		{with(func(s *saga.Step[state]) { s.Retry = saga.Retry{Min: 2, Ceiling: 1} }), "Ceiling"},
		{define(b.pivot("a"), b.pivot("b")), "second pivot"},
		{define(b.pivot("a"), undoPast), "never run"},
	} {
		err := saga.Register(&saga.Registry{}, c.def)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Register = %v, want words with %q", err, c.want)
		}
	}
	var reg saga.Registry
	if err := saga.Register(&reg, define(b.step("a"))); err != nil {
		t.Fatal(err)
	}
	if err := saga.Register(&reg, define(b.step("a"))); err == nil {
		t.Error("a second Register of one name and version = nil")
	}
	if got := reg.Latest("test"); got != 1 || reg.Latest("x") != 0 {
		t.Errorf("Latest = %d and %d, want 1 and 0", got, reg.Latest("x"))
	}
}

func TestRunRefusesAnInputOfAnotherType(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	saga.MustRegister(&b.reg, define(b.step("a")))
	if err := b.journal.Begin(t.Context(), "op-1", saga.Entry{Phase: saga.Pending}); err != nil {
		t.Fatal(err)
	}
	log, err := b.journal.TakeOver(t.Context(), "op-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, input := range []any{nil, 7, (*state)(nil), "x"} {
		if _, err := b.executor().Run(t.Context(), log, "test", 1, input); err == nil || !strings.Contains(err.Error(), "saga_test.state") {
			t.Errorf("Run with a %T = %v, want words that name both types", input, err)
		}
	}
	if st, err := b.executor().Run(t.Context(), log, "test", 1, &state{}); err != nil || st.Phase != saga.Done {
		t.Errorf("Run with a *state = %s, %v; want done", st.Phase, err)
	}
}

package kvlock

import "testing"

// The whole table, written out a second time in the words of the design.
func TestPhaseMoves(t *testing.T) {
	t.Parallel()
	legal := map[string]bool{
		"queued>granted": true, "queued>void": true,
		"granted>running": true, "granted>void": true,
		"running>running": true, "running>undoing": true, "running>done": true, "running>undone": true,
		"running>stuck": true, "running>void": true,
		"undoing>undoing": true, "undoing>undone": true, "undoing>stuck": true, "undoing>void": true,
		"stuck>running": true, "stuck>undoing": true, "stuck>void": true,
		"void>void": true,
	}
	for from := Phase(0); from <= Void+1; from++ {
		for to := Phase(0); to <= Void+1; to++ {
			if got, want := from.May(to), legal[from.String()+">"+to.String()]; got != want {
				t.Errorf("%s may become %s: %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestPhaseNamesCanBeRead(t *testing.T) {
	t.Parallel()
	for p := Queued; p <= Void; p++ {
		if got, ok := parsePhase(p.String()); !ok || got != p {
			t.Errorf("parsePhase(%q) = %v, %v", p, got, ok)
		}
	}
	for _, name := range []string{"", "phase(0)", "Running"} {
		if p, ok := parsePhase(name); ok {
			t.Errorf("parsePhase(%q) = %v, want none", name, p)
		}
	}
}

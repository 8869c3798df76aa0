package integration

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// A bench that a signal ends prints what it measured before, and says no more than that it was interrupted.
func TestAnInterruptedBenchPrintsWhatItMeasured(t *testing.T) {
	t.Parallel()
	for args, next := range map[string]string{
		"bench api --length 200ms --dir " + t.TempDir():                   "… create-accept at 1 clients",
		"bench locks --case own-keys --length 500ms --dir " + t.TempDir(): "… own-keys at 64 workers",
	} {
		t.Run(strings.Fields(args)[1], func(t *testing.T) {
			t.Parallel()
			p := harness.StartEnv(t, nil, strings.Fields(args)...)
			harness.Eventually(t, time.Minute, "it measures "+next, func() bool { return strings.Contains(p.Log(), next) })
			p.Signal(t, syscall.SIGINT)
			select {
			case <-p.Ended():
			case <-time.After(time.Minute):
				t.Fatal("it does not end")
			}
			_, said, _ := strings.Cut(p.Log(), next+"\n")
			if p.Status() != 130 || said != "scoria: interrupted\n" || !strings.Contains(p.Output(), "floor ops/s") {
				t.Errorf("status %d, said %q, printed %s", p.Status(), p.Log(), p.Output())
			}
		})
	}
}

package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// lock is one key with who holds it and who waits for it.
type lock struct {
	Key     string       `json:"key"`
	Mode    string       `json:"mode"`
	Holders []lockHolder `json:"holders"`
	Waiting []struct {
		Operation string    `json:"operation"`
		Kind      string    `json:"kind,omitempty"`
		Mode      string    `json:"mode"`
		Since     time.Time `json:"since"`
	} `json:"waiting"`
}

type lockHolder struct {
	Operation  string    `json:"operation"`
	Kind       string    `json:"kind"`
	Mode       string    `json:"mode"`
	Project    string    `json:"project"`
	Resource   string    `json:"resource"`
	Phase      string    `json:"phase"`
	Step       string    `json:"step"`
	Attempt    int       `json:"attempt"`
	Epoch      uint64    `json:"epoch"`
	TakenOver  uint64    `json:"taken_over"`
	Worker     string    `json:"worker"`
	Since      time.Time `json:"since"`
	StepWaits  string    `json:"step_waits"`
	Error      string    `json:"error"`
	ReleasedBy string    `json:"released_by"`
}

func lockCommand() *cobra.Command {
	return group("lock", "Show who holds which lock and what will release it, and break one", lockList(), lockExplain(), lockBreak())
}

func lockList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List all locks that are held, and who waits for them", Args: cobra.NoArgs}
	limit := limitFlag(cmd)
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		locks, err := s.locks(ctx, ownAPI("locks")) // the API has no pages of them
		if err != nil {
			return err
		}
		if *limit > 0 {
			locks = locks[:min(*limit, len(locks))]
		}
		if s.asJSON {
			return s.json(locks)
		}
		var rows [][]string
		for _, l := range locks {
			for _, h := range l.Holders {
				rows = append(rows, []string{l.Key, h.Mode, h.Operation, h.Kind, h.Phase, orDash(h.Step), age(h.Since)})
			}
			for i, w := range l.Waiting {
				rows = append(rows, []string{l.Key, fmt.Sprintf("waits %s (%d)", w.Mode, i+1), w.Operation, orDash(w.Kind), "queued", "-", age(w.Since)})
			}
		}
		return s.table([]string{"KEY", "MODE", "OPERATION", "KIND", "PHASE", "STEP", "FOR"}, rows)
	})
}

func (s *session) locks(ctx context.Context, path string) ([]lock, error) {
	var out struct{ Locks []lock }
	_, err := s.call(ctx, http.MethodGet, path, nil, &out)
	return out.Locks, err
}

func lockExplain() *cobra.Command {
	cmd := lockKey.one(&cobra.Command{
		Use: "explain KEY|VOLUME", Short: "Say who holds a key, since when, at which step, how often it was tried, and what will release it",
		Example: "  scoria lock explain volume.6f2b3f4e-9d0c-4b7e-8a65-0123456789ab\n  scoria lock explain 6f2b3f4e-9d0c-4b7e-8a65-0123456789ab",
	})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		locks, err := s.locks(ctx, ownAPI("locks", args[0]))
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(locks)
		}
		free := true
		for _, l := range locks {
			for _, h := range l.Holders {
				free = false
				explain(s, l.Key, h)
			}
			for _, w := range l.Waiting {
				free = false
				writeLine(s.out, "%s: operation %s waits for it %s, for %s", l.Key, w.Operation, w.Mode, age(w.Since))
			}
		}
		if free {
			writeLine(s.out, "%s: nobody holds it", args[0])
		}
		return nil
	})
}

func explain(s *session, key string, h lockHolder) {
	writeLine(s.out, "%s is held %s, for %s", key, h.Mode, age(h.Since))
	writeLine(s.out, "  by        operation %s (%s of %s, project %s)", h.Operation, h.Kind, h.Resource, h.Project)
	writeLine(s.out, "  which is  %s at step %s, attempt %s; at worker %s, taken over %s", h.Phase, orDash(h.Step), attempt(h.Attempt), orDash(h.Worker), fromOthers(h.TakenOver))
	if h.StepWaits != "" {
		writeLine(s.out, "  and       %s", h.StepWaits)
	}
	if h.Error != "" {
		writeLine(s.out, "  because   %s", h.Error)
	}
	writeLine(s.out, "  released  %s", h.ReleasedBy)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

func operationCommand() *cobra.Command {
	return group("operation", "Show operations, follow them, help those that are stuck", operationList(), operationShow(), operationWatch(), operationCancel(),
		operationResume(), operationAbandon())
}

// listed says which operations a list has: the records of all that ended stay for a time, and the last of them in the memory of an API node.
var listed = fmt.Sprintf("those that have not ended, and the last %d that ended within %s", view.DefaultEnded, short(kvlock.DefaultRetention))

func operationList() *cobra.Command {
	var kind, phase string
	cmd := &cobra.Command{Use: "list", Short: "List operations, newest first: " + listed, Args: cobra.NoArgs}
	wordFlag(cmd, &kind, "kind", kinds(), "only this kind: ")
	wordFlag(cmd, &phase, "phase", messages.Phases(), "only this phase: ")
	limit := limitFlag(cmd)
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		query := url.Values{"project": {s.project}}
		setQuery(query, "kind", kind)
		setQuery(query, "phase", phase)
		operations, err := listAll(ctx, s, ownAPI("operations"), query, "operations", *limit, func(op messages.Operation) string { return string(op.ID) })
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(operations)
		}
		rows := make([][]string, 0, len(operations))
		for _, op := range operations {
			rows = append(rows, []string{string(op.ID), string(op.Kind), op.Phase, orDash(op.Step), op.Resource, age(op.Submitted), orDash(op.Error)})
		}
		return s.table([]string{"ID", "KIND", "PHASE", "STEP", "RESOURCE", "AGE", "ERROR"}, rows)
	})
}

// kinds are the kinds of operations, as the flag takes them.
func kinds() []string {
	var words []string
	for _, k := range block.Kinds() {
		words = append(words, string(k))
	}
	return words
}

func setQuery(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func operationShow() *cobra.Command {
	cmd := operationID.one(&cobra.Command{Use: "show OPERATION", Short: "Show an operation"})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		var out struct{ Operation operationDetails }
		if _, err := s.call(ctx, http.MethodGet, ownAPI("operations", args[0]), nil, &out); err != nil {
			return err
		}
		if out.Operation.ID == "" {
			return s.noSuchAnswer("operation")
		}
		return s.showOperation(out.Operation)
	})
}

// operationDetails are what `show` has beside what all see.
type operationDetails struct {
	messages.Operation
	Cancel *struct {
		By string    `json:"by"`
		At time.Time `json:"at"`
	} `json:"cancel,omitempty"`
	// Audit is what operators did to it against its course, oldest first.
	Audit []struct {
		Action string    `json:"action"`
		Reason string    `json:"reason"`
		At     time.Time `json:"at"`
		Phase  string    `json:"phase"`
		Worker string    `json:"worker,omitempty"`
	} `json:"audit,omitempty"`
}

func (s *session) showOperation(op operationDetails) error {
	if s.asJSON {
		return s.json(op)
	}
	rows := [][]string{
		{"id", string(op.ID)}, {"kind", string(op.Kind)}, {"phase", op.Phase}, {"resource", op.Resource}, {"project", op.Project}, {"user", orDash(op.User)},
		{"step", orDash(op.Step)}, {"steps done", stepsDone(op.Operation)}, {"attempt", attempt(op.Attempt)},
		{"worker", orDash(op.Worker)}, {"taken over", fromOthers(op.TakenOver)}, {"submitted", ago(op.Submitted)}, {"ended", ago(op.EndedAt)}, {"error", orDash(op.Error)},
	}
	if op.StepWaits != "" {
		rows = append(rows, []string{"the step", op.StepWaits})
	}
	if w := op.Waits; w != nil {
		rows = append(rows, []string{"place in line", fmt.Sprint(w.Place)})
		if !w.Deadline.IsZero() {
			rows = append(rows, []string{"waits until", w.Deadline.Local().Format(time.DateTime)})
		}
		for _, h := range w.For {
			rows = append(rows, []string{"waits for", fmt.Sprintf("%s, operation %s, %s, for %s", h.Kind, h.Operation, h.Mode, age(h.Since))})
		}
	}
	if op.Cancel != nil {
		rows = append(rows, []string{"cancel", fmt.Sprintf("wished %s: %s", ago(op.Cancel.At), op.Cancel.By)})
	}
	for _, a := range op.Audit {
		at := a.Phase
		if a.Worker != "" {
			at += " at worker " + a.Worker
		}
		rows = append(rows, []string{"audit", fmt.Sprintf("%s while %s, %s: %s", a.Action, at, ago(a.At), a.Reason)})
	}
	for _, c := range op.Claims {
		rows = append(rows, []string{"claim", c.Mode + " " + c.Key})
	}
	return s.fields(rows)
}

// attempt is the number of the try of a step; there is none before a worker has begun, nor after the end.
func attempt(number int) string {
	if number == 0 {
		return "-"
	}
	return strconv.Itoa(number)
}

func stepsDone(op messages.Operation) string {
	if op.Total == 0 { // nobody has begun
		return "-"
	}
	return fmt.Sprintf("%d of %d", op.Done, op.Total)
}

func operationWatch() *cobra.Command {
	cmd := operationID.one(&cobra.Command{Use: "watch OPERATION", Short: "Follow an operation until it has ended"})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		var failed error
		op, err := s.follow(ctx, args[0], func(op messages.Operation) bool {
			if s.asJSON {
				failed = errors.Join(failed, s.json(op))
			} else {
				writeLine(s.out, "%s", line(op))
			}
			return true
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		return outcome(op)
	})
}

func operationCancel() *cobra.Command {
	cmd := liveID.one(&cobra.Command{Use: "cancel OPERATION", Short: "Ask a running operation to undo what it did; one past its point of no return goes on"})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		return s.operate(ctx, args[0], "cancel", map[string]any{})
	})
}

func operationResume() *cobra.Command {
	cmd := stuckID.one(&cobra.Command{Use: "resume OPERATION", Short: "Let a stuck operation go on from the step that failed"})
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		return s.operate(ctx, args[0], "resume", map[string]any{})
	})
}

func operationAbandon() *cobra.Command {
	var reason string
	cmd := stuckID.one(&cobra.Command{
		Use:   "abandon OPERATION --reason TEXT",
		Short: "End a stuck operation as it is and give its locks back; what it made half may be left",
	})
	cmd.Flags().StringVar(&reason, flagReason, "", reasonUsage)
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		if reason == "" {
			return missing(flagReason, reasonWanted)
		}
		return s.operate(ctx, args[0], "abandon", map[string]any{"reason": reason})
	})
}

// operate sends what an operator asks of an operation.
func (s *session) operate(ctx context.Context, id, verb string, in map[string]any) error {
	var out struct{ Operation operationDetails }
	_, err := s.call(ctx, http.MethodPost, ownAPI("operations", id, verb), in, &out)
	if err == nil && s.asJSON {
		err = s.json(out.Operation)
	}
	return err
}

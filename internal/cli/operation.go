package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/messages"
)

func operationCommand() *cobra.Command {
	return group("operation", "Show operations, follow them, help those that are stuck", operationList(), operationShow(), operationWatch(), operationCancel(),
		operationResume(), operationAbandon())
}

func operationList() *cobra.Command {
	var kind, phase string
	cmd := &cobra.Command{Use: "list", Short: "List operations, newest first; ended ones are kept for a day", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&kind, "kind", "", "only this kind, such as volume.create")
	cmd.Flags().StringVar(&phase, "phase", "", "only this phase: granted, running, undoing, done, undone, stuck, void")
	return withClient(cmd, func(ctx context.Context, s *session, _ []string) error {
		query := url.Values{"project": {s.project}}
		setQuery(query, "kind", kind)
		setQuery(query, "phase", phase)
		var out struct{ Operations []messages.Operation }
		if _, err := s.call(ctx, http.MethodGet, "/scoria/v1/operations?"+query.Encode(), nil, &out); err != nil {
			return err
		}
		if s.asJSON {
			return s.json(out.Operations)
		}
		rows := make([][]string, 0, len(out.Operations))
		for _, op := range out.Operations {
			rows = append(rows, []string{string(op.ID), string(op.Kind), op.Phase, orDash(op.Step), op.Resource, age(op.Submitted), orDash(op.Error)})
		}
		return s.table([]string{"ID", "KIND", "PHASE", "STEP", "RESOURCE", "AGE", "ERROR"}, rows)
	})
}

func setQuery(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func operationShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show OPERATION", Short: "Show an operation", Args: cobra.ExactArgs(1)}
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		op, err := s.operation(ctx, args[0])
		if err != nil {
			return err
		}
		return s.showOperation(op)
	})
}

func (s *session) showOperation(op messages.Operation) error {
	if s.asJSON {
		return s.json(op)
	}
	rows := [][]string{
		{"id", string(op.ID)}, {"kind", string(op.Kind)}, {"phase", op.Phase}, {"resource", op.Resource}, {"project", op.Project},
		{"step", orDash(op.Step)}, {"steps done", fmt.Sprintf("%d of %d", op.Done, op.Total)}, {"attempt", fmt.Sprint(op.Attempt)},
		{"taken over", fmt.Sprintf("%d times", op.Epoch)}, {"worker", orDash(op.Worker)}, {"submitted", age(op.Submitted) + " ago"}, {"error", orDash(op.Error)},
	}
	for _, c := range op.Claims {
		rows = append(rows, []string{"claim", c.Mode + " " + c.Key})
	}
	return s.fields(rows)
}

func operationWatch() *cobra.Command {
	cmd := &cobra.Command{Use: "watch OPERATION", Short: "Follow an operation until it has ended", Args: cobra.ExactArgs(1)}
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		var failed error
		op, err := s.follow(ctx, args[0], func(op messages.Operation) {
			if s.asJSON {
				failed = errors.Join(failed, s.json(op))
				return
			}
			_, err := fmt.Fprintln(s.out, line(op))
			failed = errors.Join(failed, err)
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		return outcome(op)
	})
}

func operationCancel() *cobra.Command {
	cmd := &cobra.Command{Use: "cancel OPERATION", Short: "Ask a running operation to undo what it did; one past its point of no return goes on", Args: cobra.ExactArgs(1)}
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		return s.operate(ctx, args[0], "cancel", map[string]any{})
	})
}

func operationResume() *cobra.Command {
	cmd := &cobra.Command{Use: "resume OPERATION", Short: "Let a stuck operation go on from the step that failed", Args: cobra.ExactArgs(1)}
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		return s.operate(ctx, args[0], "resume", map[string]any{})
	})
}

func operationAbandon() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "abandon OPERATION --reason TEXT", Args: cobra.ExactArgs(1),
		Short: "End a stuck operation as it is and give its locks back; what it made half may be left",
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		if reason == "" {
			return missing("reason", "want to know why: it is kept with the operation")
		}
		return s.operate(ctx, args[0], "abandon", map[string]any{"reason": reason})
	})
}

// operate sends what an operator asks of an operation.
func (s *session) operate(ctx context.Context, id, verb string, in map[string]any) error {
	_, err := s.call(ctx, http.MethodPost, "/scoria/v1/operations/"+pathPart(id)+"/"+verb, in, nil)
	return err
}

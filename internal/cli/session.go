package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/messages"
)

// Headers of Scoria's own in answers.
const (
	headerOperation = "X-Scoria-Operation-Id"
	headerStale     = "X-Scoria-Stale"
)

// Phases that commands tell apart.
const (
	phaseDone  = "done"
	phaseStuck = "stuck"
)

// session is one call of a command that speaks to an API node.
type session struct {
	*client
	*printer
	progress io.Writer
	noWait   bool
	// accepted is the operation that was not waited for last.
	accepted string
}

// withClient makes cmd one that speaks to an API node.
func withClient(cmd *cobra.Command, run func(context.Context, *session, []string) error) *cobra.Command {
	cmd.Flags().String(flagEndpoint, defaultEndpoint, "URL of the API node")
	cmd.Flags().String(flagProject, "demo", "project to work in")
	outputFlag(cmd)
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := newSession(cmd)
		if err != nil {
			return err
		}
		s.warn = cmd.ErrOrStderr()
		return run(cmd.Context(), s, args)
	}
	return cmd
}

// starts gives a command that starts operations and waits for them its flags.
func starts(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().Bool(flagNoWait, false, "return when the operation is accepted, not when it has ended")
	return canWait(cmd)
}

func newSession(cmd *cobra.Command) (*session, error) {
	flags := cmd.Flags()
	endpoint, _ := flags.GetString(flagEndpoint)
	project, _ := flags.GetString(flagProject)
	noWait, _ := flags.GetBool(flagNoWait)
	c, err := newClient(endpoint, project)
	if err != nil {
		return nil, err
	}
	if c.onConflict, err = onConflict(cmd); err != nil {
		return nil, err
	}
	p, err := newPrinter(cmd)
	if err != nil {
		return nil, err
	}
	return &session{client: c, printer: p, progress: cmd.ErrOrStderr(), noWait: noWait}, nil
}

// accepted is what programs are told of a call that was accepted.
type accepted struct {
	ID        string `json:"id"`
	Operation string `json:"operation,omitempty"`
}

// each sends the same call for each ID and waits for its operation. One that fails does not keep the others from being tried.
func (s *session) each(ctx context.Context, ids []string, method string, path func(id string) string, in any) error {
	var errs []error
	taken := []accepted{}
	for _, id := range ids {
		header, err := s.call(ctx, method, path(id), in, nil)
		if err == nil {
			taken = append(taken, accepted{id, header.Get(headerOperation)})
			err = s.settled(ctx, header)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
		}
		if interrupted(ctx) != nil {
			break
		}
	}
	if s.asJSON {
		errs = append(errs, s.json(taken))
	}
	return errors.Join(errs...)
}

// settled waits until the operation that the answer names has ended, and says how it goes on.
func (s *session) settled(ctx context.Context, header http.Header) error {
	id := header.Get(headerOperation)
	if id == "" {
		return nil
	}
	if s.noWait {
		s.accepted = id
		if !s.asJSON {
			writeLine(s.progress, "operation %s; follow it with `scoria operation watch %s`", id, id)
		}
		return nil
	}
	op, err := s.follow(ctx, id, s.report)
	if err != nil && interrupted(ctx) == nil {
		return fmt.Errorf("%w; operation %s was accepted: see `scoria operation watch %s`", err, id, id)
	}
	if err != nil {
		return err
	}
	return outcome(op)
}

// follow looks at an operation until it has ended or is stuck, and calls show where it is not as it was last shown. show says whether it showed it.
func (s *session) follow(ctx context.Context, id string, show func(messages.Operation) bool) (messages.Operation, error) {
	var last, shown messages.Operation
	err := poll(ctx, func() (bool, error) {
		op, err := s.operation(ctx, id)
		if err != nil {
			return false, err
		}
		changed := op.Phase != shown.Phase || op.Step != shown.Step || op.ProgressDone != shown.ProgressDone || op.StepWaits != shown.StepWaits || op.Attempt != shown.Attempt
		if changed && show(op) {
			shown = op
		}
		last = op
		return op.Settled(), nil
	})
	if stop := interrupted(ctx); err != nil && stop != nil {
		err = fmt.Errorf("%w; the operation goes on: `scoria operation watch %s`", stop, id)
	}
	return last, err
}

func (s *session) operation(ctx context.Context, id string) (messages.Operation, error) {
	var out struct{ Operation messages.Operation }
	_, err := s.call(ctx, http.MethodGet, ownAPI("operations", id), nil, &out)
	if err == nil && out.Operation.ID == "" {
		err = s.noSuchAnswer("operation")
	}
	return out.Operation, err
}

// noSuchAnswer is the error of an answer that is none: something else listens there.
func (s *session) noSuchAnswer(what string) error {
	return fmt.Errorf("%s answered without the %s that was asked for: is it an API node?", s.endpoint, what)
}

// report prints how a long operation goes on: one that ends within two seconds prints nothing.
func (s *session) report(op messages.Operation) bool {
	if s.asJSON || op.Ended || time.Since(op.Submitted) < 2*time.Second {
		return false
	}
	writeLine(s.progress, "%s", line(op))
	return true
}

// line is an operation in one line.
func line(op messages.Operation) string {
	text := fmt.Sprintf("%s  %s  %s", op.ID, op.Kind, op.Phase)
	if op.Step != "" && !op.Ended {
		text += "  step " + op.Step
		if op.Total > 0 { // else it is not known yet
			text += fmt.Sprintf(" (%d of %d)", min(op.Done+1, op.Total), op.Total)
		}
	}
	if w := op.Waits; w != nil {
		text += fmt.Sprintf("  place %d in line", w.Place)
		if len(w.For) > 0 {
			text += fmt.Sprintf(", behind %s, operation %s", w.For[0].Kind, w.For[0].Operation)
		}
	}
	if op.Attempt > 1 {
		text += fmt.Sprintf("  attempt %d", op.Attempt)
	}
	if op.StepWaits != "" {
		text += "  " + op.StepWaits
	}
	if op.ProgressTotal > 0 {
		text += fmt.Sprintf("  %d %% of %d MiB", op.ProgressDone*100/op.ProgressTotal, op.ProgressTotal>>20)
	}
	if op.Error != "" {
		text += "  " + op.Error
	}
	return text
}

// outcome is an error unless the operation did what was asked.
func outcome(op messages.Operation) error {
	text := fmt.Sprintf("operation %s ended without doing what was asked (%s): %s", op.ID, op.Phase, op.Error)
	switch op.Phase {
	case phaseDone:
		return nil
	case phaseStuck:
		text = fmt.Sprintf("operation %s is stuck at step %s: %s; see `scoria lock explain %s`, then `scoria operation resume` or `abandon`", op.ID, op.Step, op.Error, op.Resource)
	}
	return errors.New(plain(text))
}

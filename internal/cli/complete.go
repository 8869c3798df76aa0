package cli

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/messages"
)

// completionLimit bounds the wait of somebody who has pressed the Tab key.
const completionLimit = time.Second

// completeFlag offers the values of a flag to the shell.
func completeFlag(cmd *cobra.Command, name string, values ...cobra.Completion) {
	registerCompletion(cmd, name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func registerCompletion(cmd *cobra.Command, name string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(name, complete); err != nil {
		panic(err) // there is no such flag, or it has one already
	}
}

// offer asks the endpoint for IDs that begin so. Where it does not answer soon, nothing is offered.
func (k *idKind) offer(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if settle(cmd) != nil {
		return nil, none
	}
	s, err := newSession(cmd)
	if err != nil {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	all, err := k.list(ctx, s)
	if err != nil {
		return nil, none
	}
	var found []cobra.Completion
	for _, c := range all {
		if strings.HasPrefix(c, begun) {
			found = append(found, c)
		}
	}
	return found, none
}

func offerVolumes(ctx context.Context, s *session) ([]cobra.Completion, error) {
	var out struct{ Volumes []volume }
	_, err := s.call(ctx, http.MethodGet, s.volumeAPI("volumes", "detail"), nil, &out)
	return offered(out.Volumes, func(v volume) (string, string) { return v.ID, v.Name + " " + v.Status }), err
}

func offerSnapshots(ctx context.Context, s *session) ([]cobra.Completion, error) {
	var out struct{ Snapshots []snapshot }
	_, err := s.call(ctx, http.MethodGet, s.volumeAPI("snapshots", "detail"), nil, &out)
	return offered(out.Snapshots, func(v snapshot) (string, string) { return v.ID, v.Name + " " + v.Status }), err
}

func offerAttachments(ctx context.Context, s *session) ([]cobra.Completion, error) {
	var out struct{ Attachments []attachment }
	_, err := s.call(ctx, http.MethodGet, s.volumeAPI("attachments"), nil, &out)
	return offered(out.Attachments, func(a attachment) (string, string) { return a.ID, a.Status + " of volume " + a.VolumeID }), err
}

func offerOperations(filter string) func(context.Context, *session) ([]cobra.Completion, error) {
	return func(ctx context.Context, s *session) ([]cobra.Completion, error) {
		var out struct{ Operations []messages.Operation }
		_, err := s.call(ctx, http.MethodGet, ownAPI("operations")+"?project="+s.project+"&"+filter, nil, &out)
		return offered(out.Operations, func(op messages.Operation) (string, string) { return string(op.ID), string(op.Kind) + " " + op.Phase }), err
	}
}

func offerLocks(ctx context.Context, s *session) ([]cobra.Completion, error) {
	locks, err := s.locks(ctx, ownAPI("locks"))
	return offered(locks, func(l lock) (string, string) { return l.Key, l.Mode }), err
}

// offered are the rows as the shell's completion takes them: the ID, and a line that says what it is.
func offered[T any](rows []T, of func(T) (id, text string)) []cobra.Completion {
	var all []cobra.Completion
	for _, row := range rows {
		id, text := of(row)
		all = append(all, cobra.CompletionWithDesc(plain(id), plain(strings.TrimSpace(text))))
	}
	return all
}

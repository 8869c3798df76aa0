package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// idKind is a kind of thing that commands are given the ID of.
type idKind struct {
	// noun is what an error calls it, listed the command that prints such IDs.
	noun, listed string
	// dots: the keys of locks have dots in them.
	dots bool
	// list offers IDs to the shell, with what says what they are.
	list func(context.Context, *session) ([]cobra.Completion, error)
}

var (
	volumeID     = &idKind{noun: "a volume", listed: "scoria volume list", list: offerVolumes}
	snapshotID   = &idKind{noun: "a snapshot", listed: "scoria snapshot list", list: offerSnapshots}
	attachmentID = &idKind{noun: "an attachment", listed: "scoria attachment list", list: offerAttachments}
	operationID  = &idKind{noun: "an operation", listed: "scoria operation list", list: offerOperations("")}
	liveID       = &idKind{noun: "an operation", listed: "scoria operation list", list: offerOperations("live=true")}
	stuckID      = &idKind{noun: "an operation", listed: "scoria operation list --phase stuck", list: offerOperations("phase=stuck")}
	backendName  = &idKind{noun: "a backend", listed: "scoria backend list", list: offerBackends}
	lockKey      = &idKind{noun: "a volume or a key", listed: "scoria lock list", dots: true, list: offerLocks}
)

// check refuses what can be no ID: it would be another URL, or none.
func (k *idKind) check(id string) error {
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && (c != '.' || !k.dots) {
			return k.want()
		}
	}
	switch id {
	case "", ".", "..", "detail", "summary": // the last two are lists of the API
		return k.want()
	}
	return nil
}

func (k *idKind) want() error {
	return fmt.Errorf("want the ID of %s, as `%s` prints it", k.noun, k.listed)
}

// one makes cmd a command that is given one ID, many one that is given one or more.
func (k *idKind) one(cmd *cobra.Command) *cobra.Command { return k.arguments(cmd, cobra.ExactArgs(1)) }
func (k *idKind) many(cmd *cobra.Command) *cobra.Command {
	return k.arguments(cmd, cobra.MinimumNArgs(1))
}

func (k *idKind) arguments(cmd *cobra.Command, count cobra.PositionalArgs) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := count(cmd, args); err != nil {
			return err
		}
		for _, id := range args {
			if err := k.check(id); err != nil {
				return fmt.Errorf("%q: %w", id, err)
			}
		}
		return nil
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if count(cmd, append(args, begun)) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return k.offer(cmd, args, begun)
	}
	return cmd
}

// flag gives cmd a flag whose value is an ID.
func (k *idKind) flag(cmd *cobra.Command, value *string, name, usage string) {
	cmd.Flags().Var(&idFlag{value, k}, name, usage)
	registerCompletion(cmd, name, k.offer)
}

type idFlag struct {
	value *string
	kind  *idKind
}

func (f *idFlag) String() string { return *f.value }
func (f *idFlag) Type() string   { return "ID" }

func (f *idFlag) Set(s string) error {
	*f.value = s
	return f.kind.check(s)
}

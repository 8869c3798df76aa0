package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/messages"
)

// Of commands that do what an operator must account for.
const (
	flagReason   = "reason"
	reasonUsage  = "why; it is kept with the operation, with who said it and when"
	reasonWanted = "want to know why: it is kept with the operation"
)

func lockBreak() *cobra.Command {
	var reason, operation string
	var force bool
	cmd := lockKey.one(&cobra.Command{
		Use: "break KEY|VOLUME --reason TEXT", Short: "Take its locks away from the operation that holds a key: a last resort",
		Long: `Take all its locks away from the operation that holds KEY, or a key of VOLUME: a last resort.

What it does, in this order:
 1. The operation becomes void: no worker goes on with it.
 2. Its backend is told to refuse whatever its worker still writes. A worker that does not stop by itself is waited for, and ended
    with its process after 30 s. The host of an attachment that was being made or ended is cut off.
 3. Its locks go to the operations that wait for them.
What the operation was changing stays half done, in status error: delete it, or detach it.

Where the backend does not answer, the locks stay held after step 1. Break again when it does, or give them away without it:
scoria operation abandon.

A lock that names an operation which has ended or is not there, as verify would tell, is mended.

An operation that is stuck is better resumed or abandoned. One that runs is better canceled: it is broken only with --force.`,
		Example: "  scoria lock break volume.6f2b3f4e-9d0c-4b7e-8a65-0123456789ab --reason \"its node burnt down\"",
	})
	cmd.Flags().StringVar(&reason, flagReason, "", reasonUsage)
	liveID.flag(cmd, &operation, "operation", "whose locks, where several operations hold the key")
	cmd.Flags().BoolVar(&force, "force", false, "also of an operation that runs, or is about to")
	return withClient(cmd, func(ctx context.Context, s *session, args []string) error {
		if reason == "" {
			return missing(flagReason, reasonWanted)
		}
		in := map[string]any{"reason": reason, "force": force}
		set(in, "operation", operation)
		var out struct{ Operation messages.Operation }
		if _, err := s.call(ctx, http.MethodPost, ownAPI("locks", args[0], "break"), in, &out); err != nil {
			return err
		}
		if s.asJSON {
			return s.json(out.Operation)
		}
		op := out.Operation
		if op.Kind == "" {
			writeLine(s.out, "operation %s, which the lock named, has no record: the lock is free of it", op.ID)
			return nil
		}
		writeLine(s.out, "operation %s (%s of %s) is broken; `scoria operation show %s` tells who did it and why", op.ID, op.Kind, op.Resource, op.ID)
		return nil
	})
}

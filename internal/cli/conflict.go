package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/deploy/assembly"
	"github.com/scoria-storage/scoria/messages"
)

const flagOnConflict = "on-conflict"

// canWait gives a command that starts an operation the choice to wait in line.
func canWait(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String(flagOnConflict, "refuse", "when another operation stands in the way: refuse, queue, or queue:DURATION, such as queue:30s")
	_ = cmd.RegisterFlagCompletionFunc(flagOnConflict, cobra.FixedCompletions([]string{"refuse", "queue", "queue:30s"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// onConflict is the flag as the header says it.
func onConflict(cmd *cobra.Command) (string, error) {
	if cmd.Flags().Lookup(flagOnConflict) == nil {
		return "", nil
	}
	value, err := cmd.Flags().GetString(flagOnConflict)
	if err != nil {
		return "", err
	}
	wrong := &usageError{&assembly.SettingError{Name: flagOnConflict, Value: value, Want: "want refuse, queue, or queue:DURATION, such as queue:30s"}}
	policy, wait, more := strings.Cut(value, ":")
	if policy != "refuse" && policy != "queue" || policy == "refuse" && more {
		return "", wrong
	}
	p := messages.OnConflict{Queue: policy == "queue"}
	if more {
		if p.Wait, err = time.ParseDuration(wait); err != nil || p.Wait <= 0 {
			return "", wrong
		}
	}
	return p.String(), nil
}

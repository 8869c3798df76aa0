// Package cli is the command line of scoria: the commands that start nodes and the commands for people, which speak HTTP.
//
// Nouns: a setting is what a flag, an environment variable (SCORIA_…) and a key of the configuration file name alike;
// a session is one call of a command that speaks to an API node.
//
// Invariants:
//   - A flag goes before the environment, the environment before the file.
//   - A wrong setting is refused with its name and its value before anything is started or changed.
//   - Results go to standard output, everything else to standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// Release is the version of this program; the build sets it.
var Release = "0.1.0"

// errSilent ends with status 1 without a further word: the command has said all.
var errSilent = errors.New("differences found")

// Main runs the command line and returns the exit status: 0, 1 for a failure, 2 for a wrong call.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintf(stderr, "scoria: %v\n", err)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return 2
	}
	return 1
}

// usageError is a wrong call: exit status 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "scoria", Short: "Block storage volumes as a service",
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := settle(cmd); err != nil {
				return &usageError{err}
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(upCommand(), apiNodeCommand(), volumeNodeCommand(), exportServerCommand(),
		volumeCommand(), snapshotCommand(), operationCommand(), lockCommand(), verifyCommand(), benchCommand(), versionCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "scoria %s %s %s/%s%s\n", Release, runtime.Version(), runtime.GOOS, runtime.GOARCH, revision())
		return err
	}}
}

// revision is the commit that the binary was built from, where the build knew it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return " " + s.Value
		}
	}
	return ""
}

// Package cli is the command line of scoria: the commands that start nodes and the commands for people, which speak HTTP.
//
// Nouns: a setting is what a flag, an environment variable (SCORIA_…) and a key of the configuration file name alike;
// a session is one call of a command that speaks to an API node.
//
// Invariants:
//   - A flag goes before the environment, the environment before the file.
//   - A wrong setting is refused with its name and its value before anything is started or changed.
//   - Results go to standard output, everything else to standard error.
//   - A process that stays goes on when nobody reads its output any more; a command for people ends quietly.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/deploy/assembly"
)

// Release is the version of this program; the build sets it.
var Release = "0.1.0"

// errSilent ends with status 1 without a further word: the command has said all.
var errSilent = errors.New("differences found")

// Main runs the command line and returns the exit status: 0, 1 for a failure, 2 for a wrong call, 128 and the signal's number for what a signal
// cut short.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintf(stderr, "scoria: %s\n", plainLines(saidWhere(cmd.Flags(), err).Error()))
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return 2
	}
	if i := interrupted(ctx); i != nil && !stays(cmd.Flags()) {
		return i.status()
	}
	return 1
}

// usageError is a wrong call: exit status 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// missing is the error of a setting that must be given.
func missing(name, want string) error {
	return &usageError{&assembly.SettingError{Name: name, Want: want}}
}

// group makes a command that only holds others.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short}
	cmd.AddCommand(commands...)
	return refuseOthers(cmd)
}

// refuseOthers makes a word that is none of the commands under cmd a wrong call, not a cry for help.
func refuseOthers(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return noCommand(cmd, args[0])
	}
	return cmd
}

// noCommand says that there is no command of the name under cmd, and which one may have been meant.
func noCommand(cmd *cobra.Command, name string) error {
	text := fmt.Sprintf("there is no command `%s %s`", cmd.CommandPath(), plain(name))
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += fmt.Sprintf(", but `%s %s`", cmd.CommandPath(), near[0])
	}
	return &usageError{fmt.Errorf("%s; see `%s --help`", text, cmd.CommandPath())}
}

// helpCommand is cobra's, but that a word that is no command is a wrong call.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Say what a command does",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return noCommand(about, rest[0])
			}
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var words []cobra.Completion
			for _, sub := range about.Commands() {
				if sub.IsAvailableCommand() {
					words = append(words, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// refuseArguments makes a wrong number of arguments a wrong call in cmd and in all commands under it.
func refuseArguments(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{fmt.Errorf("%s: %w; see `%s --help`", cmd.UseLine(), err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		refuseArguments(sub)
	}
}

func newRoot() *cobra.Command {
	root := group("scoria", "Block storage volumes as a service")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		flags := cmd.Flags()
		if stays(flags) || measures(flags) {
			outliveReaders()
		}
		if !stays(flags) {
			tellStrangers(cmd)
		}
		if err := settle(cmd); err != nil {
			return &usageError{err}
		}
		return nil
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see `%s --help`", flagError(err), cmd.CommandPath())}
	})
	root.AddCommand(upCommand(), apiNodeCommand(), volumeNodeCommand(), exportServerCommand(),
		volumeCommand(), snapshotCommand(), attachmentCommand(), operationCommand(), lockCommand(), backendCommand(), verifyCommand(), benchCommand(), versionCommand())
	root.SetHelpCommand(helpCommand())
	completion(root)
	refuseArguments(root)
	return root
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions}
	outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := newPrinter(cmd)
		if err != nil {
			return err
		}
		v := version{Release, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, revision()}
		if p.asJSON {
			return p.json(v)
		}
		writeLine(p.out, "%s", strings.TrimSpace(fmt.Sprintf("scoria %s %s %s %s", v.Release, v.Go, v.Platform, v.Revision)))
		return nil
	}
	return cmd
}

// version is what this binary was built from. Revision is the commit, where the build knew it.
type version struct {
	Release  string `json:"release"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Revision string `json:"revision,omitempty"`
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scoria-storage/scoria/deploy/assembly"
)

const (
	envPrefix = "SCORIA_"

	flagConfig   = "config"
	flagProfile  = "cpu-profile"
	flagEndpoint = "endpoint"
	flagProject  = "project"
	flagOutput   = "output"
	flagNoWait   = "no-wait"
)

// envName is the environment variable of a setting: --nats-listen is SCORIA_NATS_LISTEN.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settle fills the flags that were not given from the environment, then from the configuration file. A setting that is
// unknown or has a wrong value is refused with its name, its value and where it was said.
func settle(cmd *cobra.Command) error {
	flags := cmd.Flags()
	given := map[string]bool{}
	flags.Visit(func(f *pflag.Flag) { given[f.Name] = true })
	if err := fromEnvironment(flags, given); err != nil {
		return err
	}
	config := flags.Lookup(flagConfig)
	if config == nil || config.Value.String() == "" {
		return nil
	}
	return fromFile(cmd, config.Value.String(), given)
}

func fromEnvironment(flags *pflag.FlagSet, given map[string]bool) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		value, ok := os.LookupEnv(envName(f.Name))
		if given[f.Name] || !ok || !isSetting(flags, f.Name) {
			return
		}
		values := []string{value}
		if repeatable(f) {
			values = strings.Fields(value)
		}
		if err := setAll(flags, f.Name, values); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", envName(f.Name), err))
			return
		}
		given[f.Name] = true
		said(f, "environment variable "+envName(f.Name))
	})
	return errors.Join(errs...)
}

// isSetting reports whether the flag may be said in the environment or in a file: of a process that stays, every flag; of the commands for people only
// what they share, since the name of a new volume is not the name of a node; of a bench none, because it loads another's node only when it is told
// so here and now.
func isSetting(flags *pflag.FlagSet, name string) bool {
	switch {
	case stays(flags):
		return name != "help"
	case measures(flags):
		return false
	}
	return slices.Contains([]string{flagEndpoint, flagProject, flagOutput, flagNoWait}, name)
}

// stays reports whether the flags are those of a process that stays, such as a node: others end when they have said their result.
func stays(flags *pflag.FlagSet) bool { return flags.Lookup(flagConfig) != nil }

// measures reports whether the flags are those of a bench, which must remove what it made.
func measures(flags *pflag.FlagSet) bool { return flags.Lookup(flagProfile) != nil }

// saidAnnotation is where a flag's value was said, if not on the command line.
const saidAnnotation = "said"

func said(f *pflag.Flag, where string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[saidAnnotation] = []string{where}
}

// saidWhere is the error of a setting with where it was said. What settle refuses has that already.
func saidWhere(flags *pflag.FlagSet, err error) error {
	f := flags.Lookup(assembly.SettingOf(err))
	if f == nil || len(f.Annotations[saidAnnotation]) == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", f.Annotations[saidAnnotation][0], err)
}

// repeatable reports whether the flag takes several values.
func repeatable(f *pflag.Flag) bool {
	_, ok := f.Value.(pflag.SliceValue)
	return ok
}

// setAll sets a flag; one that can be repeated takes each value.
func setAll(flags *pflag.FlagSet, name string, values []string) error {
	if len(values) > 1 && !repeatable(flags.Lookup(name)) {
		return fmt.Errorf("setting %s: values %q: want one value", name, values)
	}
	for _, v := range values {
		if err := flags.Set(name, v); err != nil {
			return flagError(err)
		}
	}
	return nil
}

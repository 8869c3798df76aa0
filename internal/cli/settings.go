package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
)

const (
	envPrefix  = "SCORIA_"
	flagConfig = "config"
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
	})
	return errors.Join(errs...)
}

// isSetting reports whether the flag may be said in the environment or in a file. Of the commands for people only what
// they share may: the name of a new volume is not the name of a node.
func isSetting(flags *pflag.FlagSet, name string) bool {
	if flags.Lookup("endpoint") == nil {
		return name != "help"
	}
	if flags.Lookup("cpu-profile") != nil { // a bench loads another's node only when it is told so here and now
		return false
	}
	return slices.Contains([]string{"endpoint", "project", "output", "no-wait"}, name)
}

// fromFile reads a YAML file whose keys are the names of flags. One file may serve several commands: a key that is a
// setting of another command is passed over, one of no command is refused.
func fromFile(cmd *cobra.Command, path string, given map[string]bool) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	var doc map[string]yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("configuration file %s: want lines such as `listen: 127.0.0.1:8776`: %w", path, err)
	}
	known := settingsOfAll(cmd.Root())
	names := make([]string, 0, len(doc))
	for name := range doc {
		names = append(names, name)
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		node := doc[name]
		where := fmt.Sprintf("configuration file %s, line %d", path, node.Line)
		if !known[name] || name == flagConfig {
			errs = append(errs, fmt.Errorf("%s: there is no setting %q", where, name))
			continue
		}
		if given[name] || cmd.Flags().Lookup(name) == nil || !isSetting(cmd.Flags(), name) {
			continue
		}
		values, err := scalars(node)
		if err == nil {
			err = setAll(cmd.Flags(), name, values)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
	}
	return errors.Join(errs...)
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
		err := flags.Set(name, v)
		if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			err = invalid.Unwrap() // the rest of its text says the name and the value again
		}
		if err != nil {
			return fmt.Errorf("setting %s: value %q: %w", name, v, err)
		}
	}
	return nil
}

func scalars(node yaml.Node) ([]string, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		return []string{node.Value}, nil
	case yaml.SequenceNode:
		var out []string
		for _, n := range node.Content {
			if n.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d: want a plain value", n.Line)
			}
			out = append(out, n.Value)
		}
		return out, nil
	case yaml.DocumentNode, yaml.MappingNode, yaml.AliasNode:
	}
	return nil, fmt.Errorf("line %d: want a value or a list of values", node.Line)
}

func settingsOfAll(cmd *cobra.Command) map[string]bool {
	known := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(cmd)
	return known
}

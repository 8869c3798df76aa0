package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
)

// fromFile reads a YAML file whose keys are the names of flags. One file may serve several commands: a key that is a
// setting of another command is passed over, one of no command is refused.
func fromFile(cmd *cobra.Command, path string, given map[string]bool) error {
	entries, err := readSettings(path)
	if err != nil {
		return fmt.Errorf("configuration file %w", err)
	}
	known := settingsOfAll(cmd.Root())
	var errs []error
	for _, e := range entries {
		where := fmt.Sprintf("configuration file %s, line %d", path, e.line)
		if !known[e.name] {
			errs = append(errs, fmt.Errorf("%s: there is no setting %q%s: want the name of a flag, without its dashes; see `scoria up --help`", where, e.name, meant(e.name, known)))
			continue
		}
		f := cmd.Flags().Lookup(e.name)
		if given[e.name] || f == nil || !isSetting(cmd.Flags(), e.name) {
			continue
		}
		values, err := valuesOf(f, e.value)
		if err == nil {
			err = setAll(cmd.Flags(), e.name, values)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
		said(f, where)
	}
	return errors.Join(errs...)
}

// entry is one key of the file.
type entry struct {
	name  string
	line  int
	value *yaml.Node
}

// readSettings reads the keys in their order. Errors begin with the path.
func readSettings(path string) ([]entry, error) {
	data, err := os.ReadFile(path)
	if reason, ok := errors.AsType[*os.PathError](err); ok {
		return nil, fmt.Errorf("%s: %w", path, reason.Err)
	}
	if err != nil {
		return nil, err
	}
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err = dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			return nil, fmt.Errorf("%s, line %d: a second document begins here, after ---: want one", path, second.Line)
		}
	}
	const want = "want lines such as `listen: 127.0.0.1:8776`"
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s: %s", path, want, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s, line %d: %s", path, top.Line, want)
	}
	if err := keysOnce(top); err != nil {
		return nil, fmt.Errorf("%s, %w", path, err)
	}
	var entries []entry
	for i := 0; i < len(top.Content); i += 2 {
		entries = append(entries, entry{top.Content[i].Value, top.Content[i].Line, top.Content[i+1]})
	}
	return entries, nil
}

// keysOnce refuses a table, at any depth, in which a key stands twice.
func keysOnce(node *yaml.Node) error {
	lines := map[string]int{}
	for i, n := range node.Content {
		if err := keysOnce(n); err != nil {
			return err
		}
		if node.Kind != yaml.MappingNode || i%2 == 1 {
			continue
		}
		if first, twice := lines[n.Value]; twice {
			return fmt.Errorf("line %d: %q stands in line %d already: want it once", n.Line, n.Value, first)
		}
		lines[n.Value] = n.Line
	}
	return nil
}

// valuesOf are the values that a node of the file gives a flag.
func valuesOf(f *pflag.Flag, node *yaml.Node) ([]string, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		return []string{node.Value}, nil
	case yaml.SequenceNode:
		return scalars(f, node)
	case yaml.MappingNode:
		if _, ok := f.Value.(*quotaFlag); !ok {
			break
		}
		pairs, err := scalars(f, node)
		if err != nil {
			return nil, err
		}
		var parts []string
		for i := 0; i < len(pairs); i += 2 {
			parts = append(parts, pairs[i]+"="+pairs[i+1])
		}
		return []string{strings.Join(parts, ",")}, nil
	case yaml.AliasNode:
		return valuesOf(f, node.Alias)
	case yaml.DocumentNode:
	}
	return nil, fmt.Errorf("setting %s: line %d: want a value or a list of values, not a table of them", f.Name, node.Line)
}

// scalars are the plain values in a node.
func scalars(f *pflag.Flag, node *yaml.Node) ([]string, error) {
	var out []string
	for _, n := range node.Content {
		if n.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("setting %s: line %d: want a plain value", f.Name, n.Line)
		}
		out = append(out, n.Value)
	}
	return out, nil
}

// settingsOfAll are the names of the settings of all commands.
func settingsOfAll(cmd *cobra.Command) map[string]bool {
	known := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		flags := c.LocalFlags()
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Name != flagConfig && isSetting(flags, f.Name) {
				known[f.Name] = true
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(cmd)
	return known
}

package cli

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// serviceVariable matches what Kubernetes puts into the environment for each service, such as SCORIA_SERVICE_HOST for one called scoria.
var serviceVariable = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// stranger is a variable SCORIA_… that names no setting.
type stranger struct{ variable, near string }

const noSetting = "environment variable names no setting and is ignored"

// hint is the setting that may be meant, as a question; empty: none.
func (s stranger) hint() string {
	if s.near == "" {
		return ""
	}
	return "is " + s.near + " meant?"
}

// strangers are the variables SCORIA_… that name no setting of any command, with the nearest one that does. They are told, not refused: the
// environment belongs to others, too (tests, scripts, another release), who must not be able to keep a node from its start.
func strangers(root *cobra.Command) []stranger {
	known := []string{envName(flagConfig)}
	for name := range settingsOfAll(root) {
		known = append(known, envName(name))
	}
	var all []stranger
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) && !serviceVariable.MatchString(name) {
			all = append(all, stranger{name, nearest(name, known)})
		}
	}
	slices.SortFunc(all, func(a, b stranger) int { return strings.Compare(a.variable, b.variable) })
	return all
}

// tellStrangers tells people of variables that are nearly the name of a setting; processes that stay log all of them.
func tellStrangers(cmd *cobra.Command) {
	for _, s := range strangers(cmd.Root()) {
		if s.near != "" {
			writeLine(cmd.ErrOrStderr(), "scoria: %s: %s: %s", noSetting, s.variable, s.hint())
		}
	}
}

// nearest is the one of the names that a person may have meant, at most two slips away; empty: none. Of two the first in the alphabet.
func nearest(name string, names []string) string {
	best, slips := "", 3
	for _, n := range slices.Sorted(slices.Values(names)) {
		if d := distance(name, n); d < slips {
			best, slips = n, d
		}
	}
	return best
}

// distance is how many letters must be put in, left out or changed to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// meant is a hint at the nearest of the names, or nothing.
func meant(name string, names map[string]bool) string {
	if near := nearest(name, slices.Collect(maps.Keys(names))); near != "" {
		return fmt.Sprintf(", but %q", near)
	}
	return ""
}

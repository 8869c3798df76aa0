package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/deploy/assembly"
)

const (
	formatTable = "table"
	formatJSON  = "json"
)

// printer shows results: tables for people, JSON for programs. What people see is plain; JSON is exact.
type printer struct {
	out    io.Writer
	asJSON bool
}

// outputFlag gives cmd the flag that newPrinter reads.
func outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringP(flagOutput, "o", formatTable, "table or json")
	completeFlag(cmd, flagOutput, formatTable, formatJSON)
}

func newPrinter(cmd *cobra.Command) (*printer, error) {
	format, err := cmd.Flags().GetString(flagOutput)
	if err != nil {
		return nil, err
	}
	switch format {
	case formatTable:
		return &printer{out: cmd.OutOrStdout()}, nil
	case formatJSON:
		return &printer{out: cmd.OutOrStdout(), asJSON: true}, nil
	}
	return nil, &usageError{&assembly.SettingError{Name: flagOutput, Value: format, Want: "want table or json"}}
}

func (p *printer) json(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows under headings.
func (p *printer) table(headings []string, rows [][]string) error {
	return p.fields(append([][]string{headings}, rows...))
}

// fields prints rows without headings, such as one thing with a line for each field.
func (p *printer) fields(rows [][]string) error {
	shown := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row {
			shown[i] = append(shown[i], plain(cell))
		}
	}
	_, err := io.WriteString(p.out, align(shown))
	return err
}

// age is a time as people say it.
func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// ago is how long ago a time was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return age(t) + " ago"
}

// fromOthers says how often an operation was taken over.
func fromOthers(times uint64) string {
	switch times {
	case 0:
		return "from no other worker"
	case 1:
		return "from another worker once"
	}
	return fmt.Sprintf("from other workers %d times", times)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

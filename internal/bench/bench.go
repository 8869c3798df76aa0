// Package bench measures a running Scoria, or its locks alone, and prints the figures beside the floor that the server under them allows.
//
// Nouns: a case is one kind of work; a row is one case at one number of workers; the floor of a row that writes is what
// bare atomic batches of the same number of messages reach on the same server in the same run, one batch in flight.
//
// Invariants:
//   - Floors are measured in the run that they are compared in, on the same stream and settings.
//   - An operation counts only when its answer was a success; a failed one ends the run with its text.
//
// It judges nothing: machines are shared and noisy, ratios within one run are what can be compared.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Target is what is measured.
type Target struct {
	// Endpoint is the URL of the API node.
	Endpoint string
	// Store is the stream under it; nil: floors are not measured.
	Store *kvtx.Store
	// Remove: it stays when the run is over, so what the run made is removed from it.
	Remove bool
}

// Cases are the names of the cases of a bench.
func Cases(bench string) (names []string) {
	switch bench {
	case "api":
		for _, p := range apiParts {
			names = append(names, p.cases...)
		}
	case "data":
		names = []string{cloneCase}
	case "locks":
		for _, c := range lockCases {
			names = append(names, c.name)
		}
	}
	return names
}

// Row is one line of figures.
type Row struct {
	Case    string  `json:"case"`
	Workers int     `json:"workers"`
	Ops     float64 `json:"ops_per_s"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	// Floor is 0 for rows that only read, and where it was not measured.
	Floor float64 `json:"floor_ops_per_s"`
	// Messages is what one operation wrote to the stream; Bytes is what the client sent for it, reads included; Batches and Writes are
	// its share in atomic batches and in plain writes of one message, which the server syncs once each, or several together.
	Messages float64 `json:"messages_per_op,omitempty"`
	Bytes    float64 `json:"bytes_per_op,omitempty"`
	Batches  float64 `json:"batches_per_op,omitempty"`
	Writes   float64 `json:"plain_writes_per_op,omitempty"`
	// Jain is the fairness of the workers' shares: 1 if all had the same, 1/workers if one had all.
	Jain float64 `json:"jain,omitempty"`
	Note string  `json:"note,omitempty"`
}

// Result is what a bench prints.
type Result struct {
	Bench    string            `json:"bench"`
	Machine  Machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Rows     []Row             `json:"rows"`
}

// Machine says where the figures were measured.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	OS     string `json:"os"`
	Kernel string `json:"kernel"`
	Load1  string `json:"load_1m"`
}

// ThisMachine describes the machine.
func ThisMachine() Machine {
	return Machine{CPU: procValue("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		Kernel: firstField("/proc/sys/kernel/osrelease"), Load1: firstField("/proc/loadavg")}
}

func procValue(path, key string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func firstField(path string) string {
	data, err := os.ReadFile(path)
	if fields := strings.Fields(string(data)); err == nil && len(fields) > 0 {
		return fields[0]
	}
	return "unknown"
}

// Print writes the result as a table.
func (r *Result) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d cores, Linux %s, load %s; %s\n", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Load1, versions(r.Versions))
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tworkers\tops/s\tp50 ms\tp99 ms\tfloor ops/s\tof floor\tmessages/op\tbytes/op\tbatches/op\tJain\t")
	for _, row := range r.Rows {
		share := ""
		if row.Floor > 0 {
			share = fmt.Sprintf("%.0f %%", 100*row.Ops/row.Floor)
		}
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%s\t%s\t\n", row.Case, row.Workers, row.Ops, row.P50, row.P99, known("%.0f", row.Floor),
			cmp.Or(share, "-"), known("%.1f", row.Messages), known("%.0f", row.Bytes), known("%.3f", row.Batches), known("%.3f", row.Jain))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, row := range r.Rows {
		if row.Note != "" {
			fmt.Fprintf(w, "%s at %d: %s\n", row.Case, row.Workers, row.Note)
		}
	}
	return nil
}

// known is the figure, or a dash if there is none.
func known(format string, figure float64) string {
	if figure == 0 {
		return "-"
	}
	return fmt.Sprintf(format, figure)
}

func versions(v map[string]string) string {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name+" "+v[name])
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// because is err or, when ctx has ended, why: what fails then fails because of that.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func row(name string, workers int, length time.Duration, took []time.Duration) Row {
	slices.Sort(took)
	return Row{Case: name, Workers: workers, Ops: round(float64(len(took)) / length.Seconds()), P50: quantile(took, 0.50), P99: quantile(took, 0.99)}
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return round(float64(sorted[i]) / float64(time.Millisecond))
}

func round(f float64) float64 { return math.Round(f*1000) / 1000 }

// Package bench measures a running Scoria and prints its figures beside the floor that the server under it allows.
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
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
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

// Row is one line of figures.
type Row struct {
	Case    string  `json:"case"`
	Workers int     `json:"workers"`
	Ops     float64 `json:"ops_per_s"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	// Floor is 0 for rows that only read, and where it was not measured.
	Floor float64 `json:"floor_ops_per_s"`
	// Messages is what one operation wrote to the stream.
	Messages float64 `json:"messages_per_op,omitempty"`
	Note     string  `json:"note,omitempty"`
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
	fmt.Fprintln(t, "case\tworkers\tops/s\tp50 ms\tp99 ms\tfloor ops/s\tof floor\tmessages/op\t")
	for _, row := range r.Rows {
		floor, share, messages := "-", "-", "-"
		if row.Floor > 0 {
			floor, share = fmt.Sprintf("%.0f", row.Floor), fmt.Sprintf("%.0f %%", 100*row.Ops/row.Floor)
		}
		if row.Messages > 0 {
			messages = fmt.Sprintf("%.1f", row.Messages)
		}
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.2f\t%.2f\t%s\t%s\t%s\t\n", row.Case, row.Workers, row.Ops, row.P50, row.P99, floor, share, messages)
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

func versions(v map[string]string) string {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name+" "+v[name])
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// load runs work in workers goroutines for the duration, after a warm-up that does not count, and returns how long each took.
func load(ctx context.Context, name string, workers int, warm, length time.Duration, work func(context.Context, int) error) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now().Add(warm)
	end := begin.Add(length)
	took := make([][]time.Duration, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if start.After(end) {
					return
				}
				if err := work(ctx, w); err != nil {
					cancel(err)
					return
				}
				if stop := time.Now(); start.After(begin) && stop.Before(end) {
					took[w] = append(took[w], stop.Sub(start))
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("%s at %d workers: %w", name, workers, err)
	}
	return slices.Concat(took...), nil
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

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/scoria-storage/scoria/deploy/assembly"
	"github.com/scoria-storage/scoria/internal/bench"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/records"
)

type benchFlags struct {
	endpoint, nats, dir, profile string
	cases                        []string
	length                       time.Duration
	servers                      int
}

func benchCommand() *cobra.Command {
	return group("bench", "Measure, and print the figures with the machine",
		benchCase("api", "Accept and end creates, list, get; null backend", benchAPI),
		benchLocksCommand(),
		benchCase("data", "Clone 10 GiB from a snapshot; without --dir on an XFS of its own (root)", benchData))
}

func benchCase(name, short string, run benchRun) *cobra.Command {
	var b benchFlags
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs}
	flags := cmd.Flags()
	benchFlagsOf(cmd, &b)
	flags.StringVar(&b.endpoint, flagEndpoint, "", "measure this API node, whose quota must have room for it (--quota volumes=-1,gigabytes=-1), and remove what was made; default: a stack of its own in a temporary directory")
	flags.StringVar(&b.nats, "nats", "", "with --endpoint: URL of its NATS server, for the floors")
	flags.StringVar(&b.dir, "dir", "", "directory of the stack of its own, or of the file backend of the endpoint; default: a temporary one")
	cmd.RunE = b.run(name, run)
	return cmd
}

// benchFlagsOf are the flags that every bench has.
func benchFlagsOf(cmd *cobra.Command, b *benchFlags) {
	outputFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&b.profile, flagProfile, "", "write a CPU profile of this process to the file (pprof)")
	flags.StringSliceVar(&b.cases, "case", nil, "only some of the cases: "+strings.Join(bench.Cases(cmd.Name()), ", "))
	completeFlag(cmd, "case", bench.Cases(cmd.Name())...)
	flags.Var(newDuration(&b.length, bench.DefaultLength.Row, 100*time.Millisecond, time.Hour), "length", "how long each row is measured")
}

type benchRun func(context.Context, *benchFlags, bench.Length, func(string)) ([]bench.Row, error)

// run measures, and prints what was measured.
func (b *benchFlags) run(name string, run benchRun) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		p, err := newPrinter(cmd)
		if err != nil {
			return err
		}
		for _, c := range b.cases {
			if known := bench.Cases(name); !slices.Contains(known, c) {
				return &usageError{&assembly.SettingError{Name: "case", Value: c, Want: "want one of " + strings.Join(known, ", ")}}
			}
		}
		l := bench.Length{Warm: b.length / 4, Row: b.length, Floor: b.length / 2}
		stop, err := startProfile(b.profile)
		if err != nil {
			return err
		}
		defer stop()
		machine := bench.ThisMachine()
		rows, err := run(cmd.Context(), b, l, func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), "…", what) })
		if err != nil && len(rows) == 0 {
			return err
		}
		result := bench.Result{Bench: name, Machine: machine, Versions: benchVersions(), Rows: rows}
		show := result.Print
		if p.asJSON {
			show = func(io.Writer) error { return p.json(result) }
		}
		return errors.Join(err, show(p.out)) // what was measured is shown, also when something is left
	}
}

func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("setting cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

func benchVersions() map[string]string {
	v := map[string]string{"scoria": Release, "go": runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "github.com/nats-io/nats-server/v2":
				v["nats-server"] = d.Version
			case "github.com/nats-io/nats.go":
				v["nats.go"] = d.Version
			}
		}
	}
	return v
}

func benchAPI(ctx context.Context, b *benchFlags, l bench.Length, progress func(string)) ([]bench.Row, error) {
	var rows []bench.Row
	err := b.with(ctx, "fake=null", func(ctx context.Context, t bench.Target, _ string) error {
		var err error
		rows, err = bench.API(ctx, t, l, b.cases, progress)
		return err
	})
	return rows, err
}

func benchData(ctx context.Context, b *benchFlags, l bench.Length, progress func(string)) (rows []bench.Row, err error) {
	if b.endpoint != "" && b.dir == "" {
		return nil, missing("dir", "want the directory of the file backend of the API node that --endpoint names")
	}
	if b.endpoint == "" && b.dir == "" {
		progress("make an XFS with reflink in a temporary image")
		dir, undo, err := bench.TemporaryXFS(ctx, "")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, undo()) }()
		b.dir = dir
	}
	err = b.with(ctx, "", func(ctx context.Context, t bench.Target, volumes string) error {
		var err error
		rows, err = bench.Data(ctx, t, volumes, l, progress)
		return err
	})
	return rows, err
}

// with calls measure with what the flags name, or with a stack of its own.
func (b *benchFlags) with(ctx context.Context, backend string, measure func(context.Context, bench.Target, string) error) error {
	if b.endpoint != "" {
		if _, err := newClient(b.endpoint, "bench"); err != nil {
			return err
		}
		store, done, err := b.store(ctx)
		if err != nil {
			return err
		}
		return errors.Join(measure(ctx, bench.Target{Endpoint: b.endpoint, Store: store, Remove: true}, b.dir), done())
	}
	dir, err := os.MkdirTemp(b.dir, "scoria-bench-")
	if err != nil {
		return b.wrongDir(err)
	}
	return errors.Join(ownStack(ctx, dir, backend, measure), os.RemoveAll(dir))
}

// wrongDir is the error of a directory in which nothing can be made.
func (b *benchFlags) wrongDir(err error) error {
	if reason, ok := errors.AsType[*os.PathError](err); ok {
		err = reason.Err // the rest is the path
	}
	return &usageError{fmt.Errorf("setting dir: value %q: %w", b.dir, err)}
}

func (b *benchFlags) store(ctx context.Context) (*kvtx.Store, func() error, error) {
	if b.nats == "" {
		return nil, func() error { return nil }, nil
	}
	nc, err := nats.Connect(b.nats)
	if err != nil {
		return nil, nil, fmt.Errorf("setting nats: value %q: %w", assembly.Redacted(b.nats), err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	store, err := kvtx.Open(ctx, js, kvtx.Config{})
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return store, func() error { defer nc.Close(); return store.Close() }, nil
}

// ownStack runs everything in this process, on ports that are free, until what is measured with it has ended: also when ctx ends.
func ownStack(ctx context.Context, dir, backend string, measure func(context.Context, bench.Target, string) error) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ready, ended := make(chan assembly.Running, 1), make(chan error, 1)
	cfg := assembly.UpConfig{
		Common: assembly.Common{Release: Release, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))},
		Data:   dir, Listen: "127.0.0.1:0",
		Limits: records.Limits{Volumes: records.Unlimited, Snapshots: records.Unlimited, GiB: records.Unlimited},
		Volume: assembly.VolumeConfig{Name: "bench", Metrics: "127.0.0.1:0", Workers: 128},
		Inside: func(r assembly.Running) { ready <- r },
	}
	if backend != "" {
		cfg.Volume.Backends = []string{backend}
	}
	go func() { ended <- assembly.Up(running, cfg) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		cancel()
		return errors.Join(context.Cause(ctx), <-ended)
	case r := <-ready:
		err := measure(ctx, bench.Target{Endpoint: r.URL, Store: r.Store}, filepath.Join(dir, assembly.VolumesDir))
		cancel()
		return errors.Join(err, <-ended)
	}
}

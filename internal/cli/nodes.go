package cli

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	apinode "github.com/scoria-storage/scoria/api-node"
	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/deploy/assembly"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/export/server"
	"github.com/scoria-storage/scoria/volume-node/intake"
)

// logFlags are the settings of every process that stays.
type logFlags struct{ level, format string }

func (l *logFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&l.level, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&l.format, "log-format", "text", "text or json")
	flags.String(flagConfig, "", "YAML file with settings: the names of the flags are its keys")
}

// logger is the log of a process that stays. It begins with the variables of the environment that look like settings and are none.
func (l *logFlags) logger(cmd *cobra.Command) (*slog.Logger, error) {
	log, err := l.open(cmd.ErrOrStderr())
	if err == nil {
		for _, s := range strangers(cmd.Root()) {
			log.Warn(noSetting, "key", s.variable, "note", s.hint())
		}
	}
	return log, err
}

func (l *logFlags) open(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, &usageError{&assembly.SettingError{Name: "log-level", Value: l.level, Want: "want debug, info, warn or error"}}
	}
	opts := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, &usageError{&assembly.SettingError{Name: "log-format", Value: l.format, Want: "want text or json"}}
}

// quotaFlag is --quota volumes=10,snapshots=10,gigabytes=1000.
type quotaFlag struct {
	limits records.Limits
	said   []string // names of limits
}

func (q *quotaFlag) String() string {
	return fmt.Sprintf("volumes=%d,snapshots=%d,gigabytes=%d", q.limits.Volumes, q.limits.Snapshots, q.limits.GiB)
}
func (q *quotaFlag) Type() string { return "limits" }

func (q *quotaFlag) Set(s string) error {
	limits := q.limits
	for part := range strings.SplitSeq(s, ",") {
		name, text, ok := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil || n < records.Unlimited {
			return fmt.Errorf("%q: want NAME=NUMBER, such as volumes=10; -1 is no limit", part)
		}
		if slices.Contains(q.said, name) {
			return fmt.Errorf("%q: %s was said before: want it once", part, name)
		}
		q.said = append(q.said, name)
		switch name {
		case "volumes":
			limits.Volumes = n
		case "snapshots":
			limits.Snapshots = n
		case "gigabytes":
			limits.GiB = block.GiB(n)
		default:
			return fmt.Errorf("%q: there is no limit %q, only volumes, snapshots and gigabytes (GiB)", part, name)
		}
	}
	q.limits = limits
	return nil
}

// backendsFlag is --backend NAME=KIND[:k=v,…], once for each backend.
type backendsFlag struct{ specs []string }

func (b *backendsFlag) String() string { return strings.Join(b.specs, " ") }
func (b *backendsFlag) Type() string   { return "NAME=KIND[:k=v,…]" }

func (b *backendsFlag) Set(s string) error {
	b.specs = append(b.specs, s)
	return nil
}

// Append, Replace and GetSlice make it a flag that can be repeated in a file, too.
func (b *backendsFlag) Append(s string) error    { return b.Set(s) }
func (b *backendsFlag) Replace(s []string) error { b.specs = s; return nil }
func (b *backendsFlag) GetSlice() []string       { return b.specs }

const readyText = "ready %s\n"

func common(cmd *cobra.Command, l *logFlags, ready func(assembly.Served)) (assembly.Common, error) {
	log, err := l.logger(cmd)
	return assembly.Common{Log: log, Ready: ready, Release: Release}, err
}

func upCommand() *cobra.Command {
	var logs logFlags
	cfg := assembly.UpConfig{}
	quota := quotaFlag{limits: admit.DefaultLimits}
	var backends backendsFlag
	cmd := &cobra.Command{
		Use: "up --data DIR", Short: "Start everything in one process: NATS, API node, volume node and the export server", Args: cobra.NoArgs,
		Example: "  scoria up --data ./data\n  scoria up --data ./data --backend fast=file:path=/srv/fast --backend large=file:path=/srv/large",
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Data, "data", "", "directory that everything is kept in")
	flags.StringVar(&cfg.Listen, "listen", apinode.DefaultListen, "HOST:PORT of the HTTP server")
	flags.StringVar(&cfg.NATSListen, "nats-listen", assembly.DefaultNATSListen, "HOST:PORT of the NATS server; empty: only for this process")
	apiFlags(flags, &quota, &cfg.AttachWait)
	nodeFlags(flags, &cfg.Volume, &backends)
	logs.register(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg.Limits, cfg.Volume.Backends = quota.limits, backends.specs
		var err error
		cfg.Common, err = common(cmd, &logs, func(at assembly.Served) {
			fmt.Fprintf(cmd.OutOrStdout(), readyText, at.URL)
			welcome(cmd.OutOrStdout(), at, cfg.Data)
		})
		if err != nil {
			return err
		}
		return settingsFirst(assembly.Up(cmd.Context(), cfg))
	}
	return cmd
}

// welcome says what to type next.
func welcome(w io.Writer, at assembly.Served, data string) {
	fmt.Fprintf(w, "\n  HTTP     %s/v3   NATS %s   metrics %s/metrics   data %s\n\nTry next, in another terminal:\n",
		at.URL, cmp.Or(at.NATS, "for this process only"), at.Metrics, data)
	endpoint := ""
	if at.URL != defaultEndpoint {
		endpoint = " --endpoint " + at.URL
	}
	for _, command := range []string{"volume create --size 1 --name first", "volume attach VOLUME", "operation watch OPERATION"} {
		fmt.Fprintf(w, "  %s %s%s\n", os.Args[0], command, endpoint)
	}
	fmt.Fprintln(w, "The first prints the ID of the VOLUME; `operation list` that of each OPERATION.")
}

func apiFlags(flags *pflag.FlagSet, quota *quotaFlag, attachWait *time.Duration) {
	flags.Var(quota, "quota", "limits of projects without their own; -1 is no limit")
	flags.Var(newDuration(attachWait, time.Minute, time.Second, time.Hour), "attach-wait", "how long changes of attachments wait for their operation before they answer 503 with its ID")
}

func replicasFlag(flags *pflag.FlagSet, replicas *int) {
	flags.Var(newCount(replicas, 1, 1, 5, "want 1, 3 or 5 copies"), "replicas", "copies of the stream, if this node makes it: 1, 3 or 5")
}

func nodeFlags(flags *pflag.FlagSet, v *assembly.VolumeConfig, backends *backendsFlag) {
	flags.StringVar(&v.Name, "name", "", "name of the node; default: the one that its state directory keeps, else the name of the host")
	flags.StringVar(&v.Metrics, "metrics", assembly.DefaultMetrics, "HOST:PORT of the metrics")
	flags.Var(backends, "backend", "a backend, such as local=file:path=DIR or fake=null; repeatable, in SCORIA_BACKEND with spaces between")
	flags.Var(newCount(&v.Workers, intake.DefaultWorkers, 1, 10_000, "want 1 to 10000 operations at a time"), "workers", "operations that are in work at the same time, for each backend, besides those that wait to try a step again")
	flags.Var(newDuration(&v.Lease, intake.DefaultLease, time.Second, 24*time.Hour), "lease", "after this time without a sign of its worker, another may take an operation over")
}

// settingsFirst makes the error of a setting a wrong call.
func settingsFirst(err error) error {
	if assembly.IsSetting(err) {
		return &usageError{err}
	}
	return err
}

func apiNodeCommand() *cobra.Command {
	var logs logFlags
	cfg := assembly.APINodeConfig{}
	quota := quotaFlag{limits: admit.DefaultLimits}
	cmd := &cobra.Command{Use: "api-node --nats URL", Short: "Start an API node", Args: cobra.NoArgs}
	flags := cmd.Flags()
	flags.StringVar(&cfg.NATS, "nats", "", "URL of the NATS servers")
	flags.StringVar(&cfg.Listen, "listen", apinode.DefaultListen, "HOST:PORT of the HTTP server")
	flags.StringVar(&cfg.Metrics, "metrics", assembly.DefaultMetrics, "HOST:PORT of the metrics")
	replicasFlag(flags, &cfg.Replicas)
	apiFlags(flags, &quota, &cfg.AttachWait)
	logs.register(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg.Limits = quota.limits
		var err error
		if cfg.Common, err = common(cmd, &logs, func(at assembly.Served) {
			fmt.Fprintf(cmd.OutOrStdout(), readyText+"metrics %s/metrics\n", at.URL, at.Metrics)
		}); err != nil {
			return err
		}
		return settingsFirst(assembly.APINode(cmd.Context(), cfg))
	}
	return cmd
}

func volumeNodeCommand() *cobra.Command {
	var logs logFlags
	cfg := assembly.VolumeNodeConfig{}
	var backends backendsFlag
	cmd := &cobra.Command{
		Use: "volume-node --nats URL --name NODE --state DIR --backend NAME=KIND", Short: "Start a volume node", Args: cobra.NoArgs,
		Long: `Start a volume node. Several processes with the same name and state directory are one node and share its work.

Beside a "scoria up" on the same machine, --metrics must be another address than that one's; a process that is to share the work of its node
has the node's name and --state DATA/node, where DATA is the directory of up.`,
		Example: "  scoria volume-node --nats nats://127.0.0.1:4222 --name n1 --state /var/lib/scoria --backend local=file:path=/srv/volumes\n" +
			"  scoria volume-node --nats nats://127.0.0.1:4222 --name n1 --state ./data/node --backend local=file:path=./data/volumes --metrics 127.0.0.1:9777",
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.NATS, "nats", "", "URL of the NATS servers")
	flags.StringVar(&cfg.Volume.State, "state", "", "directory of the node's identity and its export server")
	replicasFlag(flags, &cfg.Replicas)
	nodeFlags(flags, &cfg.Volume, &backends)
	logs.register(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg.Volume.Backends = backends.specs
		var err error
		if cfg.Common, err = common(cmd, &logs, func(at assembly.Served) { fmt.Fprintf(cmd.OutOrStdout(), readyText, at.URL) }); err != nil {
			return err
		}
		return settingsFirst(assembly.VolumeNode(cmd.Context(), cfg))
	}
	return cmd
}

func exportServerCommand() *cobra.Command {
	var logs logFlags
	var state string
	cmd := &cobra.Command{
		Use: "export-server --state DIR", Short: "Serve the attached volumes of a node to hosts; volume nodes start it where it does not run", Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&state, "state", "", "state directory of the node")
	logs.register(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if state == "" {
			return &usageError{&assembly.SettingError{Name: "state", Value: state, Want: "want the state directory of the node"}}
		}
		log, err := logs.logger(cmd)
		if err != nil {
			return err
		}
		return server.Run(cmd.Context(), server.Config{StateDir: state, Log: log})
	}
	return cmd
}

package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scoria-storage/scoria/messages/records"
)

// command finds the command in the whole tree, which the file of settings is checked against, and parses its flags.
func command(t *testing.T, args ...string) *cobra.Command {
	t.Helper()
	cmd, rest, err := newRoot().Find(args)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scoria.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func requireFlag(t *testing.T, cmd *cobra.Command, name, want string) {
	t.Helper()
	if got := cmd.Flags().Lookup(name).Value.String(); got != want {
		t.Errorf("--%s is %q, want %q", name, got, want)
	}
}

func TestFlagGoesBeforeEnvironmentBeforeFile(t *testing.T) {
	file := configFile(t, "name: file\nmetrics: file:1\nlisten: file:2\nworkers: 7\nlease: 5s\n")
	t.Setenv("SCORIA_NAME", "environment")
	t.Setenv("SCORIA_METRICS", "environment:1")
	cmd := command(t, "up", "--name", "flag", "--config", file)
	if err := settle(cmd); err != nil {
		t.Fatal(err)
	}
	requireFlag(t, cmd, "name", "flag")
	requireFlag(t, cmd, "metrics", "environment:1")
	requireFlag(t, cmd, "listen", "file:2")
	requireFlag(t, cmd, "workers", "7")
	requireFlag(t, cmd, "lease", "5s")
	requireFlag(t, cmd, "log-level", "info") // nobody said it
}

func TestTheFileMayBeNamedInTheEnvironment(t *testing.T) {
	t.Setenv("SCORIA_CONFIG", configFile(t, "name: n7"))
	cmd := command(t, "volume-node")
	if err := settle(cmd); err != nil {
		t.Fatal(err)
	}
	requireFlag(t, cmd, "name", "n7")
}

func TestWhatCanBeRepeatedIsAList(t *testing.T) {
	for name, from := range map[string]func(t *testing.T) *cobra.Command{
		"flags": func(t *testing.T) *cobra.Command {
			return command(t, "up", "--backend", "a=null", "--backend", "b=null")
		},
		"environment": func(t *testing.T) *cobra.Command {
			t.Setenv("SCORIA_BACKEND", "a=null  b=null")
			return command(t, "up")
		},
		"file": func(t *testing.T) *cobra.Command {
			return command(t, "up", "--config", configFile(t, "backend:\n- a=null\n- b=null\n"))
		},
		"file, one line": func(t *testing.T) *cobra.Command {
			return command(t, "up", "--config", configFile(t, "backend: [a=null, b=null]"))
		},
		"flags before environment": func(t *testing.T) *cobra.Command {
			t.Setenv("SCORIA_BACKEND", "c=null")
			return command(t, "up", "--backend", "a=null", "--backend", "b=null")
		},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := from(t)
			if err := settle(cmd); err != nil {
				t.Fatal(err)
			}
			got := cmd.Flags().Lookup("backend").Value.(pflag.SliceValue).GetSlice()
			if want := []string{"a=null", "b=null"}; !slices.Equal(got, want) {
				t.Errorf("backends are %q, want %q", got, want)
			}
		})
	}
}

func TestSpacesInAValueStay(t *testing.T) {
	t.Setenv("SCORIA_DATA", "/srv/my  data ")
	cmd := command(t, "up")
	if err := settle(cmd); err != nil {
		t.Fatal(err)
	}
	requireFlag(t, cmd, "data", "/srv/my  data ")
}

// One file serves several commands: what is a setting of another one is passed over.
func TestASettingOfAnotherCommandIsPassedOver(t *testing.T) {
	t.Parallel()
	cmd := command(t, "api-node", "--config", configFile(t, "backend: [a=null]\nlisten: h:1\n"))
	if err := settle(cmd); err != nil {
		t.Fatal(err)
	}
	requireFlag(t, cmd, "listen", "h:1")
}

// The name of a new volume is not the name of a node.
func TestCommandsForPeopleShareFewSettings(t *testing.T) {
	t.Setenv("SCORIA_NAME", "n1")
	t.Setenv("SCORIA_PROJECT", "mine")
	cmd := command(t, "volume", "create")
	if err := settle(cmd); err != nil {
		t.Fatal(err)
	}
	requireFlag(t, cmd, "name", "")
	requireFlag(t, cmd, "project", "mine")
}

func TestWrongSettingsAreRefusedWithWhereTheyWereSaid(t *testing.T) {
	for name, c := range map[string]struct {
		env, file string
		want      []string
		not       string
	}{
		"environment":          {env: "many", want: []string{"environment variable SCORIA_WORKERS", "setting workers", `value "many"`}, not: "flag"},
		"value in the file":    {file: "listen: h:1\nworkers: many\n", want: []string{"line 2", "setting workers", `value "many"`}, not: "flag"},
		"unknown key":          {file: "a: 1\nlisten: h:1\nb: 2\n", want: []string{`line 1: there is no setting "a"`, `line 3: there is no setting "b"`}},
		"file in the file":     {file: "config: x\n", want: []string{`no setting "config"`}},
		"list for one value":   {file: "listen: [a, b]\n", want: []string{"setting listen", "want one value"}},
		"map for a value":      {file: "listen: {a: b}\n", want: []string{"line 1", "want a value or a list of values"}},
		"list in a list":       {file: "backend:\n- [a]\n", want: []string{"line 2", "want a plain value"}},
		"not YAML":             {file: "a: [", want: []string{"scoria.yaml", "want lines such as"}},
		"no lease":             {file: "lease: 0s\n", want: []string{"line 1", `setting lease: value "0s": want a time from 1s to 24h`}},
		"negative lease":       {file: "lease: -5s\n", want: []string{`value "-5s": want a time from 1s to 24h`}},
		"word for a lease":     {file: "lease: soon\n", want: []string{`value "soon": want a time from 1s to 24h`}, not: "time:"},
		"long lease":           {file: "lease: 25h\n", want: []string{"want a time from 1s to 24h"}},
		"no wait":              {file: "attach-wait: 0s\n", want: []string{"setting attach-wait", "want a time from 1s to 1h"}},
		"no workers":           {env: "0", want: []string{`setting workers: value "0": want 1 to 10000 operations`}},
		"negative workers":     {env: "-3", want: []string{`value "-3": want 1 to 10000 operations`}},
		"many workers":         {env: "99999999999999999999", want: []string{"want 1 to 10000 operations"}, not: "strconv"},
		"what is no setting":   {file: "size: 3\nno-descriptions: true\ncase: x\n", want: []string{`no setting "size"`, `no setting "no-descriptions"`, `no setting "case"`}},
		"two documents":        {file: "name: a\n---\nname: b\n", want: []string{"line 2: a second document begins here"}},
		"twice":                {file: "name: a\nname: b\n", want: []string{`line 2: "name" stands in line 1 already`}},
		"twice in a table":     {file: "workers: 7\nquota:\n  volumes: 1\n  volumes: 2\n", want: []string{"scoria.yaml", `line 4: "volumes" stands in line 3 already`}},
		"twice in a list":      {file: "backend:\n- {a: 1, a: 2}\n", want: []string{`line 2: "a" stands in line 2 already`}},
		"nearly a setting":     {file: "wokers: 7\n", want: []string{`line 1: there is no setting "wokers", but "workers"`}},
		"a list of them":       {file: "- name: a\n", want: []string{"line 1: want lines such as"}, not: "yaml."},
		"a text":               {file: "name\n", want: []string{"line 1: want lines such as"}, not: "yaml."},
		"unknown limit":        {file: "quota:\n  disks: 5\n", want: []string{"setting quota", `there is no limit "disks"`}},
		"limit twice":          {file: "quota: volumes=1, volumes=2\n", want: []string{"line 1", `setting quota: value "volumes=1, volumes=2"`, "volumes was said before: want it once"}},
		"limits in limits":     {file: "quota: {volumes: [1]}\n", want: []string{"setting quota", "want a plain value"}},
		"duration without one": {file: "lease: 30\n", want: []string{"setting lease", "missing unit"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"up"}
			if c.env != "" {
				t.Setenv("SCORIA_WORKERS", c.env)
			}
			if c.file != "" {
				args = append(args, "--config", configFile(t, c.file))
			}
			err := settle(command(t, args...))
			if err == nil {
				t.Fatalf("%q was taken", c.env+c.file)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("settle = %v, want %q in it", err, want)
				}
			}
			if c.not != "" && strings.Contains(err.Error(), c.not) {
				t.Errorf("settle = %v, want no word of a %s: it was said elsewhere", err, c.not)
			}
		})
	}
}

// The command that runs has a flag --help of its own.
func TestHelpIsNoSetting(t *testing.T) {
	t.Parallel()
	_, stderr, status := scoria(t, "up", "--config", configFile(t, "help: true\n"))
	if want := `line 1: there is no setting "help"`; status != 2 || !strings.Contains(stderr, want) {
		t.Errorf("status %d, said %q, want %q", status, stderr, want)
	}
}

func TestLimitsMayBeATable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"quota: {volumes: 5, gigabytes: -1}\n", "quota:\n  volumes: 5\n  gigabytes: -1\n", "quota: volumes=5,gigabytes=-1\n"} {
		cmd := command(t, "up", "--config", configFile(t, text))
		if err := settle(cmd); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		requireFlag(t, cmd, "quota", "volumes=5,snapshots=10,gigabytes=-1")
	}
}

func TestAnEmptyFileSaysNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing yet\n", "\n\n"} {
		if err := settle(command(t, "up", "--config", configFile(t, text))); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAnEmptyProjectIsRefused(t *testing.T) {
	t.Setenv("SCORIA_PROJECT", "")
	for _, command := range []string{"volume list", "operation list", "volume show v1", "verify"} {
		_, stderr, status := scoria(t, strings.Split(command, " ")...)
		if want := "scoria: environment variable SCORIA_PROJECT: setting project: value \"\": want 1 to 64 letters, digits, _ and -\n"; status != 2 || stderr != want {
			t.Errorf("%s: status %d, said %q, want %q", command, status, stderr, want)
		}
	}
}

// What is found to be wrong only at the start, such as an address, is refused with where it was said, too.
func TestWhatIsRefusedAtTheStartIsSaidWithItsPlace(t *testing.T) {
	t.Setenv("SCORIA_NATS_LISTEN", "nowhere")
	dir := t.TempDir()
	file := configFile(t, "name: n1\nbackend: 3\nmetrics: 127.0.0.1:17001\n")
	for place, c := range map[string]struct {
		args []string
		want string
	}{
		"file":        {[]string{"--nats-listen", ""}, "configuration file " + file + ", line 2: setting backend: value \"3\": "},
		"environment": {nil, "environment variable SCORIA_NATS_LISTEN: setting nats-listen: value \"nowhere\": "},
		"flag":        {[]string{"--nats-listen", "here"}, "scoria: setting nats-listen: value \"here\": "},
		"two":         {[]string{"--nats-listen", "127.0.0.1:17001"}, ", line 3: setting metrics: value \"127.0.0.1:17001\": the setting nats-listen has this address"},
	} {
		_, stderr, status := scoria(t, append([]string{"up", "--data", filepath.Join(dir, "d"), "--listen", "127.0.0.1:0", "--config", file}, c.args...)...)
		if status != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: status %d, said %q, want %q", place, status, stderr, c.want)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{"1s": time.Second, "1m": time.Minute, "1h": time.Hour, "24h": 24 * time.Hour, "1h1m": 61 * time.Minute, "1m10s": 70 * time.Second,
		"0s": 0, "1h0m1s": time.Hour + time.Second, "10m": 10 * time.Minute, "100ms": 100 * time.Millisecond} {
		if got := short(d); got != want {
			t.Errorf("short(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestQuotaFlag(t *testing.T) {
	t.Parallel()
	const before = "volumes=10,snapshots=20,gigabytes=30"
	for text, want := range map[string]string{
		"volumes=1":                            "volumes=1,snapshots=20,gigabytes=30",
		"volumes=-1, gigabytes=0":              "volumes=-1,snapshots=20,gigabytes=0",
		"gigabytes=5,snapshots=6,volumes=7":    "volumes=7,snapshots=6,gigabytes=5",
		"":                                     "error want NAME=NUMBER",
		"volumes":                              "error want NAME=NUMBER",
		"volumes=":                             "error want NAME=NUMBER",
		"volumes=-2":                           "error -1 is no limit",
		"volumes=1,disks=2":                    `error there is no limit "disks"`,
		"volumes=1,gigabytes=2,volumes=1":      `error "volumes=1": volumes was said before: want it once`,
		"volumes=1,,":                          "error want NAME=NUMBER",
		"volumes=99999999999999999999":         "error want NAME=NUMBER",
		"volumes=1,snapshots=x,gigabytes=1000": "error want NAME=NUMBER",
	} {
		q := quotaFlag{limits: records.Limits{Volumes: 10, Snapshots: 20, GiB: 30}}
		err := q.Set(text)
		message, refused := strings.CutPrefix(want, "error ")
		switch {
		case refused && (err == nil || !strings.Contains(err.Error(), message)):
			t.Errorf("Set(%q) = %v, want %q in it", text, err, message)
		case refused && q.String() != before:
			t.Errorf("Set(%q) was refused and left %s", text, q.String())
		case !refused && (err != nil || q.String() != want):
			t.Errorf("Set(%q) = %v and left %s, want %s", text, err, q.String(), want)
		}
	}
}

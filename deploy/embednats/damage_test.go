package embednats_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/integration/harness"
)

// lived is a directory of a server with a stream of some blocks, of which much was replaced, removed and delivered.
type lived struct {
	// killed is as it was while the server ran, ended as the server left it.
	killed, ended string
	last          uint64
}

const streamDir = "jetstream/$G/streams/S"

// live makes a directory by random writes and removals.
func live(t *testing.T) lived {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := lived{killed: filepath.Join(t.TempDir(), "killed"), ended: t.TempDir()}
	srv := start(t, embednats.Config{Dir: l.ended})
	js := connect(t, srv)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, MaxMsgsPerSubject: 1, AllowRollup: true})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "d", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1})
	if err != nil {
		t.Fatal(err)
	}
	taking, err := consumer.Consume(func(m jetstream.Msg) { _ = m.Ack() })
	if err != nil {
		t.Fatal(err)
	}
	defer taking.Stop()
	for range 2500 {
		subject := fmt.Sprintf("s.%d", random.IntN(2000))
		ack, err := js.Publish(t.Context(), subject, bytes.Repeat([]byte{byte(random.Uint32())}, random.IntN(16<<10)))
		if err != nil {
			t.Fatal(err)
		}
		l.last = ack.Sequence
		switch random.IntN(10) {
		case 0:
			err = stream.DeleteMsg(t.Context(), l.last)
		case 1:
			err = stream.Purge(t.Context(), jetstream.WithPurgeSubject(subject))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	state := filepath.Join(l.ended, streamDir, "obs", "d", "o.dat")
	harness.Eventually(t, 20*time.Second, "the consumer's state is written", func() bool {
		info, err := consumer.Info(t.Context())
		return err == nil && info.NumPending == 0 && info.NumAckPending == 0 && changed(state) > time.Second
	})
	copyDir(t, l.ended, l.killed)
	srv.Shutdown()
	return l
}

func changed(path string) time.Duration {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return time.Since(info.ModTime())
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// blocks of a stream, oldest first.
func blocks(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	for i := range 100 {
		path := filepath.Join(dir, streamDir, "msgs", fmt.Sprintf("%d.blk", i))
		if _, err := os.Stat(path); err == nil {
			all = append(all, path)
		}
	}
	if len(all) < 2 {
		t.Fatalf("%d blocks, want several", len(all))
	}
	return all
}

func change(t *testing.T, path string, how func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, how(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func scribble(data []byte) []byte {
	copy(data[len(data)/2:], "damaged, damaged, damaged, damaged, damaged, damaged, damaged")
	return data
}

// begin starts a server on the directory and says how the stream ends.
func begin(t *testing.T, cfg embednats.Config, log *slog.Logger) (last uint64, err error) {
	t.Helper()
	srv, err := embednats.Start(t.Context(), cfg, log)
	if err != nil {
		return 0, err
	}
	defer srv.Shutdown()
	stream, err := connect(t, srv).Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// What was acknowledged and cannot be read any more, or is gone, keeps the server from starting, which would drop it and what follows without a
// word. Nothing is changed by that. What was being written when the server ended does not.
func TestAServerDoesNotStartOnADamagedStream(t *testing.T) {
	t.Parallel()
	l := live(t)
	all := blocks(t, l.killed)
	first, last := filepath.Base(all[0]), filepath.Base(all[len(all)-1])
	msgs := func(dir, name string) string { return filepath.Join(dir, streamDir, "msgs", name) }
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		// refused is what the refusal of a start after a kill has in it, inOrder after an end in order; empty: it starts.
		refused, inOrder string
	}{
		"none":                          {func(*testing.T, string) {}, "", ""},
		"the middle of the last block":  {func(t *testing.T, dir string) { change(t, msgs(dir, last), scribble) }, last + " cannot be read", last + " cannot be read"},
		"the middle of the first block": {func(t *testing.T, dir string) { change(t, msgs(dir, first), scribble) }, first + " cannot be read", first + " cannot be read"},
		"the first block is cut": {func(t *testing.T, dir string) {
			change(t, msgs(dir, first), func(d []byte) []byte { return d[:len(d)-10] })
		}, "no whole record", "no whole record"},
		"the last block is half": {func(t *testing.T, dir string) {
			change(t, msgs(dir, last), func(d []byte) []byte { return d[:len(d)/2] })
		}, "are gone", "are gone"},
		"the last block is empty":   {func(t *testing.T, dir string) { change(t, msgs(dir, last), func([]byte) []byte { return nil }) }, "are gone", "are gone"},
		"the last block is missing": {func(t *testing.T, dir string) { remove(t, msgs(dir, last)) }, "are gone", "are gone"},
		"a record was being written": {func(t *testing.T, dir string) {
			change(t, msgs(dir, last), func(d []byte) []byte { return append(d, d[:40]...) })
		}, "", ""},
		"room for one was being made": {func(t *testing.T, dir string) {
			change(t, msgs(dir, last), func(d []byte) []byte { return append(d, make([]byte, 4000)...) })
		}, "", ""},
		"the description of the stream": {func(t *testing.T, dir string) { change(t, filepath.Join(dir, streamDir, "meta.inf"), scribble) }, "cannot use its stream S", "cannot use its stream S"},
		"no description of the stream":  {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, streamDir, "meta.inf")) }, "cannot use its stream S", "cannot use its stream S"},
		"the state of the consumer": {func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, streamDir, "obs/d/o.dat"), func(d []byte) []byte { return []byte("damaged") })
		}, "o.dat is damaged: remove it", "o.dat is damaged: remove it"},
		"no state of the consumer": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, streamDir, "obs/d/o.dat")) }, "", ""},
		"the last block with who knows it": {func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, streamDir, "obs/d/o.dat"))
			change(t, msgs(dir, last), func([]byte) []byte { return nil })
		}, "", "are gone"},
	} {
		for from, want := range map[string]string{l.killed: c.refused, l.ended: c.inOrder} {
			t.Run(name+", "+map[string]string{l.killed: "killed", l.ended: "ended"}[from], func(t *testing.T) {
				t.Parallel()
				dir, before := t.TempDir(), t.TempDir()
				copyDir(t, from, dir)
				c.damage(t, dir)
				copyDir(t, dir, before)
				end, err := begin(t, embednats.Config{Dir: dir}, nil)
				if want == "" {
					if err != nil || name != "the last block with who knows it" && end != l.last {
						t.Errorf("the stream ends at %d (%v), want %d", end, err, l.last)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("start = %v, want %q in it", err, want)
				}
				for _, file := range append(blocks(t, l.killed), filepath.Join(l.killed, streamDir, "obs/d/o.dat")) {
					rel, _ := filepath.Rel(l.killed, file)
					was, errWas := os.ReadFile(filepath.Join(before, rel))
					is, errIs := os.ReadFile(filepath.Join(dir, rel))
					if !bytes.Equal(was, is) || (errWas == nil) != (errIs == nil) {
						t.Errorf("%s was changed", rel)
					}
				}
			})
		}
	}
}

// A stream from which all or the last was removed is whole, however often its server starts.
func TestAStreamWithoutItsLastMessagesIsWhole(t *testing.T) {
	t.Parallel()
	for name, empty := range map[string]func(t *testing.T, s jetstream.Stream, last uint64) error{
		"purged": func(t *testing.T, s jetstream.Stream, _ uint64) error { return s.Purge(t.Context()) },
		"the last is purged": func(t *testing.T, s jetstream.Stream, _ uint64) error {
			return s.Purge(t.Context(), jetstream.WithPurgeSubject("s.last"))
		},
		"deleted, first to last": func(t *testing.T, s jetstream.Stream, last uint64) (err error) {
			for seq := uint64(1); seq <= last && err == nil; seq++ {
				err = s.DeleteMsg(t.Context(), seq)
			}
			return err
		},
		"deleted, last to first": func(t *testing.T, s jetstream.Stream, last uint64) (err error) {
			for seq := last; seq > 0 && err == nil; seq-- {
				err = s.DeleteMsg(t.Context(), seq)
			}
			return err
		},
		"expired": func(t *testing.T, s jetstream.Stream, _ uint64) error {
			harness.Eventually(t, 30*time.Second, "all have expired", func() bool {
				info, err := s.Info(t.Context())
				return err == nil && info.State.Msgs == 0
			})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, cfg := t.TempDir(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}
			if name == "expired" {
				cfg.MaxAge = time.Second
			}
			srv := start(t, embednats.Config{Dir: dir})
			js := connect(t, srv)
			stream, err := js.CreateStream(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			var last uint64
			for i := range 40 {
				subject := fmt.Sprintf("s.%d", i)
				if i == 39 {
					subject = "s.last"
				}
				ack, err := js.Publish(t.Context(), subject, make([]byte, 512<<10))
				if err != nil {
					t.Fatal(err)
				}
				last = ack.Sequence
			}
			if err := empty(t, stream, last); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, 30*time.Second, "what was purged is removed", func() bool {
				_, err := os.Stat(filepath.Join(dir, streamDir, "__msgs__"))
				return os.IsNotExist(err)
			})
			killed := filepath.Join(t.TempDir(), "killed")
			copyDir(t, dir, killed)
			srv.Shutdown()
			for _, dir := range []string{dir, killed, dir, killed} {
				if end, err := begin(t, embednats.Config{Dir: dir}, nil); err != nil || end != last {
					t.Errorf("the stream ends at %d (%v), want %d", end, err, last)
				}
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// Who accepts the loss gets what is left, once, and the log says what is gone.
func TestALossCanBeAccepted(t *testing.T) {
	t.Parallel()
	l := live(t)
	last := blocks(t, l.killed)
	change(t, last[len(last)-1], scribble)
	var damaged *embednats.DamageError
	if _, err := begin(t, embednats.Config{Dir: l.killed}, nil); !errors.As(err, &damaged) || len(damaged.Found) != 1 {
		t.Fatalf("start = %v, want one damage", err)
	}
	var log bytes.Buffer
	end, err := begin(t, embednats.Config{Dir: l.killed, AcceptLoss: true}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil || end == 0 || end >= l.last {
		t.Errorf("the stream ends at %d (%v), want less than %d", end, err, l.last)
	}
	if !strings.Contains(log.String(), damaged.Found[0]) {
		t.Errorf("log %s, want %q in it", &log, damaged.Found[0])
	}
	if again, err := begin(t, embednats.Config{Dir: l.killed}, nil); err != nil || again < end {
		t.Errorf("the next start: ends at %d, %v, want %d", again, err, end)
	}
}

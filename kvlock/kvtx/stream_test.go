package kvtx_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func TestStreamWithOtherSettingsIsRefusedByField(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*jetstream.StreamConfig){
		"subjects":                  func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] },
		"retention":                 func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"storage":                   func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"discard":                   func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew },
		"max_msgs_per_subject":      func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 },
		"max_msgs":                  func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 },
		"max_bytes":                 func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 30 },
		"max_msg_size":              func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 },
		"max_age":                   func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"no_ack":                    func(c *jetstream.StreamConfig) { c.NoAck, c.AllowAtomicPublish = true, false },
		"allow_rollup_hdrs":         func(c *jetstream.StreamConfig) { c.AllowRollup = false },
		"allow_direct":              func(c *jetstream.StreamConfig) { c.AllowDirect = true },
		"allow_msg_ttl":             func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false },
		"allow_atomic":              func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"subject_delete_marker_ttl": func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Hour },
		"deny_purge":                func(c *jetstream.StreamConfig) { c.DenyPurge, c.AllowRollup = true, false },
		"republish": func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		},
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			js := connect(t, serve(t).ClientURL())
			good, err := kvtx.Ensure(ctx(t), js, kvtx.Config{Bucket: "good"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = good.Close() })
			cfg := good.Stream().CachedInfo().Config
			cfg.Name, cfg.Subjects = "KV_scoria", []string{"$KV.scoria.>", "op.scoria.>"}
			change(&cfg)
			if _, err := js.CreateStream(ctx(t), cfg); err != nil {
				t.Fatal(err)
			}
			for what, open := range map[string]func() (*kvtx.Store, error){
				"Ensure": func() (*kvtx.Store, error) { return kvtx.Ensure(ctx(t), js, kvtx.Config{}) },
				"Open":   func() (*kvtx.Store, error) { return kvtx.Open(ctx(t), js, kvtx.Config{}) },
			} {
				_, err := open()
				var differs *kvtx.StreamError
				if !errors.As(err, &differs) || !errors.Is(err, kvtx.ErrStream) || differs.Field != field && field != "deny_purge" {
					t.Errorf("%s = %v, want a StreamError that names %s", what, err, field)
				}
			}
		})
	}
}

func TestEnsureKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s := open(t, srv.ClientURL())
	r := commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0) })
	again := open(t, srv.ClientURL())
	if e := get(t, again, "k.a"); e.Revision != r.Revision("k.a") {
		t.Errorf("after a second Ensure k.a = %+v", e)
	}
	if again.Bucket() != kvtx.DefaultBucket || again.DispatchSubject("req", "b") != "op.scoria.req.b" {
		t.Errorf("bucket %q, dispatch %q", again.Bucket(), again.DispatchSubject("req", "b"))
	}
}

func TestOpenOfMissingStreamFails(t *testing.T) {
	t.Parallel()
	_, err := kvtx.Open(ctx(t), connect(t, serve(t).ClientURL()), kvtx.Config{})
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("Open = %v, want ErrStreamNotFound", err)
	}
}

func TestConfigNamesTheField(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]kvtx.Config{
		"Bucket": {Bucket: "a.b"}, "Replicas": {Replicas: 9}, "MarkerTTL": {MarkerTTL: time.Minute},
	} {
		if err := cfg.Validate(); !errors.Is(err, kvtx.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("Validate(%+v) = %v, want ErrInvalid that names %s", cfg, err, field)
		}
	}
	if err := (kvtx.Config{}).Validate(); err != nil {
		t.Errorf("Validate(zero) = %v", err)
	}
}

// TestBucketReplacedBehindOurBackIsNoticed: a stream that was deleted and made again is refused, whatever is written first.
func TestBucketReplacedBehindOurBackIsNoticed(t *testing.T) {
	t.Parallel()
	for name, stage := range map[string]func(*kvtx.Tx, kvtx.Revision){
		"single": func(tx *kvtx.Tx, rev kvtx.Revision) { tx.Put("k.a", []byte("2"), rev) },
		"new":    func(tx *kvtx.Tx, _ kvtx.Revision) { tx.Put("k.new", []byte("2"), 0) },
		"batch":  func(tx *kvtx.Tx, _ kvtx.Revision) { tx.Put("k.new", []byte("2"), 0); tx.Put("k.new2", []byte("2"), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t)
			s := open(t, srv.ClientURL())
			commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.a", []byte("1"), 0); tx.Put("k.b", []byte("1"), 0) })
			r := commit(t, s, func(tx *kvtx.Tx) { tx.Put("k.b", []byte("1"), get(t, s, "k.b").Revision) })
			js := connect(t, srv.ClientURL())
			if err := js.DeleteStream(ctx(t), "KV_scoria"); err != nil {
				t.Fatal(err)
			}
			open(t, srv.ClientURL())
			var tx kvtx.Tx
			stage(&tx, r.Revision("k.a"))
			if _, err := s.Commit(ctx(t), &tx); !errors.Is(err, kvtx.ErrStreamReplaced) {
				t.Errorf("Commit in a stream made again = %v, want ErrStreamReplaced", err)
			}
		})
	}
}

func TestSettingsChangedBehindOurBackAreNamed(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	s := open(t, srv.ClientURL())
	js := connect(t, srv.ClientURL())
	// As CreateOrUpdateKeyValue does it.
	cfg := s.Stream().CachedInfo().Config
	cfg.AllowAtomicPublish = false
	if _, err := js.UpdateStream(ctx(t), cfg); err != nil {
		t.Fatal(err)
	}
	var tx kvtx.Tx
	tx.Put("k.a", nil, 0)
	tx.Put("k.b", nil, 0)
	_, err := s.Commit(ctx(t), &tx)
	var differs *kvtx.StreamError
	if !errors.As(err, &differs) || differs.Field != "allow_atomic" {
		t.Errorf("Commit = %v, want a StreamError that names allow_atomic", err)
	}
}

// TestNoServerInTheBuild: a program that uses commits has no nats-server in it.
func TestNoServerInTheBuild(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		if strings.Contains(dep, "nats-server") || strings.Contains(dep, "client_golang") {
			t.Errorf("depends on %s", dep)
		}
	}
}

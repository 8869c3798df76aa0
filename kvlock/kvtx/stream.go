package kvtx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
)

// minServer is the oldest server whose atomic batches are right.
var minServer = [3]int{2, 15, 2}

// Ensure makes the stream if it is missing and opens it. An existing stream is verified, never changed.
func Ensure(ctx context.Context, js jetstream.JetStream, cfg Config, opts ...Option) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := checkServer(js.Conn()); err != nil {
		return nil, err
	}
	_, err := js.CreateStream(ctx, streamConfig(cfg))
	// Ours already, or another's: open looks at it field by field.
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil, fmt.Errorf("make stream KV_%s: %w", cfg.Bucket, err)
	}
	return Open(ctx, js, cfg, opts...)
}

// Open verifies the stream and the server. The error of a stream that differs is a [*StreamError] that names the field.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config, opts ...Option) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := checkServer(js.Conn()); err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, "KV_"+cfg.Bucket)
	if err != nil {
		return nil, fmt.Errorf("stream KV_%s: %w", cfg.Bucket, err)
	}
	info := stream.CachedInfo()
	if err := verify(info.Config, cfg); err != nil {
		return nil, err
	}
	o := optionsOf(opts)
	if o.mayPurge != nil {
		stream = gated{stream, o.mayPurge}
	}
	server, err := link.Over(js.Conn(), stream, o.ackTimeout)
	if err != nil {
		return nil, err
	}
	s := newStore(server, apiPrefix(js), info.Created, cfg, o)
	s.js, s.stream, s.nats = js, stream, server
	return s, nil
}

// Chance is what a store leaves to chance.
type Chance struct {
	// Jitter is how long it is waited before something is tried again: about the time that it is given.
	Jitter func(time.Duration) time.Duration
	// Turn is called where several goroutines may go on at the same moment, and their order matters: it returns when it is this one's turn.
	Turn func(context.Context)
	// Stream is the store's Stream.
	Stream jetstream.Stream
}

// OpenOn is Open on a server that is none behind a connection, and without chance: for the tests of this module. The store has no Conn,
// JetStream or Bare, and the Stream that it is given.
func OpenOn(ctx context.Context, server link.Server, cfg Config, chance Chance, opts ...Option) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	info, err := server.Info(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("stream KV_%s: %w", cfg.Bucket, err)
	}
	if err := verify(info.Config, cfg); err != nil {
		return nil, err
	}
	o := optionsOf(opts)
	o.jitter, o.turn = chance.Jitter, chance.Turn
	s := newStore(server, jetstream.DefaultAPIPrefix, info.Created, cfg, o)
	s.stream = chance.Stream
	return s, nil
}

func streamConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               "KV_" + cfg.Bucket,
		Description:        "records and dispatch of " + cfg.Bucket,
		Subjects:           subjects(cfg.Bucket),
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Discard:            jetstream.DiscardOld,
		MaxMsgsPerSubject:  1,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgSize:         -1,
		MaxConsumers:       -1,
		Replicas:           cfg.Replicas,
		AllowAtomicPublish: true,
		AllowMsgTTL:        true,
		AllowRollup:        true,
		AllowDirect:        false,
		Metadata:           cfg.Metadata,
	}
}

func subjects(bucket string) []string {
	return []string{"$KV." + bucket + ".>", "op." + bucket + ".>"}
}

// verify compares what a commit relies on. What a stream may differ in: description, metadata, placement, compression, consumer limits.
func verify(got jetstream.StreamConfig, cfg Config) error {
	want := streamConfig(cfg)
	differ := func(field string, got, want any) error {
		return &StreamError{Stream: "KV_" + cfg.Bucket, Field: field, Got: fmt.Sprint(got), Want: fmt.Sprint(want)}
	}
	gs, ws := slices.Sorted(slices.Values(got.Subjects)), slices.Sorted(slices.Values(want.Subjects))
	if !slices.Equal(gs, ws) {
		return differ("subjects", gs, ws)
	}
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"retention", got.Retention, want.Retention},
		{"storage", got.Storage, want.Storage},
		{"discard", got.Discard, want.Discard},
		{"discard_new_per_subject", got.DiscardNewPerSubject, false},
		{"max_msgs_per_subject", got.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"max_msgs", got.MaxMsgs, want.MaxMsgs},
		{"max_bytes", got.MaxBytes, want.MaxBytes},
		{"max_msg_size", got.MaxMsgSize, want.MaxMsgSize},
		{"max_age", got.MaxAge, time.Duration(0)},
		{"num_replicas", got.Replicas, want.Replicas},
		{"no_ack", got.NoAck, false},
		{"sealed", got.Sealed, false},
		{"deny_purge", got.DenyPurge, false},
		{"allow_rollup_hdrs", got.AllowRollup, true},
		{"allow_direct", got.AllowDirect, false},
		{"mirror_direct", got.MirrorDirect, false},
		{"allow_msg_ttl", got.AllowMsgTTL, true},
		{"allow_atomic", got.AllowAtomicPublish, true},
		{"subject_delete_marker_ttl", got.SubjectDeleteMarkerTTL, time.Duration(0)},
		{"mirror", got.Mirror != nil, false},
		{"sources", len(got.Sources) > 0, false},
		{"subject_transform", got.SubjectTransform != nil, false},
		{"republish", got.RePublish != nil, false},
		{"allow_msg_counter", got.AllowMsgCounter, false},
		{"persist_mode", got.PersistMode, jetstream.DefaultPersistMode},
	} {
		if f.got != f.want {
			return differ(f.field, f.got, f.want)
		}
	}
	return nil
}

// checkServer refuses servers whose batches are known to be wrong.
func checkServer(nc *nats.Conn) error {
	if nc == nil || !nc.IsConnected() {
		return fmt.Errorf("%w: not connected", ErrServer)
	}
	return checkVersion(nc.ConnectedServerVersion())
}

func checkVersion(v string) error {
	got, err := parseVersion(v)
	if err != nil {
		return fmt.Errorf("%w: version %q is no version", ErrServer, v)
	}
	if slices.Compare(got[:], minServer[:]) < 0 {
		return fmt.Errorf("%w: version %s, at least %d.%d.%d is needed: earlier ones have faults in atomic batches",
			ErrServer, v, minServer[0], minServer[1], minServer[2])
	}
	return nil
}

// parseVersion reads the numbers of a version such as 2.15.2-RC.1; a pre-release counts as its release.
func parseVersion(v string) (got [3]int, err error) {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "-")
	v, _, _ = strings.Cut(v, "+")
	parts := strings.SplitN(v, ".", 3)
	for i := range got {
		if i >= len(parts) {
			return got, fmt.Errorf("too few numbers")
		}
		if got[i], err = strconv.Atoi(parts[i]); err != nil {
			return got, err
		}
	}
	return got, nil
}

package sagakv_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvlocktest/natstest"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/saga/sagakv"
	"github.com/scoria-storage/scoria/saga/sagatest"
)

// newStore makes a bucket of its own on the server.
func newStore(t *testing.T, srv *natstest.Server, opts ...kvtx.Option) *kvtx.Store {
	t.Helper()
	bucket := "b" + strconv.FormatUint(buckets.Add(1), 10)
	store, err := kvtx.Ensure(t.Context(), srv.JetStream(t), kvtx.Config{Bucket: bucket}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return store
}

var buckets atomic.Uint64

func put(key, value string) sagakv.Write {
	return func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := s.Get(key)
		if err != nil {
			return err
		}
		tx.Put(key, []byte(value), e.Revision)
		return nil
	}
}

func get(t *testing.T, store *kvtx.Store, key string) kvtx.Entry {
	t.Helper()
	e, err := store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// op is an operation that was submitted, as an API node does it, and taken over.
type op struct {
	store  *kvtx.Store
	locker *kvlock.Locker
	log    *sagakv.Log
}

func submit(t *testing.T, store *kvtx.Store, id string) *op {
	t.Helper()
	o := &op{store: store, locker: kvlock.New(store)}
	claims := []kvlock.Claim{kvlock.Exclusive("volume." + id), kvlock.Shared("snapshot.s1")}
	_, err := store.Update(t.Context(), o.locker.Keys(id, claims...), func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		_, err := o.locker.StageAcquire(s, tx, id, sagakv.NewPayload([]byte("request of "+id)), claims...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	o.log = o.adopt(t, id)
	return o
}

var tokens atomic.Uint64

func (o *op) adopt(t *testing.T, id string) *sagakv.Log {
	t.Helper()
	g, rec, err := o.locker.Adopt(t.Context(), id, "worker-1", strconv.FormatUint(tokens.Add(1), 10))
	if err != nil {
		t.Fatal(err)
	}
	l, err := sagakv.Attach(o.store, o.locker, g, rec)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (o *op) record(t *testing.T) kvlock.Record {
	t.Helper()
	rec, err := o.locker.Record(t.Context(), string(o.log.ID()))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestConformance(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	sagatest.Conformance(t, func(t *testing.T) sagatest.Bench {
		store := newStore(t, srv)
		return sagatest.Bench{
			Journal: sagakv.NewJournal(store, kvlock.New(store), "worker-1", nil),
			Write:   func(key string) saga.Write { return put("w."+key, "x") },
			Refuse: func(err error) saga.Write {
				return sagakv.Write(func(kvtx.Snapshot, *kvtx.Tx) error { return err })
			},
			Written: func(t *testing.T, key string) bool { return get(t, store, "w."+key).Exists },
		}
	})
}

func TestEndReleasesLocksInTheCommitOfItsWrites(t *testing.T) {
	t.Parallel()
	store := newStore(t, natstest.Start(t))
	o := submit(t, store, "op-1")
	if err := o.log.Append(t.Context(), saga.Entry{Record: []byte("end"), Phase: saga.Done, Writes: []saga.Write{put("volume.v1", "available")}}); err != nil {
		t.Fatal(err)
	}
	e := get(t, store, "volume.v1")
	rec := o.record(t)
	if rec.Live() || rec.Phase != kvlock.Done {
		t.Errorf("the operation is %s, live %v; want done and ended", rec.Phase, rec.Live())
	}
	for _, key := range []string{"volume.op-1", "snapshot.s1"} {
		lock, err := o.locker.Holders(t.Context(), key)
		if err != nil || len(lock.Holders) != 0 {
			t.Errorf("%s is held by %v, error %v; want nobody", key, lock.Holders, err)
		}
	}
	if e.Revision <= rec.Revision || e.Revision > rec.Revision+4 {
		t.Errorf("volume.v1 has revision %d, the operation %d: not one commit", e.Revision, rec.Revision)
	}
	p, err := sagakv.DecodePayload(rec.Payload)
	if err != nil || string(p.Request) != "request of op-1" {
		t.Errorf("after the end the request is %q, error %v; want it unchanged", p.Request, err)
	}
}

func TestBrokenOperationIsFenced(t *testing.T) {
	t.Parallel()
	store := newStore(t, natstest.Start(t))
	o := submit(t, store, "op-1")
	if _, err := o.locker.Void(t.Context(), "op-1", "the host is gone"); err != nil {
		t.Fatal(err)
	}
	err := o.log.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: saga.Running, Writes: []saga.Write{put("k", "v")}})
	if !errors.Is(err, saga.ErrFenced) || !errors.Is(err, kvlock.ErrAdopted) {
		t.Errorf("Append to a void operation = %v, want ErrFenced and kvlock's ErrAdopted", err)
	}
	if get(t, store, "k").Exists {
		t.Error("the staged write of a fenced entry is there")
	}
}

func TestStagedWritesOfManyRunsFoldIntoOneRecord(t *testing.T) {
	t.Parallel()
	store := newStore(t, natstest.Start(t))
	const runs, limit = 24, 10
	full := errors.New("the pool is full")
	reserve := sagakv.Write(func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := s.Get("pool.p")
		if err != nil {
			return err
		}
		used := 0
		if e.Exists {
			if used, err = strconv.Atoi(string(e.Value)); err != nil {
				return err
			}
		}
		if used == limit {
			return saga.Permanent(full)
		}
		tx.Put("pool.p", []byte(strconv.Itoa(used+1)), e.Revision)
		return nil
	})
	ops := make([]*op, runs)
	for i := range ops {
		ops[i] = submit(t, store, fmt.Sprintf("op-%d", i))
	}
	var all sync.WaitGroup
	var ok, refused atomic.Int64
	for _, o := range ops {
		all.Go(func() {
			w := sagakv.Keyed{Keys: []string{"pool.p"}, Write: reserve}
			err := o.log.Append(t.Context(), saga.Entry{Record: []byte("r"), Phase: saga.Running, Writes: []saga.Write{w}})
			switch {
			case err == nil:
				ok.Add(1)
			case errors.Is(err, full) && saga.IsPermanent(err):
				refused.Add(1)
			default:
				t.Errorf("Append = %v", err)
			}
		})
	}
	all.Wait()
	if ok.Load() != limit || refused.Load() != runs-limit {
		t.Errorf("%d reserved and %d refused, want %d and %d", ok.Load(), refused.Load(), limit, runs-limit)
	}
	if got := string(get(t, store, "pool.p").Value); got != strconv.Itoa(limit) {
		t.Errorf("pool.p = %s, want %d", got, limit)
	}
}

// faulty loses the answer of the next writes when armed.
type faulty struct {
	arm  atomic.Int64 // so many answers
	lost atomic.Int64
	with func() // called when an answer was lost, before anything is decided
}

func (f *faulty) intercept(ctx context.Context, c kvtx.Call, next func(context.Context) error) error {
	err := next(ctx)
	if c.Kind != kvtx.Read && err == nil && f.arm.Add(-1) >= 0 {
		f.lost.Add(1)
		if f.with != nil {
			f.with()
		}
		return errors.New("the answer was lost")
	}
	return err
}

func TestLostAnswerWritesOnce(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	for _, c := range []struct {
		name   string
		phase  saga.Phase
		writes []saga.Write
	}{
		{"a step", saga.Running, nil},
		{"a step with writes", saga.Running, []saga.Write{add("count")}},
		{"an end", saga.Done, []saga.Write{add("count")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &faulty{}
			store := newStore(t, srv, kvtx.WithInterceptor(f.intercept))
			o := submit(t, store, "op-1")
			f.arm.Store(2)
			if err := o.log.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: c.phase, Writes: c.writes}); err != nil {
				t.Fatal(err)
			}
			if f.lost.Load() == 0 {
				t.Fatal("no answer was lost")
			}
			if rec := o.record(t); rec.Position != 1 {
				t.Errorf("position %d, want 1", rec.Position)
			}
			if got := string(get(t, store, "count").Value); len(c.writes) > 0 && got != "1" {
				t.Errorf("count = %q, want 1", got)
			}
			if c.phase.Ended() {
				return
			}
			f.arm.Store(0)
			if err := o.log.Append(t.Context(), saga.Entry{Record: []byte("y"), Phase: saga.Done}); err != nil {
				t.Errorf("the next Append = %v", err)
			}
		})
	}
}

// add counts up, which is not idempotent: it shows whether it was committed twice.
func add(key string) sagakv.Write {
	return func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		e, err := s.Get(key)
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(string(e.Value)) // absent: 0
		tx.Put(key, []byte(strconv.Itoa(n+1)), e.Revision)
		return nil
	}
}

func TestCancelWhileAnAnswerIsLostIsTakenIn(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	f := &faulty{}
	store := newStore(t, srv, kvtx.WithInterceptor(f.intercept))
	other, err := kvtx.Open(t.Context(), srv.JetStream(t), kvtx.Config{Bucket: store.Bucket()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	o := submit(t, store, "op-1")
	f.with = func() {
		if _, err := kvlock.New(other).Cancel(t.Context(), "op-1", "ann"); err != nil {
			t.Errorf("Cancel = %v", err)
		}
	}
	f.arm.Store(1)
	if err := o.log.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: saga.Running}); err != nil {
		t.Fatal(err)
	}
	if f.lost.Load() != 1 {
		t.Fatal("no answer was lost")
	}
	rec := o.record(t)
	if rec.Position != 1 || rec.Cancel == nil {
		t.Errorf("position %d, cancel %v; want 1 and ann's", rec.Position, rec.Cancel)
	}
	if err := o.log.Append(t.Context(), saga.Entry{Record: []byte("y"), Phase: saga.Running}); err != nil {
		t.Fatal(err)
	}
	if c := o.log.Head().Cancel; c == nil || c.Who != "ann" {
		t.Errorf("after the next Append the head has cancel %+v, want ann's", c)
	}
}

func TestCancelWhileARequestIsLostWritesOnce(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	var o *op
	var lost atomic.Int64
	store := newStore(t, srv, kvtx.WithInterceptor(func(ctx context.Context, c kvtx.Call, next func(context.Context) error) error {
		if c.Kind == kvtx.Read || o == nil || o.log == nil || lost.Add(1) > 1 {
			return next(ctx)
		}
		other, err := kvtx.Open(ctx, srv.JetStream(t), kvtx.Config{Bucket: o.store.Bucket()})
		if err != nil {
			return err
		}
		defer func() { _ = other.Close() }()
		if _, err := kvlock.New(other).Cancel(ctx, "op-1", "ann"); err != nil {
			return err
		}
		return errors.New("the request was lost")
	}))
	first := submit(t, store, "op-1")
	o = first
	if err := o.log.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: saga.Running}); err != nil {
		t.Fatal(err)
	}
	rec := o.record(t)
	p, err := sagakv.DecodePayload(rec.Payload)
	if err != nil || string(p.Run) != "x" || rec.Position != 1 || rec.Cancel == nil {
		t.Errorf("the record has run %q, position %d, cancel %v, error %v; want x, 1, ann's", p.Run, rec.Position, rec.Cancel, err)
	}
	if c := o.log.Head().Cancel; c == nil || c.Who != "ann" {
		t.Errorf("the head has cancel %+v, want ann's", c)
	}
}

func TestReadFailureOfAStagedWriteIsNoRefusal(t *testing.T) {
	t.Parallel()
	store := newStore(t, natstest.Start(t))
	o := submit(t, store, "op-1")
	ctx, cancel := context.WithCancel(t.Context())
	w := sagakv.Write(func(s kvtx.Snapshot, _ *kvtx.Tx) error {
		cancel()
		_, err := s.Get("volume.v1")
		return err
	})
	err := o.log.Append(ctx, saga.Entry{Record: []byte("x"), Phase: saga.Running, Writes: []saga.Write{w}})
	if refused := (*saga.RefusedError)(nil); err == nil || errors.As(err, &refused) {
		t.Errorf("Append whose write could not read = %v, want an error that is no refusal", err)
	}
}

func TestWriteThatNoBucketTakesFailsTheStepForGood(t *testing.T) {
	t.Parallel()
	store := newStore(t, natstest.Start(t))
	o := submit(t, store, "op-1")
	w := sagakv.Write(func(s kvtx.Snapshot, _ *kvtx.Tx) error { _, err := s.Get("no..key"); return err })
	err := o.log.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: saga.Running, Writes: []saga.Write{w}})
	if refused := (*saga.RefusedError)(nil); !errors.As(err, &refused) || !saga.IsPermanent(refused.Err) {
		t.Errorf("Append of a write that reads a key that cannot be = %v, want a permanent refusal", err)
	}
}

func TestOversizedCommitFailsTheStepForGood(t *testing.T) {
	t.Parallel()
	store := newStore(t, natstest.Start(t))
	o := submit(t, store, "op-1")
	w := sagakv.Write(func(_ kvtx.Snapshot, tx *kvtx.Tx) error {
		for i := range kvtx.MaxMessages + 1 {
			tx.Put(fmt.Sprintf("k.%d", i), nil, 0)
		}
		return nil
	})
	err := o.log.Append(t.Context(), saga.Entry{Record: []byte("x"), Phase: saga.Running, Writes: []saga.Write{w}})
	if refused := (*saga.RefusedError)(nil); !errors.As(err, &refused) || !saga.IsPermanent(refused.Err) {
		t.Errorf("Append of %d messages = %v, want a permanent refusal", kvtx.MaxMessages+1, err)
	}
	if err := o.log.Append(t.Context(), saga.Entry{Record: []byte("y"), Phase: saga.Undoing}); err != nil {
		t.Errorf("the next Append = %v", err)
	}
}

func TestStatusOfAnOperationThatNobodyTookOver(t *testing.T) {
	t.Parallel()
	p, err := sagakv.DecodePayload(sagakv.NewPayload([]byte("r")))
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Status(kvlock.Record{})
	if err != nil || st.Phase != saga.Pending || string(p.Request) != "r" {
		t.Errorf("Status = %s, %v, request %q; want pending, nil, r", st.Phase, err, p.Request)
	}
}

func TestPayloadGolden(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "payload_v1.hex"))
	if err != nil {
		t.Fatal(err)
	}
	golden, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	p, err := sagakv.DecodePayload(golden)
	if err != nil || p.V != 1 || string(p.Request) != "request" || p.Run != nil {
		t.Errorf("the golden payload reads as %+v, error %v", p, err)
	}
	if got := sagakv.NewPayload([]byte("request")); hex.EncodeToString(got) != hex.EncodeToString(golden) {
		t.Errorf("NewPayload = %x, want the golden %x", got, golden)
	}
}

func TestPayloadOfANewerReleaseIsRefusedInWords(t *testing.T) {
	t.Parallel()
	newer := append([]byte(nil), sagakv.NewPayload(nil)...)
	i := strings.IndexByte(string(newer), 'v') + 1
	newer[i] = 9
	for _, b := range [][]byte{newer, nil, []byte("x"), {0x80}} {
		if _, err := sagakv.DecodePayload(b); !errors.Is(err, saga.ErrFormat) {
			t.Errorf("DecodePayload(%x) = %v, want ErrFormat", b, err)
		}
	}
	if _, err := sagakv.DecodePayload(newer); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("DecodePayload of format 9 = %v, want words", err)
	}
}

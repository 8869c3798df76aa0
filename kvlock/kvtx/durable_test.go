package kvtx_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/kvlock/internal/link"
	"github.com/scoria-storage/scoria/kvlock/internal/memserver"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// forgetful is a server whose disk is full from some write on, as nats-server 2.15.2 is then: what it could not write is in its memory and
// is shown, no write is answered any more, and when it is started again there is what is on the disk.
type forgetful struct {
	memserver.Conn // to the disk

	mu           sync.Mutex
	disk, memory *memserver.Server // the same until it breaks
	broken       bool
	full         func(*nats.Msg) bool
	starts       uint64
	shown        []string // what was read while it was broken
	lost         int      // writes without an answer
}

func room(*nats.Msg) bool { return false }

func newForgetful() *forgetful {
	disk := memserver.New(kvtx.DefaultBucket)
	return &forgetful{Conn: disk.Conn(), disk: disk, memory: memserver.New(kvtx.DefaultBucket), full: room}
}

// breakAt makes the disk full when a key is written.
func (f *forgetful) breakAt(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = func(m *nats.Msg) bool { return strings.HasSuffix(m.Subject, "."+key) }
}

func (f *forgetful) Call(ctx context.Context, msgs ...*nats.Msg) (*nats.Msg, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := msgs[len(msgs)-1]
	read := strings.HasPrefix(last.Subject, "$JS.API.")
	f.broken = f.broken || !read && slices.ContainsFunc(msgs, f.full)
	answer, err := memserver.Answer(f.memory.Handle(msgs...))
	switch {
	case !f.broken:
		return f.Conn.Call(ctx, msgs...)
	case read:
		f.shown = append(f.shown, string(last.Data))
	case err == nil && !strings.Contains(string(answer.Data), `"error"`):
		f.lost++
		return nil, link.ErrNoAnswer
	}
	return answer, err
}

// restart starts the server again, with room.
func (f *forgetful) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken, f.full, f.starts = false, room, f.starts+1
}

func (f *forgetful) Breaks() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts
}

// said is how often the key was read while the server was broken, and how many writes had no answer.
func (f *forgetful) said(key string) (shown, lost int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.shown {
		if strings.Contains(s, key) {
			shown++
		}
	}
	return shown, f.lost
}

// on is the value on the disk.
func (f *forgetful) on(key string) string {
	for _, m := range f.disk.Messages("$KV." + kvtx.DefaultBucket + "." + key) {
		return string(m.Data)
	}
	return ""
}

// openForgetful opens a store on the server.
func openForgetful(t *testing.T, f *forgetful) *kvtx.Store {
	t.Helper()
	s, err := kvtx.OpenOn(t.Context(), f, kvtx.Config{}, kvtx.Chance{
		Jitter: func(d time.Duration) time.Duration { return d }, Turn: func(context.Context) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a broken server shows of a commit whose answer was lost does not decide it: it is decided when the server is back, by what is on the disk.
func TestWhatABrokenServerShowsDecidesNothing(t *testing.T) {
	t.Parallel()
	put := func(keys ...string) *kvtx.Tx {
		var tx kvtx.Tx
		for _, key := range keys {
			tx.Put(key, []byte("new"), 0)
		}
		return &tx
	}
	commit := func(tx *kvtx.Tx) func(context.Context, *kvtx.Store) error {
		return func(ctx context.Context, s *kvtx.Store) error {
			_, err := s.Commit(ctx, tx)
			return err
		}
	}
	update := func(ctx context.Context, s *kvtx.Store) error {
		_, err := s.Update(ctx, nil, func(_ kvtx.Snapshot, tx *kvtx.Tx) error { *tx = *put("k.a", "k.b"); return nil })
		return err
	}
	proven := put("k.b")
	proven.Prove(func(e kvtx.Entry) bool { return string(e.Value) == "new" })
	for name, c := range map[string]struct {
		commit  func(context.Context, *kvtx.Store) error
		decides string // the key that shows whether it applied
	}{
		"a batch":              {update, "rcpt."},
		"a write":              {commit(put("k.b")), "k.b"},
		"a write with a proof": {commit(proven), "k.b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newForgetful()
				s := openForgetful(t, f)
				defer func() { _ = s.Close() }()
				if _, err := s.Commit(t.Context(), put("k.0", "k.1")); err != nil {
					t.Fatal(err)
				}
				f.breakAt("k.b")
				made := make(chan error, 1)
				go func() { made <- c.commit(t.Context(), s) }()
				<-time.After(time.Minute)
				synctest.Wait()
				shown, lost := f.said(c.decides)
				if shown == 0 || lost == 0 {
					t.Fatalf("%s was read %d times and %d writes had no answer: the test is blind", c.decides, shown, lost)
				}
				select {
				case err := <-made:
					t.Fatalf("the commit was decided (%v) by a server that does not write any more", err)
				default:
				}
				f.restart()
				if err := <-made; err != nil {
					t.Fatal(err)
				}
				if got := f.on("k.b"); got != "new" {
					t.Errorf("the commit was made, and on the disk is %q", got)
				}
			})
		})
	}
}

// That something is there already, or done, is told when it is on the disk: a broken server shows what it will forget.
func TestWhatABrokenServerShowsIsNotAnswered(t *testing.T) {
	t.Parallel()
	there := errors.New("it is there")
	for name, found := range map[string]error{"a sure error": kvtx.Sure(there), "nothing to do": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newForgetful()
				// puts writes the keys unless they are there.
				puts := func(ctx context.Context, s *kvtx.Store, value string) error {
					_, err := s.Update(ctx, []string{"k.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
						e, err := snap.Get("k.a")
						switch {
						case err != nil:
							return err
						case e.Exists:
							return found
						}
						tx.Put("k.a", []byte(value), e.Revision)
						tx.Put("k.b", []byte(value), 0)
						return nil
					})
					return err
				}
				first, second := openForgetful(t, f), openForgetful(t, f)
				defer func() { _ = second.Close() }()
				f.breakAt("k.b")
				brief, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := puts(brief, first, "first"); !errors.Is(err, kvtx.ErrInDoubt) {
					t.Fatalf("Update on a full disk = %v, want it in doubt", err)
				}
				_ = first.Close() // its process ends
				answer := make(chan error, 1)
				go func() { answer <- puts(t.Context(), second, "second") }()
				<-time.After(time.Minute)
				synctest.Wait()
				if shown, lost := f.said("k.a"); shown == 0 || lost == 0 {
					t.Fatalf("k.a was read %d times and %d writes had no answer: the test is blind", shown, lost)
				}
				select {
				case err := <-answer:
					t.Fatalf("Update = %v, on what the server shows; on the disk is %q", err, f.on("k.a"))
				default:
				}
				brief, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := puts(brief, second, "third"); !errors.Is(err, kvtx.ErrInDoubt) {
					t.Errorf("Update while it is not sure = %v, want it in doubt", err)
				}
				closed := openForgetful(t, f)
				ended := make(chan error, 1)
				go func() { ended <- puts(t.Context(), closed, "fourth") }()
				synctest.Wait()
				_ = closed.Close()
				if err := <-ended; !errors.Is(err, kvtx.ErrInDoubt) {
					t.Errorf("Update on a store that is closed meanwhile = %v, want it in doubt", err)
				}
				f.restart()
				if err := <-answer; err != nil || f.on("k.a") != "second" {
					t.Errorf("Update = %v, and on the disk is %q, want what it put", err, f.on("k.a"))
				}
				if err := puts(t.Context(), second, "fifth"); !errors.Is(err, found) || f.on("k.a") != "second" {
					t.Errorf("Update = %v, want %v for what is on the disk", err, found)
				}
			})
		})
	}
}

// That a later write is on the disk says nothing of what was read before the server was started again: the sequences are given again.
func TestWhatWasReadBeforeARestartIsReadAgain(t *testing.T) {
	t.Parallel()
	put := func(ctx context.Context, s *kvtx.Store, key, value string) (kvtx.Result, error) {
		var tx kvtx.Tx
		tx.Put(key, []byte(value), 0)
		return s.Commit(ctx, &tx)
	}
	there := errors.New("it is there")
	for name, found := range map[string]error{"a sure error": kvtx.Sure(there), "nothing to do": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newForgetful()
				first, second := openForgetful(t, f), openForgetful(t, f)
				defer func() { _ = second.Close() }()
				f.breakAt("k.a")
				brief, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := put(brief, first, "k.a", "first"); !errors.Is(err, kvtx.ErrInDoubt) {
					t.Fatalf("Put on a full disk = %v, want it in doubt", err)
				}
				_ = first.Close() // its process ends
				wrote, answer := make(chan error, 1), make(chan error, 1)
				go func() {
					_, err := put(t.Context(), second, "k.c", "second")
					wrote <- err
				}()
				<-time.After(time.Second)
				go func() { // behind what has no answer yet
					_, err := second.Update(t.Context(), []string{"k.a"}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
						e, err := snap.Get("k.a")
						switch {
						case err != nil:
							return err
						case e.Exists:
							return found
						}
						tx.Put("k.a", []byte("second"), e.Revision)
						return nil
					})
					answer <- err
				}()
				<-time.After(time.Second)
				synctest.Wait()
				if shown, lost := f.said("k.a"); shown == 0 || lost < 2 {
					t.Fatalf("k.a was read %d times and %d writes had no answer: the test is blind", shown, lost)
				}
				f.restart()
				if err := <-wrote; err != nil {
					t.Fatal(err)
				}
				if err := <-answer; err != nil || f.on("k.a") != "second" {
					t.Errorf("Update = %v, and on the disk is %q, want what it put", err, f.on("k.a"))
				}
			})
		})
	}
}

package nodelock

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

func open(t *testing.T, dir string, opts Options) *Folder {
	t.Helper()
	f, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func claim(rev uint64, operation string) Claim {
	return Claim{Fence: driver.Fence{Rev: rev}, Operation: operation}
}

func acquire(t *testing.T, f *Folder, name string, c Claim) *Lock {
	t.Helper()
	l, err := f.Acquire(t.Context(), name, c)
	if err != nil {
		t.Fatalf("Acquire(%s, %+v) = %v", name, c, err)
	}
	return l
}

func release(t *testing.T, l *Lock) {
	t.Helper()
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestGoroutinesExcludeEachOther(t *testing.T) {
	t.Parallel()
	f := open(t, t.TempDir(), Options{})
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				l, err := f.Acquire(t.Context(), "v1", claim(7, "op-1"))
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), inside.Add(1)))
				inside.Add(-1)
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d goroutines were inside one lock at once, want 1", most.Load())
	}
}

func TestLowerFenceIsRefusedAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release(t, acquire(t, open(t, dir, Options{}), "v1", claim(9, "op-2")))
	again := open(t, dir, Options{})
	if _, err := again.Acquire(t.Context(), "v1", claim(8, "op-1")); !errors.Is(err, driver.ErrFenced) {
		t.Errorf("Acquire with fence 0.8 after 0.9 = %v, want ErrFenced", err)
	}
	release(t, acquire(t, again, "v1", claim(9, "op-2")))
	higherEra := Claim{Fence: driver.Fence{Era: 1, Rev: 1}, Operation: "op-3"}
	release(t, acquire(t, again, "v1", higherEra))
	if _, err := again.Acquire(t.Context(), "v1", claim(10, "op-4")); !errors.Is(err, driver.ErrFenced) {
		t.Errorf("Acquire with fence 0.10 after 1.1 = %v, want ErrFenced: the era decides first", err)
	}
	release(t, acquire(t, again, "v2", claim(1, "op-1"))) // fences are per lock
}

func TestWaiterIsRefusedWhileLockIsHeldByAHigherFence(t *testing.T) {
	t.Parallel()
	f := open(t, t.TempDir(), Options{})
	held := acquire(t, f, "v1", claim(9, "op-2"))
	if _, err := f.Acquire(t.Context(), "v1", claim(8, "op-1")); !errors.Is(err, driver.ErrFenced) {
		t.Errorf("Acquire = %v, want ErrFenced at once", err)
	}
	release(t, held)
}

func TestOvertakenGoroutineLearnsOfItAndIsNeverEnded(t *testing.T) {
	t.Parallel()
	f := open(t, t.TempDir(), Options{Limit: time.Millisecond})
	old := acquire(t, f, "v1", claim(1, "op-1"))
	if err := old.Overtaken(); err != nil {
		t.Errorf("Overtaken before anybody waits = %v", err)
	}
	waits := make(chan string, 100)
	got := make(chan error, 1)
	go func() {
		c := claim(2, "op-1")
		c.Waiting = func(why string) { waits <- why }
		l, err := f.Acquire(context.WithoutCancel(t.Context()), "v1", c)
		if err == nil {
			err = l.Release()
		}
		got <- err
	}()
	if why := <-waits; !strings.Contains(why, "op-1") || !strings.Contains(why, "this process") {
		t.Errorf("Waiting(%q): want the operation and that it is this process", why)
	}
	// The waiter leaves its wish before it tells.
	if err := old.Overtaken(); !errors.Is(err, driver.ErrFenced) {
		t.Errorf("Overtaken = %v, want ErrFenced", err)
	}
	<-waits // told again: the limit is over, and this process still lives
	release(t, old)
	if err := <-got; err != nil {
		t.Errorf("Acquire after the overtaken goroutine let go = %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := open(t, t.TempDir(), Options{})
	held := acquire(t, f, "v1", claim(1, "op-1"))
	ctx, cancel := context.WithCancel(t.Context())
	c := claim(2, "op-2")
	c.Waiting = func(string) { cancel() }
	if _, err := f.Acquire(ctx, "v1", c); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "op-1") {
		t.Errorf("Acquire = %v, want context.Canceled and the operation that holds it", err)
	}
	release(t, held)
}

func TestLockOfARemovedFileIsNotALock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	removed := false
	f := open(t, dir, Options{Hook: func(point string) error {
		if point == "lock" && !removed { // between open and flock somebody removes the file
			removed = true
			return os.Remove(filepath.Join(dir, "v1.lock"))
		}
		return nil
	}})
	l := acquire(t, f, "v1", claim(1, "op-1"))
	same, err := f.current(l.File(), "v1")
	if err != nil || !same {
		t.Errorf("the lock is on the file in the folder: %v, %v, want true", same, err)
	}
	release(t, l)
}

func TestTornRecordLeavesTheOneBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, Options{})
	for rev := range uint64(4) {
		release(t, acquire(t, f, "v1", claim(rev+1, "op-1")))
	}
	path := filepath.Join(dir, "v1.lock")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newest := bytes.Index(whole, []byte("seq=4 "))
	if newest < 0 {
		t.Fatalf("no record 4 in %q", whole)
	}
	whole[newest+10] ^= 1
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	r, ok, err := f.Last("v1")
	if err != nil || !ok || r.Fence != (driver.Fence{Rev: 3}) {
		t.Errorf("Last = %+v, %v, %v, want the record with fence 0.3", r, ok, err)
	}
}

func TestRecordFormatIsTheGoldenOne(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/record-v1.lock")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "v1.lock")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	first := Record{Seq: 1, Fence: driver.Fence{Rev: 41}, PID: 4242, Start: 77, Operation: "5f0c1e6e-4b5f-4a3b-9d57-0d6f7c0a1b2c"}
	second := Record{Seq: 2, Fence: driver.Fence{Era: 3, Rev: 18446744073709551615}, PID: 4194304, Start: 18446744073709551615, Operation: strings.Repeat("o", 64)}
	wish := Record{Fence: driver.Fence{Era: 4, Rev: 1}, PID: 1, Start: 2, Operation: "w"}
	if err := errors.Join(writeNew(file, first), writeHolder(file, second), writeWish(file, wish)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, golden) {
		t.Errorf("lock file =\n%s\nwant\n%s", got, golden)
	}
	have, err := readFile(file)
	if err != nil || have.holder != second || have.wish != wish {
		t.Errorf("readFile = %+v, %v", have, err)
	}
}

func TestNewerFormatIsRefusedInWords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	slot := bytes.Replace(encodeSlot(Record{Seq: 1, Operation: "op-1"}), []byte("scoria-lock 1"), []byte("scoria-lock 2"), 1)
	text := slot[:bytes.Index(slot, []byte(" crc="))]
	slot = append(append([]byte{}, text...), crcOf(text)...)
	slot = append(slot, bytes.Repeat([]byte{' '}, slotBytes-len(slot))...)
	if err := os.WriteFile(filepath.Join(dir, "v1.lock"), slot, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, dir, Options{}).Acquire(t.Context(), "v1", claim(1, "op-1"))
	if err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("Acquire = %v, want words about a newer release", err)
	}
}

func TestNamesThatAttackPathsAreRefused(t *testing.T) {
	t.Parallel()
	f := open(t, t.TempDir(), Options{})
	for _, name := range []string{"", ".", "..", "../v1", "a/b", "a..b", ".v1", "v1.", "a\x00b", strings.Repeat("a", 65)} {
		if _, err := f.Acquire(t.Context(), name, claim(1, "op-1")); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("Acquire(%q) = %v, want ErrInvalid", name, err)
		}
	}
	if _, err := f.Acquire(t.Context(), "v1", claim(1, "a/b")); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("Acquire with operation a/b = %v, want ErrInvalid", err)
	}
}

func TestSymbolicLinkIsNotFollowed(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.Symlink(elsewhere, filepath.Join(dir, "v1.lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, Options{}).Acquire(t.Context(), "v1", claim(1, "op-1")); err == nil {
		t.Error("Acquire followed a symbolic link")
	}
	if _, err := os.Stat(elsewhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link's target was made: %v", err)
	}
}

func TestSweepRemovesOnlyWhatIsGoneUnusedAndFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, Options{})
	for _, name := range []string{"gone", "young", "there", "held"} {
		release(t, acquire(t, f, name, claim(1, "op-1")))
	}
	long := time.Now().Add(-3 * time.Hour)
	for _, name := range []string{"gone", "there", "held"} {
		if err := os.Chtimes(filepath.Join(dir, name+".lock"), long, long); err != nil {
			t.Fatal(err)
		}
	}
	held, err := f.Acquire(t.Context(), "held", claim(1, "op-1"))
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; {
		err := f.Sweep(t.Context(), 2*time.Hour, func(name string) (bool, error) { return name != "there", nil })
		if err != nil {
			t.Fatal(err)
		}
		// A child that another test is just starting holds the lock until it runs its own program.
		if _, ok, err := f.Last("gone"); !ok || err != nil || time.Since(begin) > 10*time.Second {
			break
		}
	}
	release(t, held)
	for name, want := range map[string]bool{"gone": false, "young": true, "there": true, "held": true} {
		if _, ok, err := f.Last(name); ok != want || err != nil {
			t.Errorf("lock file %s is there: %v (%v), want %v", name, ok, err, want)
		}
	}
}

func TestTouchKeepsTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, Options{})
	l := acquire(t, f, "v1", claim(1, "op-1"))
	long := time.Now().Add(-3 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "v1.lock"), long, long); err != nil {
		t.Fatal(err)
	}
	if err := l.Touch(); err != nil {
		t.Fatal(err)
	}
	release(t, l)
	if err := f.Sweep(t.Context(), 2*time.Hour, func(string) (bool, error) { return true, nil }); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := f.Last("v1"); !ok {
		t.Error("a lock file that was touched now was swept")
	}
}

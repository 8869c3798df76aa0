package kvlock

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// table is a snapshot of a test.
type table map[string]kvtx.Entry

func (s table) Get(key string) (kvtx.Entry, error) {
	e, ok := s[key]
	if !ok {
		e.Key = key
	}
	return e, nil
}

func (s table) lock(t *testing.T, l Lock) {
	t.Helper()
	value, err := l.encode()
	if err != nil {
		t.Fatal(err)
	}
	s[LockKey(l.Key)] = kvtx.Entry{Key: LockKey(l.Key), Value: value, Revision: 1, Exists: true}
}

func readers(n int) Lock {
	l := Lock{Key: "k"}
	for i := range n {
		l.add("op-"+strconv.Itoa(i), ModeShared, time.Unix(int64(i), 0))
	}
	return l
}

func TestTheLastHolderFitsAndTheNextIsRefused(t *testing.T) {
	t.Parallel()
	l := New(nil)
	for _, c := range []struct {
		holders int
		want    error
	}{{MaxHolders - 1, nil}, {MaxHolders, ErrTooLarge}} {
		s := table{}
		s.lock(t, readers(c.holders))
		var tx kvtx.Tx
		_, err := l.StageAcquire(s, &tx, "one-more", nil, Shared("k"))
		if !errors.Is(err, c.want) {
			t.Errorf("one more than %d holders: error %v, want %v", c.holders, err, c.want)
		}
	}
}

func TestLockRecordsHaveAStatedLargestSize(t *testing.T) {
	t.Parallel()
	l := readers(MaxHolders)
	for i := range MaxWaiters {
		l.Line = append(l.Line, Waiter{Owner: "w-" + strconv.Itoa(i), Mode: ModeExclusive})
	}
	if _, err := l.encode(); err != nil {
		t.Errorf("a full lock: %v", err)
	}
	l.Line = append(l.Line, Waiter{Owner: "w", Mode: ModeShared})
	_, err := l.encode()
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "257 operations would wait for key k, at most 256") {
		t.Errorf("one waiter too many: %v", err)
	}
	l = readers(MaxHolders + 1)
	_, err = l.encode()
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "key k would have 4097 holders, at most 4096") {
		t.Errorf("one holder too many: %v", err)
	}
}

// A full record must still take everything that others may add, or it could not be ended.
func TestAFullOwnerRecordCanBeCanceledTakenOverAndBroken(t *testing.T) {
	t.Parallel()
	claims := make([]Claim, MaxClaims)
	for i := range claims {
		claims[i] = Exclusive(strings.Repeat("k", maxToken-4) + strconv.Itoa(1000+i))
	}
	rec := Record{Owner: strings.Repeat("o", maxToken), Claims: claims, Phase: Undoing, Since: time.Now()}
	if err := rec.setPayload(make([]byte, payloadRoom(claims))); err != nil {
		t.Fatal(err)
	}
	if err := rec.setPayload(make([]byte, payloadRoom(claims)+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more than there is room for: error %v", err)
	}
	if len(rec.Payload) < 192<<10 {
		t.Errorf("the largest payload beside %d claims is only %d bytes", len(claims), len(rec.Payload))
	}
	text := strings.Repeat("x", maxText)
	rec.Epoch, rec.Position, rec.FenceRev, rec.Era, rec.Dispatch = 1<<60, 1<<60, 1<<60, 1<<60, 1<<60
	rec.Worker, rec.Token = text[:maxName], text[:maxName]
	rec.Adopted, rec.Deadline, rec.Ended = time.Now(), time.Now(), time.Now()
	rec.Cancel = &Cancel{By: text, At: time.Now()}
	for range maxAudit + 3 {
		rec.audit("resume", text, time.Now())
	}
	if len(rec.Audit) != maxAudit {
		t.Errorf("%d audits are kept, want %d", len(rec.Audit), maxAudit)
	}
	if _, err := rec.encode(); err != nil {
		t.Errorf("a full record with everything that others may add: %v", err)
	}
}

func TestPayloadsThatAreTooLargeAreRefusedAtAdmission(t *testing.T) {
	t.Parallel()
	l := New(nil)
	var tx kvtx.Tx
	_, err := l.StageAcquire(table{}, &tx, "op-1", make([]byte, MaxOwnerRecord), Exclusive("k"))
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "payload of operation op-1 has 262144 bytes, at most") {
		t.Errorf("error %v", err)
	}
	if tx.Len() > 0 {
		t.Errorf("%d messages were staged", tx.Len())
	}
}

func TestANewcomerNeverPassesAConflictingWaiter(t *testing.T) {
	t.Parallel()
	reader := []Holder{{Owner: "r", Since: at(0)}}
	waits := func(modes ...Mode) (line []Waiter) {
		for i, m := range modes {
			line = append(line, Waiter{Owner: "w" + strconv.Itoa(i), Mode: m, Since: at(i)})
		}
		return line
	}
	for _, c := range []struct {
		name    string
		lock    Lock
		claim   Claim
		holders int
		waiter  string
	}{
		{"reader behind a writer that waits", Lock{Mode: ModeShared, Holders: reader, Line: waits(ModeExclusive)}, Shared("k"), 0, "w0"},
		{"reader behind a writer that waits for nobody", Lock{Line: waits(ModeShared, ModeExclusive)}, Shared("k"), 0, "w1"},
		{"reader beside readers that wait", Lock{Line: waits(ModeShared)}, Shared("k"), 0, ""},
		{"writer behind a reader that waits", Lock{Line: waits(ModeShared, ModeShared)}, Exclusive("k"), 0, "w0"},
		{"writer behind holder and waiter", Lock{Mode: ModeShared, Holders: reader, Line: waits(ModeExclusive, ModeShared)}, Exclusive("k"), 1, "w0"},
	} {
		s := table{}
		c.lock.Key = "k"
		s.lock(t, c.lock)
		var tx kvtx.Tx
		_, err := New(nil).StageAcquire(s, &tx, "new", nil, c.claim)
		var conflict *ConflictError
		if !errors.As(err, &conflict) {
			if c.holders > 0 || c.waiter != "" || err != nil {
				t.Errorf("%s: error %v, want a conflict", c.name, err)
			}
			continue
		}
		on, ok := conflict.On("k")
		if !ok || len(on.Holders) != c.holders || (on.Waiter == nil) != (c.waiter == "") || on.Waiter != nil && on.Waiter.Owner != c.waiter {
			t.Errorf("%s: %+v, want %d holders and waiter %q", c.name, on, c.holders, c.waiter)
		}
		if c.waiter != "" && !strings.Contains(err.Error(), "operation "+c.waiter+", waiting for it") {
			t.Errorf("%s: %q does not name the waiter", c.name, err)
		}
	}
}

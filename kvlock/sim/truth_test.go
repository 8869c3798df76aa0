package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// truth is what the server's records say.
type truth struct {
	w *world

	mu        sync.Mutex
	locks     map[string]kvlock.Lock
	ops       map[string]kvlock.Record
	posts     map[string]map[string]uint64 // Dispatches and wakes that are not acknowledged, with their revisions.
	fences    map[string]kvlock.Fence      // That the resources have seen, by key.
	direct    map[string]*process          // Whose operation it is, of those that no dispatch tells of.
	acked     map[string]int               // Increments that were acknowledged, by counter,
	uncertain map[string]int               // and those that may have been made.
}

func newTruth(w *world) *truth {
	return &truth{
		w: w, locks: map[string]kvlock.Lock{}, ops: map[string]kvlock.Record{}, posts: map[string]map[string]uint64{dispatches: {}, wakes: {}}, fences: map[string]kvlock.Fence{},
		direct: map[string]*process{}, acked: map[string]int{}, uncertain: map[string]int{},
	}
}

const (
	lockSubject  = "$KV." + bucket + ".lock."
	ownerSubject = "$KV." + bucket + ".op."
	postSubject  = "op." + bucket + "."

	// Kinds of messages, by the token that their subjects begin with.
	dispatches = "req"
	wakes      = "wake"
)

// wrote reads what the server has written.
func (t *truth) wrote(answer *nats.Msg, msgs []*nats.Msg) {
	var ack struct {
		Seq, Count uint64
		Error      *struct{}
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Error != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	first := ack.Seq - max(ack.Count, 1) + 1
	before := maps.Clone(t.locks)
	var changed []string
	locks := false
	for i, m := range msgs {
		e := kvtx.Entry{Key: strings.TrimPrefix(m.Subject, "$KV."+bucket+"."), Revision: kvtx.Revision(first + uint64(i))}
		if m.Header.Get("KV-Operation") == "" {
			e.Value, e.Exists = m.Data, true
		}
		switch {
		case strings.HasPrefix(m.Subject, postSubject):
			kind, _, _ := strings.Cut(strings.TrimPrefix(m.Subject, postSubject), ".")
			if posts := t.posts[kind]; posts != nil {
				posts[m.Subject] = uint64(e.Revision)
				t.w.count(kind + " published")
			}
		case strings.HasPrefix(m.Subject, lockSubject):
			lock, err := kvlock.DecodeLock(e)
			if err != nil {
				t.w.fail("%s: %v", m.Subject, err)
			}
			t.locks[lock.Key] = lock
			locks = true
		case strings.HasPrefix(m.Subject, ownerSubject):
			rec, err := kvlock.DecodeRecord(e)
			if err != nil {
				t.w.fail("%s: %v", m.Subject, err)
			}
			t.moved(t.ops[rec.Owner], rec)
			t.ops[rec.Owner] = rec
			changed = append(changed, rec.Owner)
		}
	}
	if len(changed) == 0 && !locks {
		return
	}
	t.order(before, changed)
	t.check()
}

// moved looks at what became of an operation.
func (t *truth) moved(old, now kvlock.Record) {
	if old.Owner != "" && !old.Live() && now.Since.Sub(old.Ended) < kvlock.DefaultRetention {
		t.w.fail("%s has ended and is written again", now.Owner)
	}
	if old.Owner != "" && !old.Live() {
		old = kvlock.Record{Owner: old.Owner} // it is a new one
	}
	if now.Fence().Less(old.Fence()) || now.Epoch > old.Epoch && !old.Fence().Less(now.Fence()) {
		t.w.fail("the fence of %s goes from %v in epoch %d to %v in epoch %d", now.Owner, old.Fence(), old.Epoch, now.Fence(), now.Epoch)
	}
	switch {
	case old.Phase == kvlock.Queued && (now.Phase == kvlock.Granted || now.Phase == kvlock.Running):
		t.w.count("waited and was granted")
	case old.Phase == kvlock.Queued && now.Phase == kvlock.Void:
		t.w.count("left the line")
	case now.Phase == kvlock.Stuck && old.Phase != kvlock.Stuck:
		t.w.count("got stuck")
		if len(namedOf(old)) > 0 {
			t.w.count("got stuck with a named lock")
		}
	case now.Phase == kvlock.Void && old.Phase != kvlock.Void:
		t.w.count("broken")
	case now.Epoch > old.Epoch && now.Epoch > 1:
		t.w.count("taken over from another worker")
	}
}

// order holds that nobody was let in past an older waiter that conflicts.
func (t *truth) order(before map[string]kvlock.Lock, changed []string) {
	for _, owner := range changed {
		rec := t.ops[owner]
		for _, c := range rec.Claims {
			now, old := t.locks[c.Key], before[c.Key]
			if !now.Holds(owner) || old.Holds(owner) {
				continue
			}
			for _, w := range old.Line {
				if w.Owner == owner {
					break
				}
				if conflicts(w.Mode, c.Mode) && slices.ContainsFunc(now.Line, func(o kvlock.Waiter) bool { return o.Owner == w.Owner }) {
					t.w.fail("%s got %s past %s, which is older", owner, c, w.Owner)
				}
			}
		}
	}
}

func conflicts(a, b kvlock.Mode) bool { return a == kvlock.ModeExclusive || b == kvlock.ModeExclusive }

// check holds the invariants of all records.
func (t *truth) check() {
	for _, key := range slices.Sorted(maps.Keys(t.locks)) {
		lock := t.locks[key]
		if lock.Mode == kvlock.ModeExclusive && len(lock.Holders) != 1 {
			t.w.fail("key %s has %d writers", key, len(lock.Holders))
		}
		if isNamed(key) {
			t.checkNamed(key, lock)
		}
		for _, h := range lock.Holders {
			rec, ok := t.ops[h.Owner]
			if !ok || !rec.Live() || rec.Phase == kvlock.Queued || !slices.Contains(rec.Claims, kvlock.Claim{Key: key, Mode: lock.Mode}) {
				t.w.fail("key %s is held, %s, by %s, which is %s and claims %v", key, lock.Mode, h.Owner, rec.Phase, rec.Claims)
			}
		}
		for _, h := range lock.Line {
			if rec := t.ops[h.Owner]; rec.Phase != kvlock.Queued {
				t.w.fail("%s waits for key %s and is %s", h.Owner, key, rec.Phase)
			}
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(t.ops)) {
		if rec := t.ops[owner]; rec.Live() {
			t.checkLive(rec)
		}
	}
}

func (t *truth) checkLive(rec kvlock.Record) {
	t.checkClaims(rec)
	kept, owed := false, false
	for _, c := range rec.Claims {
		lock := t.locks[c.Key]
		if rec.Phase != kvlock.Queued {
			if !lock.Holds(rec.Owner) {
				t.w.fail("%s is %s and does not hold %s", rec.Owner, rec.Phase, c)
			}
			continue
		}
		at := slices.IndexFunc(lock.Line, func(w kvlock.Waiter) bool { return w.Owner == rec.Owner })
		if at < 0 {
			t.w.fail("%s waits and is not in the line of %s", rec.Owner, c)
			continue
		}
		kept = kept || lock.Mode != kvlock.ModeNone && conflicts(lock.Mode, c.Mode) ||
			slices.ContainsFunc(lock.Line[:at], func(w kvlock.Waiter) bool { return conflicts(w.Mode, c.Mode) })
		for subject := range t.posts[wakes] {
			owed = owed || strings.HasPrefix(subject, postSubject+wakes+"."+c.Key+".")
		}
	}
	if rec.Phase == kvlock.Queued && !kept && !owed {
		t.w.fail("lost waiter: nothing keeps %s from %v, and no wake is owed", rec.Owner, rec.Claims)
	}
	if subject, ok := dispatchOf(rec); ok && t.posts[dispatches][subject] == 0 {
		t.w.fail("%s is %s and nobody is told of it", rec.Owner, rec.Phase)
	}
}

// dispatchOf is the dispatch that an operation has while it is driven.
func dispatchOf(rec kvlock.Record) (string, bool) {
	if !dispatched(rec.Owner) || slices.Contains([]kvlock.Phase{kvlock.Queued, kvlock.Stuck, kvlock.Void}, rec.Phase) {
		return "", false
	}
	return fmt.Sprintf("%s%s.%s.%d", postSubject, dispatches, rec.Owner, rec.Dispatch), true
}

// dispatched says whether workers are told of an operation.
func dispatched(owner string) bool { return strings.HasSuffix(owner, "q") }

// acknowledged notes that a delivery of a dispatch is done; if the message was replaced since, nothing is done with the new one.
func (t *truth) acknowledged(subject string, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.posts[dispatches][subject] != seq {
		return
	}
	t.w.server.Remove(subject)
	delete(t.posts[dispatches], subject)
	t.check()
}

// served notes that a wake was acknowledged: from now on it is owed no more.
func (t *truth) served(subject string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.posts[wakes], subject)
	t.check()
}

// purged takes messages out of the stream. No wake is among them that is still owed.
func (t *truth) purged(filter string, below uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.w.server.Messages(filter) {
		if m.Sequence >= below {
			continue
		}
		t.w.server.Remove(m.Subject)
		t.w.count("wake purged")
		if t.posts[wakes][m.Subject] != 0 {
			t.w.fail("a wake is purged that nobody has served, at %d", m.Sequence)
		}
	}
}

// sequence is that of a dispatch or wake.
func (t *truth) sequence(subject string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.posts[dispatches][subject] + t.posts[wakes][subject]
}

// posted are the messages of a kind that are not acknowledged, in the order of the stream.
func (t *truth) posted(kind string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	posts := t.posts[kind]
	if len(posts) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Keys(posts), func(a, b string) int { return cmp.Compare(posts[a], posts[b]) })
}

// record is an operation as it stands.
func (t *truth) record(owner string) (kvlock.Record, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rec, ok := t.ops[owner]
	return rec, ok
}

// live names the operations that have not ended.
func (t *truth) live() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var live []string
	for _, owner := range slices.Sorted(maps.Keys(t.ops)) {
		if rec := t.ops[owner]; rec.Live() {
			live = append(live, owner+" "+rec.Phase.String())
		}
	}
	return live
}

// use is a holder's work on what a key stands for. It says whether the resource took it.
func (t *truth) use(g kvlock.Grant, c kvlock.Claim) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	lock, right := t.locks[c.Key], t.isRight(g)
	holds := lock.Holds(g.Owner())
	if c.Mode == kvlock.ModeShared {
		// A reader that was overtaken is not kept away: it writes nothing.
		if right && !holds {
			t.w.fail("%s reads %s and does not hold it", g.Owner(), c.Key)
		}
		return true
	}
	if g.Fence().Less(t.fences[c.Key]) && t.w.plan.plant != noFence {
		t.w.count("refused by the resource's fence")
		if right {
			t.w.fail("%s holds %s, and its fence %v is below %v", g.Owner(), c, g.Fence(), t.fences[c.Key])
		}
		return false
	}
	t.fences[c.Key] = g.Fence()
	if !holds || lock.Mode != kvlock.ModeExclusive {
		t.w.fail("two writers: %s writes %s with fence %v; the key is %s, held by %v", g.Owner(), c.Key, g.Fence(), lock.Mode, lock.Holders)
	}
	return true
}

// isRight says whether a grant is that of its operation.
func (t *truth) isRight(g kvlock.Grant) bool {
	rec := t.ops[g.Owner()]
	return rec.Live() && rec.Phase != kvlock.Void && rec.Epoch == g.Epoch() && rec.Fence() == g.Fence()
}

// raise raises the fences of an operation's resources.
func (t *truth) raise(rec kvlock.Record, f kvlock.Fence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range rec.Claims {
		if t.fences[c.Key].Less(f) {
			t.fences[c.Key] = f
		}
	}
}

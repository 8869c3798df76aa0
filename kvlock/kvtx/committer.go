package kvtx

import (
	"context"
	"slices"
	"sync"
	"time"
)

// committer makes the commits of one store. One group is in flight; what comes meanwhile waits and is the next group.
type committer struct {
	store   *Store
	name    string
	receipt receipt
	jitter  func(time.Duration) time.Duration
	flying  flying

	mu      sync.Mutex
	waiting []*member
	stopped bool
	arrived chan struct{} // Has room for one: somebody came.

	life context.Context // Ends some time after the store is closed: what is in flight then is in doubt.
	end  context.CancelFunc
	done sync.WaitGroup

	// Of the committing goroutine alone:

	apart    map[string]*apartQueue // By the key that lost.
	hot      map[string]time.Time   // Keys that lost, until when they are kept apart.
	turn     bool                   // It is the turn of those apart.
	answered int                    // Members of the last group: they may come back at once.
	came     int                    // Members that were taken for the last group.
	took     time.Duration          // How long the last batch took; 0 after plain writes.
	trip     time.Duration          // About what a group takes.
	running  *member                // Whose function is running,
	building *group                 // for which group.
}

// apartQueue are the members that touch a key which others change too. They are not in the groups of the rest, which would lose with them.
type apartQueue struct {
	members   []*member
	notBefore time.Time
	losses    int // Since it last won.
}

// hotFor is how long a key is kept apart after it lost.
const hotFor = time.Second

// closeGrace is how long Close waits for what is in flight.
const closeGrace = 5 * time.Second

// member is one commit that waits. It is owned by the goroutine of its caller and, from do until there is an outcome, by the committer.
type member struct {
	ctx     context.Context
	fn      func(Snapshot, *Tx) error // nil: fixed values.
	tx      *Tx                       // The fixed values, or what the function staged in its last run.
	absent  []string
	holds   int    // Bytes, about.
	yields  bool   // See Yields.
	start   uint64 // Of the store's clock, when the call began.
	known   map[string]known
	reads   []Entry // What the function read in its last run.
	look    look    // See Sure.
	refused uint64  // Of the store's clock: when a group with it was last refused.
	alone   int     // How often it lost although nothing had moved: it goes alone.

	outcome chan outcome

	mu     sync.Mutex
	staged bool // It is in a group that is being sent.
}

// outcome is the answer to a member: a result, an error, or the wish that it reads keys, after a proof of a revision, and comes again.
type outcome struct {
	result   Result
	err      error
	prove    Revision // 0: none.
	fetch    []string
	panicked any
}

func (m *member) learn(k known) {
	if m.known == nil {
		m.known = map[string]known{}
	}
	m.known[k.Key] = k
}

// leaveGroup: what it staged will not be sent, or was refused.
func (m *member) leaveGroup() {
	m.mu.Lock()
	m.staged = false
	m.mu.Unlock()
}

func (m *member) answer(r Result, err error) { m.outcome <- outcome{result: r, err: err} }

func newCommitter(s *Store, name string) *committer {
	c := &committer{
		store: s, name: name, receipt: receipt{committer: name, key: "rcpt." + name}, jitter: jitter, arrived: make(chan struct{}, 1),
		apart: map[string]*apartQueue{}, hot: map[string]time.Time{}, trip: time.Millisecond,
	}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

func (c *committer) start() { c.done.Go(c.run) }

// stop answers those who wait with ErrClosed and waits for what is in flight.
func (c *committer) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.signal()
	timer := time.AfterFunc(closeGrace, c.end)
	c.done.Wait()
	timer.Stop()
	c.end()
}

// do hands the member over and waits for its outcome.
func (c *committer) do(m *member) (outcome, error) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return outcome{}, ErrClosed
	}
	c.waiting = append(c.waiting, m)
	c.mu.Unlock()
	c.signal()
	select {
	case o := <-m.outcome:
		return o, nil
	case <-m.ctx.Done():
	}
	// From here on its function is not run any more: add looks at ctx first.
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case o := <-m.outcome:
		return o, nil
	default:
	}
	if m.staged {
		return outcome{}, inDoubt(m.ctx.Err())
	}
	c.forget(m)
	return outcome{}, m.ctx.Err()
}

// forget drops a member whose caller has left. Else those who give up and come again would pile up behind a group that is in flight for long.
func (c *committer) forget(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, m); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

func (c *committer) signal() {
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

func (c *committer) run() {
	finished := false
	defer func() {
		if !finished {
			c.exited()
			c.done.Go(c.run)
		}
	}()
	for {
		members, key, ok := c.next()
		if !ok {
			break
		}
		g := c.build(members, key)
		c.send(g)
	}
	finished = true
	c.refuseAll(ErrClosed)
}

// refuseAll answers everybody who waits.
func (c *committer) refuseAll(err error) {
	left := c.take()
	for _, q := range c.apart {
		left = append(left, q.members...)
		q.members = nil
	}
	for _, m := range left {
		m.answer(Result{}, err)
	}
}

// exited puts things right after a function ended this goroutine (runtime.Goexit, as a test's FailNow does): the others run again.
func (c *committer) exited() {
	m, g := c.running, c.building
	m.mu.Unlock()
	m.answer(Result{}, errGoexit)
	others := slices.Clone(g.members)
	for _, r := range g.refusals {
		others = append(others, r.m)
	}
	for _, o := range g.rest {
		if o != m {
			others = append(others, o)
		}
	}
	c.back(others)
}

// next waits for members that can be a group. The key is the one for which they are apart, or "".
func (c *committer) next() (members []*member, key string, ok bool) {
	c.linger()
	for {
		if err := c.store.failed(); err != nil {
			c.refuseAll(err)
		}
		c.mu.Lock()
		stopped := c.stopped
		waiting := len(c.waiting) > 0
		c.mu.Unlock()
		if stopped {
			return nil, "", false
		}
		due, key := c.dueApart()
		if key != "" && due <= 0 && (c.turn || !waiting) {
			c.turn = false
			q := c.apart[key]
			members, q.members = q.members, nil
			return members, key, true
		}
		c.turn = true
		if waiting {
			return c.take(), "", true
		}
		if key == "" {
			<-c.arrived
			continue
		}
		timer := time.NewTimer(due)
		select {
		case <-c.arrived:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (c *committer) take() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := c.waiting
	c.waiting = nil
	c.came += len(members)
	return members
}

// back puts members in front of those who wait.
func (c *committer) back(members []*member) {
	if len(members) == 0 {
		return
	}
	for _, m := range members {
		m.leaveGroup()
	}
	c.mu.Lock()
	c.waiting = append(slices.Clip(members), c.waiting...)
	c.mu.Unlock()
	c.signal()
}

// linger waits a moment after a batch: the callers who were just answered are about to come again, and a batch costs the same
// with them as without. It ends as soon as as many are there as were before.
func (c *committer) linger() {
	limit := c.took / lingerShare
	c.took = 0
	c.mu.Lock()
	expected := min(len(c.waiting)+c.answered, c.came+c.came/4+1)
	c.came = 0
	c.mu.Unlock()
	if limit == 0 || expected < 2 {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		c.mu.Lock()
		n, stopped := len(c.waiting), c.stopped
		c.mu.Unlock()
		if n >= expected || stopped {
			return
		}
		select {
		case <-c.arrived:
		case <-timer.C:
			c.signal()
			return
		}
	}
}

// lingerShare divides what the last batch took: so long at most more is waited for. Measured with bench api: half of it brings a single
// client's accept from two batches to one and a half, and loses nothing at 64; the whole of it loses there.
const lingerShare = 2

// dueApart is the next queue of those apart, and how long until its turn. The key is "" if there is none.
func (c *committer) dueApart() (due time.Duration, key string) {
	now := time.Now()
	for k, q := range c.apart {
		if len(q.members) == 0 {
			if now.After(q.notBefore) {
				delete(c.apart, k)
			}
			continue
		}
		if d := q.notBefore.Sub(now); key == "" || d < due || d == due && k < key {
			due, key = d, k
		}
	}
	return due, key
}

// setApart puts the member, which is in no group, into the queue of a key.
func (c *committer) setApart(key string, m *member) {
	q := c.apart[key]
	if q == nil {
		q = &apartQueue{}
		c.apart[key] = q
	}
	q.members = append(q.members, m)
}

// lostApart makes a key's queue wait before its next try, the longer the more often it lost in turn.
func (c *committer) lostApart(key string) {
	c.hot[key] = time.Now().Add(hotFor)
	if q := c.apart[key]; q != nil {
		q.notBefore = time.Now().Add(c.jitter(c.trip << min(q.losses, 5)))
		q.losses++
	}
}

// wonApart pauses about a round trip if others want the key too, so that they get their turn.
func (c *committer) wonApart(key string) {
	until, hot := c.hot[key]
	if hot && time.Now().After(until) {
		delete(c.hot, key)
		hot = false
	}
	q := c.apart[key]
	if q == nil && hot {
		q = &apartQueue{}
		c.apart[key] = q
	}
	if q != nil {
		q.losses = 0
		if hot {
			q.notBefore = time.Now().Add(c.jitter(c.trip))
		}
	}
}

// isHot says whether a key is kept apart.
func (c *committer) isHot(key string) bool {
	if len(c.hot) == 0 {
		return false
	}
	until, ok := c.hot[key]
	if ok && time.Now().After(until) {
		delete(c.hot, key)
		return false
	}
	return ok
}

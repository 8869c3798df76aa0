package kvtx

import (
	"sync"
	"time"
)

// known is an entry with the times of this store's clock between which the server had it.
type known struct {
	Entry
	// asked is before the server looked: the entry was the current one at some moment after it.
	asked uint64
	// seen is after the answer: whoever asks later cannot get an older state.
	seen uint64
	at   time.Time // When it was asked for, or sent.
	// breaks is how often the connection had broken before that. A server that was started again may have forgotten the entry.
	breaks uint64
}

// newer says whether k tells more than other. Revisions rise; what is absent without a marker has none, so there the times decide.
func (k *known) newer(other *known) bool {
	if k.Revision == other.Revision {
		return k.asked > other.asked
	}
	if k.Revision > other.Revision {
		return other.asked < k.seen
	}
	return k.asked > other.seen
}

// cache keeps the entries that were read or written last, so that records that every commit touches cost no read. It may be out of
// date: a commit checks the revisions, and refusals are decided on what is read.
//
// It is two generations: when the young one is full, the old one is dropped and the young one becomes the old one.
type cache struct {
	limit int // Bytes of one generation.

	mu    sync.Mutex
	young map[string]known
	old   map[string]known
	size  int // Of the young generation.
}

// perEntry is the memory that an entry needs beside its key and value.
const perEntry = 200

func newCache(limit int) *cache {
	return &cache{limit: limit / 2, young: map[string]known{}}
}

func (c *cache) get(key string) (known, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.young[key]
	if ok {
		return k, true
	}
	if k, ok = c.old[key]; ok {
		c.insert(k)
	}
	return k, ok
}

// put keeps the entry unless a newer one is there.
func (c *cache) put(k known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.young[k.Key]
	if !ok {
		have, ok = c.old[k.Key]
	}
	if !ok || k.newer(&have) {
		c.insert(k)
	}
}

func (c *cache) insert(k known) {
	n := len(k.Key) + len(k.Value) + perEntry
	if n > c.limit/8 {
		// Too large to be worth it; what is there is out of date.
		c.drop(k.Key)
		return
	}
	if have, ok := c.young[k.Key]; ok {
		c.size -= len(have.Key) + len(have.Value) + perEntry
	}
	c.young[k.Key] = k
	if c.size += n; c.size > c.limit {
		c.old, c.young, c.size = c.young, map[string]known{}, 0
	}
}

func (c *cache) drop(key string) {
	if have, ok := c.young[key]; ok {
		c.size -= len(have.Key) + len(have.Value) + perEntry
		delete(c.young, key)
	}
	delete(c.old, key)
}

package scopes

import (
	"hash/maphash"
	"slices"
	"sync"
)

const (
	// maxCachedSets is how many expansions a Resolver remembers.
	maxCachedSets = 10_000
	// maxCachedBytes is how much memory they may take, about. It matters only
	// if callers send many large sets of scopes that are all different, or roles
	// make many scopes of few.
	maxCachedBytes = 128 << 20
)

// cache remembers the expansions that were used last.
type cache struct {
	seed     maphash.Seed
	maxSets  int
	maxBytes int

	mu     sync.Mutex
	byHash map[uint64]*cached
	bytes  int
	// recent is the head of a ring: recent.next was used last, recent.prev is
	// the next to be forgotten.
	recent cached
}

type cached struct {
	prev, next *cached
	hash       uint64
	scopes     []string
	result     Set
	bytes      int
}

func newCache(maxSets, maxBytes int) *cache {
	c := &cache{
		seed:     maphash.MakeSeed(),
		maxSets:  maxSets,
		maxBytes: maxBytes,
		byHash:   map[uint64]*cached{},
	}
	c.recent.prev, c.recent.next = &c.recent, &c.recent
	return c
}

// hash returns the key of scopes. Two lists may have the same.
func (c *cache) hash(scopes []string) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, s := range scopes {
		_, _ = h.WriteString(s) // never fails
		_ = h.WriteByte('\n')   // not in a scope
	}
	return h.Sum64()
}

func (c *cache) get(hash uint64, scopes []string) (Set, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byHash[hash]
	if e == nil || !slices.Equal(e.scopes, scopes) {
		return Set{}, false
	}
	e.unlink()
	c.link(e)
	return e.result, true
}

// put keeps scopes, which nobody may change any more, and result, which has so
// many bytes of its own besides scopes.
func (c *cache) put(hash uint64, scopes []string, result Set, own int) {
	e := &cached{hash: hash, scopes: scopes, result: result}
	const perString, perSet = 16, 128
	e.bytes = perSet + perString*(len(scopes)+result.Len()) + own
	for _, s := range scopes {
		e.bytes += len(s)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byHash[hash]; old != nil {
		c.forget(old)
	}
	c.byHash[hash] = e
	c.bytes += e.bytes
	c.link(e)
	for len(c.byHash) > c.maxSets || c.bytes > c.maxBytes {
		c.forget(c.recent.prev)
	}
}

func (c *cache) forget(e *cached) {
	e.unlink()
	delete(c.byHash, e.hash)
	c.bytes -= e.bytes
}

func (c *cache) link(e *cached) {
	e.prev, e.next = &c.recent, c.recent.next
	e.prev.next, e.next.prev = e, e
}

func (e *cached) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
}

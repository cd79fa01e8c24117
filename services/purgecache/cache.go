package purgecache

import (
	"sync"

	"taskcluster/internal/clock"
)

// maxCachedBytes is about how much memory the cache takes at most.
const maxCachedBytes = 16 << 20

// entryOverhead is about what an entry, and a pool, takes besides its text.
const entryOverhead = 96

// cache holds the requests of pools for CacheTime, and within a budget of
// memory: when that is used up, arbitrary pools make room.
//
// Whoever fills it from the database takes the epoch before he reads and hands
// it to put, which ignores what was read before the latest forget: so a request
// that is committed and then forgotten can't be overtaken by an older reading.
type cache struct {
	clock clock.Clock
	max   int

	mu    sync.RWMutex
	pools map[string]cached
	bytes int
	epoch uint64
}

type cached struct {
	entries []entry // not changed afterwards
	until   clock.Time
	bytes   int
}

func newCache(c clock.Clock, max int) *cache {
	return &cache{clock: c, max: max, pools: map[string]cached{}}
}

func (c *cache) get(pool string) ([]entry, bool) {
	c.mu.RLock()
	found, ok := c.pools[pool]
	c.mu.RUnlock()
	if !ok || c.clock.Now() >= found.until {
		return nil, false
	}
	return found.entries, true
}

// now is the present epoch.
func (c *cache) now() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.epoch
}

// put keeps what was read in the given epoch.
func (c *cache) put(pool string, entries []entry, epoch uint64) {
	added := cached{entries: entries, until: c.clock.Now().Add(CacheTime), bytes: len(pool) + entryOverhead}
	for _, e := range entries {
		added.bytes += len(e.json) + entryOverhead
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	c.drop(pool)
	if added.bytes > c.max {
		return
	}
	for other := range c.pools {
		if c.bytes+added.bytes <= c.max {
			break
		}
		c.drop(other)
	}
	c.pools[pool] = added
	c.bytes += added.bytes
}

func (c *cache) drop(pool string) {
	c.bytes -= c.pools[pool].bytes
	delete(c.pools, pool)
}

// forget drops a pool and begins a new epoch.
func (c *cache) forget(pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(pool)
	c.epoch++
}

// clear drops all pools and begins a new epoch.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.pools)
	c.bytes = 0
	c.epoch++
}

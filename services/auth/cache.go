package auth

import "sync"

// cache is a bounded map that several goroutines may use. When it is full, an
// arbitrary entry makes room.
//
// Whoever fills it from the database takes the epoch before he reads and hands
// it to put, which ignores what was read before the latest forget: so a change
// that is committed and then forgotten can't be overtaken by an older reading.
type cache[K comparable, V any] struct {
	max int

	mu      sync.RWMutex
	entries map[K]V
	epoch   uint64
}

func newCache[K comparable, V any](max int) *cache[K, V] {
	return &cache[K, V]{max: max, entries: map[K]V{}}
}

func (c *cache[K, V]) get(key K) (V, bool) {
	c.mu.RLock()
	v, ok := c.entries[key]
	c.mu.RUnlock()
	return v, ok
}

// now is the present epoch.
func (c *cache[K, V]) now() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.epoch
}

// put keeps v, which was read in the given epoch.
func (c *cache[K, V]) put(key K, v V, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	if _, known := c.entries[key]; !known && len(c.entries) >= c.max {
		for other := range c.entries {
			delete(c.entries, other)
			break
		}
	}
	c.entries[key] = v
}

// forget drops one entry and begins a new epoch.
func (c *cache[K, V]) forget(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
	c.epoch++
}

// clear drops all entries and begins a new epoch.
func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.epoch++
}

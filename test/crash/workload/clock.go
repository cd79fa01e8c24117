package workload

import (
	"encoding/binary"
	"os"
	"sync"
	"time"
)

// Clock is a node's, which a test may set. Clients who talk to the node go by it,
// as its workers do. A nil Clock is the machine's.
type Clock struct {
	file *os.File // the node adds what is in it, a number of seconds, to the machine's time

	mu    sync.Mutex
	shift time.Duration
	sets  int
}

// NewClock makes a clock that goes with the machine's, for a node that reads the
// file at path.
func NewClock(path string) (*Clock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	c := &Clock{file: f}
	return c, c.Set(0)
}

// Path is that of the file.
func (c *Clock) Path() string { return c.file.Name() }

// Close closes the file.
func (c *Clock) Close() error { return c.file.Close() }

// Set has the clock differ from the machine's by so many seconds. Nobody here
// looks at it meanwhile.
func (c *Clock) Set(shift time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shift = shift
	c.sets++
	var seconds [8]byte
	binary.NativeEndian.PutUint64(seconds[:], uint64(shift/time.Second))
	_, err := c.file.WriteAt(seconds[:], 0)
	return err
}

// Shift is by how much the clock differs from the machine's.
func (c *Clock) Shift() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shift
}

// Now is what the clock says.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return time.Now().Add(c.Shift())
}

// clocks are those of all nodes; none are the machine's.
type clocks []*Clock

// now is what the first says.
func (all clocks) now() time.Time {
	if len(all) == 0 {
		return time.Now()
	}
	return all[0].Now()
}

// moment tells how often they were set.
func (all clocks) moment() (sets int) {
	for _, c := range all {
		c.mu.Lock()
		sets += c.sets
		c.mu.Unlock()
	}
	return sets
}

// steady tells whether they agree, and were not set since.
func (all clocks) steady(since int) bool {
	for _, c := range all {
		if c.Shift() != all[0].Shift() {
			return false
		}
	}
	return all.moment() == since
}

package queue

import (
	"sync"

	"taskcluster/internal/slugid"
)

// shownBytes bounds what shown keeps: some 50,000 tasks.
const shownBytes = 64 << 20

// shown keeps the answers about tasks' statuses, rendered, for those who ask
// again. What it gives is what a reader of the database would have found while
// it gave it:
//
//   - hold, before a commit, drops the tasks that it changes, and until release,
//     after it, nothing is kept in their place;
//   - an answer is kept only if nothing was held since before it was read.
//
// If a commit fails nobody calls release. The next commit does, by its hold;
// until then some answers are read anew each time.
//
// It is right as long as all commits are this process's.
type shown struct {
	shards [shownShards]shownShard
	limit  int   // bytes, in a shard
	held   []int // shards; only the writer uses it
}

const (
	shownShards = 64
	// shownOverhead is about what an answer takes beside its text.
	shownOverhead = 128
)

type shownShard struct {
	mu      sync.Mutex
	answers map[slugid.ID][]byte
	bytes   int
	version uint64 // grows with each hold
	held    bool
	_       [64]byte // the next one is in another line of the processor's cache
}

// newShown keeps up to so many bytes; nothing when they are 0.
func newShown(bytes int) *shown {
	s := &shown{limit: bytes / shownShards}
	for i := range s.shards {
		s.shards[i].answers = map[slugid.ID][]byte{}
	}
	return s
}

// shardOf uses the bits of an id that are random in every kind of them.
func shardOf(id slugid.ID) int { return int(id[15] % shownShards) }

// get gives the answer about a task, which must not be changed, or nil. Then
// version is for keep: what is read after this call may be kept.
func (s *shown) get(id slugid.ID) (answer []byte, version uint64) {
	h := &s.shards[shardOf(id)]
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held {
		return nil, 0
	}
	return h.answers[id], h.version
}

// keep takes an answer that was read after get gave version. It must not be
// changed any more.
func (s *shown) keep(id slugid.ID, version uint64, answer []byte) {
	size := cap(answer) + shownOverhead
	h := &s.shards[shardOf(id)]
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held || h.version != version || size > s.limit {
		return
	}
	h.drop(id)
	for other := range h.answers { // in no order, so that a walk over all tasks leaves some of those in use
		if h.bytes+size <= s.limit {
			break
		}
		h.drop(other)
	}
	h.answers[id] = answer
	h.bytes += size
}

func (h *shownShard) drop(id slugid.ID) {
	if answer, ok := h.answers[id]; ok {
		h.bytes -= cap(answer) + shownOverhead
		delete(h.answers, id)
	}
}

// hold is called just before the commit that changes tasks.
func (s *shown) hold(ids []slugid.ID) {
	s.release()
	for _, id := range ids {
		i := shardOf(id)
		h := &s.shards[i]
		h.mu.Lock()
		h.drop(id)
		if !h.held {
			h.held = true
			h.version++
			s.held = append(s.held, i)
		}
		h.mu.Unlock()
	}
}

// release is called after the commit that hold came before.
func (s *shown) release() {
	for _, i := range s.held {
		h := &s.shards[i]
		h.mu.Lock()
		h.held = false
		h.mu.Unlock()
	}
	s.held = s.held[:0]
}

package queue

import (
	"container/list"
	"sync"

	"taskcluster/internal/clock"
)

// memoryPending keeps the order in memory: one heap for each priority of each
// task queue, and an index from tasks to their places in the heaps, so that a
// canceled task leaves at once. A test measures what a pending run costs.
// What has a concurrency key is looked after in concurrency.go.
//
// A run that was taken belongs to the taker, who claims it in a transaction
// (which checks that it is still pending) or puts it back. Its task's place says
// that it is taken until a commit changes the task, so that what was resolved
// meanwhile is not put back.
type memoryPending struct {
	mu     sync.Mutex
	queues map[string]*pendingQueue
	heaps  []*pendingHeap // by number, so that places hold no pointers
	unused []int32        // numbers free for reuse
	places map[int64]place

	gates   map[string]*gate
	keyed   map[int64]*keyedRun // pending runs with a key, by tasks.id
	touched []*pendingQueue     // that got a run while somebody waits there
}

type place struct{ heap, at int32 }

// taken is the place of a task whose run somebody took.
var taken = place{heap: -1}

// pendingQueue is one task queue: its runs, or callers that wait for runs.
// Both are never there at the same time.
type pendingQueue struct {
	name    string
	size    int
	heaps   [highest + 1]*pendingHeap
	line    list.List // of *waiter
	touched bool      // by the apply that is going on
}

func newMemoryPending() *memoryPending {
	return &memoryPending{queues: map[string]*pendingQueue{}, places: map[int64]place{},
		gates: map[string]*gate{}, keyed: map[int64]*keyedRun{}}
}

// apply takes over what a commit changed, in order, and hands runs to callers
// that wait.
func (m *memoryPending) apply(changes []pendingChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		if c.limit != nil {
			m.follow(c)
			if k := m.keyed[c.row]; k != nil {
				m.removeKeyed(k)
			}
			if c.queue != "" {
				m.insertKeyed(c.queue, c.pendingRun)
			}
			continue
		}
		if p, ok := m.places[c.row]; p == taken {
			delete(m.places, c.row)
		} else if ok {
			m.remove(p)
		}
		if c.queue != "" {
			q := m.queue(c.queue)
			m.insert(q, c.pendingRun)
			m.touch(q)
		}
	}
	m.serveTouched()
}

// touch notes that a queue got a run.
func (m *memoryPending) touch(q *pendingQueue) {
	if q.line.Len() > 0 && !q.touched {
		q.touched = true
		m.touched = append(m.touched, q)
	}
}

// serveTouched hands runs to those who wait in the queues that got some.
func (m *memoryPending) serveTouched() {
	for i := 0; i < len(m.touched); i++ { // serving may touch others
		q := m.touched[i]
		q.touched = false
		m.serve(q)
	}
	clear(m.touched)
	m.touched = m.touched[:0]
}

// take removes up to n runs of a task queue, best first. When there are none
// the caller is put in line and gets a waiter.
func (m *memoryPending) take(queue string, n int) ([]pendingRun, *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue(queue)
	if q.size > 0 {
		return m.pop(q, n), nil
	}
	return nil, q.park(n)
}

// leave takes a waiter out of the line. When runs were handed to it meanwhile
// it returns them: they are the caller's.
func (m *memoryPending) leave(w *waiter) []pendingRun {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := w.queue; q != nil {
		q.unpark(w)
		m.tidy(q)
	}
	runs := w.runs
	w.runs = nil
	return runs
}

// putBack returns taken runs to their places, but for those that were claimed or
// resolved, or are pending anew, since they were taken.
func (m *memoryPending) putBack(queue string, runs []pendingRun) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range runs {
		if r.limit != nil {
			held := m.giveUp(r.hold)
			r.hold = nil
			if held && m.keyed[r.row] == nil {
				m.insertKeyed(queue, r)
			}
			continue
		}
		if m.places[r.row] == taken {
			q := m.queue(queue)
			m.insert(q, r)
			m.touch(q)
		}
	}
	m.serveTouched()
}

// serve hands runs to waiters as long as there are both.
func (m *memoryPending) serve(q *pendingQueue) {
	for w := q.first(); w != nil && q.size > 0; w = q.first() {
		q.unpark(w)
		w.runs = m.pop(q, w.n)
		w.ready <- struct{}{}
	}
	m.tidy(q)
}

// pop takes up to n runs, best first.
func (m *memoryPending) pop(q *pendingQueue, n int) []pendingRun {
	runs := make([]pendingRun, 0, min(n, q.size))
	busy := q.touched
	q.touched = true // it stays, whatever is taken out and put in
	for p := highest; p >= lowest && len(runs) < n; p-- {
		for h := q.heaps[p]; h != nil && len(h.items) > 0 && len(runs) < n; {
			top := h.items[0]
			m.remove(place{h.number, 0})
			r := pendingRun{row: top.row, scheduled: top.scheduled, priority: p}
			if k := m.keyed[r.row]; k != nil {
				r.limit = k.limit
				k.class.first = nil
				delete(m.keyed, r.row)
				r.hold = m.holdRun(k.limit.key, r.row, false)
				m.settle(k.class)
			} else {
				m.places[r.row] = taken
			}
			runs = append(runs, r)
		}
	}
	q.touched = busy
	m.tidy(q)
	return runs
}

func (m *memoryPending) insert(q *pendingQueue, r pendingRun) {
	h := q.heaps[r.priority]
	if h == nil {
		h = &pendingHeap{queue: q}
		if n := len(m.unused); n > 0 {
			h.number = m.unused[n-1]
			m.unused = m.unused[:n-1]
			m.heaps[h.number] = h
		} else {
			h.number = int32(len(m.heaps))
			m.heaps = append(m.heaps, h)
		}
		q.heaps[r.priority] = h
	}
	h.items = append(h.items, heapItem{r.scheduled, r.row})
	h.up(len(h.items)-1, m.places)
	q.size++
}

func (m *memoryPending) remove(p place) {
	h := m.heaps[p.heap]
	delete(m.places, h.items[p.at].row)
	h.remove(int(p.at), m.places)
	h.queue.size--
	m.tidy(h.queue)
}

func (m *memoryPending) queue(name string) *pendingQueue {
	q := m.queues[name]
	if q == nil {
		q = &pendingQueue{name: name}
		m.queues[name] = q
	}
	return q
}

// tidy forgets a task queue that nothing is in. It may be used all the same by
// whoever holds it: insert and park are always preceded by queue.
func (m *memoryPending) tidy(q *pendingQueue) {
	if q.size > 0 || q.line.Len() > 0 || q.touched || m.queues[q.name] != q {
		return
	}
	delete(m.queues, q.name)
	for p, h := range q.heaps {
		if h != nil {
			m.heaps[h.number] = nil
			m.unused = append(m.unused, h.number)
			q.heaps[p] = nil
		}
	}
}

// pendingHeap is a binary heap, smallest first, that keeps the index of places
// up to date. (container/heap would box each item.)
type pendingHeap struct {
	queue  *pendingQueue
	number int32
	items  []heapItem
}

type heapItem struct {
	scheduled clock.Time
	row       int64
}

func (a heapItem) before(b heapItem) bool {
	return a.scheduled < b.scheduled || a.scheduled == b.scheduled && a.row < b.row
}

func (h *pendingHeap) set(i int, item heapItem, places map[int64]place) {
	h.items[i] = item
	places[item.row] = place{h.number, int32(i)}
}

func (h *pendingHeap) up(i int, places map[int64]place) {
	item := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !item.before(h.items[parent]) {
			break
		}
		h.set(i, h.items[parent], places)
		i = parent
	}
	h.set(i, item, places)
}

func (h *pendingHeap) down(i int, places map[int64]place) {
	item := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if right := child + 1; right < len(h.items) && h.items[right].before(h.items[child]) {
			child = right
		}
		if !h.items[child].before(item) {
			break
		}
		h.set(i, h.items[child], places)
		i = child
	}
	h.set(i, item, places)
}

func (h *pendingHeap) remove(i int, places map[int64]place) {
	end := len(h.items) - 1
	moved := h.items[end]
	h.items = h.items[:end]
	if i == end {
		return
	}
	h.items[i] = moved
	if i > 0 && moved.before(h.items[(i-1)/2]) {
		h.up(i, places)
	} else {
		h.down(i, places)
	}
	if c := cap(h.items); c > 4096 && len(h.items) < c/4 {
		h.items = append(make([]heapItem, 0, c/2), h.items...)
	}
}

package queue

import (
	"container/list"
	"sync"
)

// line is the callers of claimWork on this node who found nothing, or look at
// present, by task queue and in the order in which they came. A caller is in line
// before he looks, so that what becomes pending meanwhile wakes him.
//
// Being woken is not being served: he looks again, in a transaction, and keeps
// his place if another node was faster.
type line struct {
	mu     sync.Mutex
	queues map[string]*list.List // of *standing
}

// standing is one caller's place in line.
type standing struct {
	queue  string
	n      int           // how many runs he wants at most
	due    int           // for how many he was woken since he last looked
	token  chan struct{} // has one while due is more than 0
	looked bool          // and found nothing
	place  *list.Element // nil once he left
}

func newLine() *line { return &line{queues: map[string]*list.List{}} }

func (l *line) enter(queue string, n int) *standing {
	w := &standing{queue: queue, n: n, token: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[queue]
	if q == nil {
		q = list.New()
		l.queues[queue] = q
	}
	w.place = q.PushBack(w)
	return w
}

// leave takes a caller out of line. What he was woken for and did not look at
// goes to those behind him.
func (l *line) leave(w *standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.place == nil {
		return
	}
	q := l.queues[w.queue]
	q.Remove(w.place)
	w.place = nil
	if q.Len() == 0 {
		delete(l.queues, w.queue)
	}
	l.wakeLocked(w.queue, w.due)
}

// look is called by a caller who is about to look, and returns for how many runs
// he was woken.
func (l *line) look(w *standing) (due int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-w.token:
	default:
	}
	due, w.due, w.looked = w.due, 0, false
	return due
}

// stay notes that a caller has looked, and waits to be woken.
func (l *line) stay(w *standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.looked = true
}

// wake wakes callers, in their order, until they can take n runs together.
func (l *line) wake(queue string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeLocked(queue, n)
}

func (l *line) wakeLocked(queue string, n int) {
	q := l.queues[queue]
	if q == nil {
		return
	}
	for e := q.Front(); e != nil && n > 0; e = e.Next() {
		w := e.Value.(*standing)
		if room := w.n - w.due; room > 0 {
			more := min(room, n)
			n -= more
			if w.due += more; w.due == more {
				select {
				case w.token <- struct{}{}:
				default:
				}
			}
		}
	}
}

// waiting is how many callers wait in which task queues, apart from those who
// are just looking or were woken.
func (l *line) waiting() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := make(map[string]int, len(l.queues))
	for name, q := range l.queues {
		for e := q.Front(); e != nil; e = e.Next() {
			if w := e.Value.(*standing); w.looked && w.due == 0 {
				n[name]++
			}
		}
	}
	return n
}

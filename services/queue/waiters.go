package queue

import "container/list"

// waiter is a claimWork that found nothing. It costs no timer, query or
// goroutine of its own: the request's goroutine sleeps on the channel until a
// commit hands it runs, its time is over, or the client goes away.
type waiter struct {
	ready chan struct{} // receives once, when runs were handed to it
	runs  []pendingRun  // these
	n     int           // how many runs it wants at most
	queue *pendingQueue // nil once it left the line
	place *list.Element
}

// park puts a caller at the end of the line.
func (q *pendingQueue) park(n int) *waiter {
	w := &waiter{ready: make(chan struct{}, 1), n: n, queue: q}
	w.place = q.line.PushBack(w)
	return w
}

// first is the waiter at the front of the line, nil if there is none.
func (q *pendingQueue) first() *waiter {
	if e := q.line.Front(); e != nil {
		return e.Value.(*waiter)
	}
	return nil
}

// unpark takes a waiter out of the line.
func (q *pendingQueue) unpark(w *waiter) {
	q.line.Remove(w.place)
	w.queue, w.place = nil, nil
}

package queue

// waiter is a claimWork that found nothing. It costs no timer, query or
// goroutine of its own: the request's goroutine sleeps on the channel until a
// commit hands it runs, its time is over, or the client goes away.
type waiter struct {
	ready      chan struct{} // receives once, when runs were handed to it
	runs       []pendingRun  // these
	n          int           // how many runs it wants at most
	queue      *pendingQueue // nil once it left the line
	prev, next *waiter
}

// park puts a caller at the end of the line.
func (q *pendingQueue) park(n int) *waiter {
	w := &waiter{ready: make(chan struct{}, 1), n: n, queue: q, prev: q.last}
	if q.last != nil {
		q.last.next = w
	} else {
		q.first = w
	}
	q.last = w
	return w
}

// unpark takes a waiter out of the line.
func (q *pendingQueue) unpark(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.queue, w.prev, w.next = nil, nil, nil
}

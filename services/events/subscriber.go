package events

import (
	"context"

	"taskcluster/internal/events"
)

// subscriber is one connection as the hub sees it: live, with a queue that the
// hub fills, or behind, reading the log by himself.
type subscriber struct {
	hub  *hub
	wake func() // called when there is something to take; it must not wait

	// By the hub's mutex; bindings change only while it is held.
	bindings []events.Binding
	live     bool
	queue    []*message
	size     int             // bytes in queue
	pushed   events.Position // the last one that was handed to him
	slow     bool            // he had too many to take since he was last told
	lost     bool            // what came before those in queue may be gone, and he was not told yet

	at events.Position // he got, or need not get, everything up to here; by his own goroutine, or while not live
}

// subscribe makes a subscriber who gets what follows a position. close must be
// called in the end.
func (h *hub) subscribe(after events.Position, bindings []events.Binding, wake func()) *subscriber {
	return &subscriber{hub: h, wake: wake, bindings: bindings, at: after}
}

func (s *subscriber) close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.leave(s)
}

// bind adds a binding, from the present on, unless there are MaxBindings.
func (s *subscriber) bind(b events.Binding) (added bool) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if len(s.bindings) >= MaxBindings {
		return false
	}
	s.bindings = append(s.bindings[:len(s.bindings):len(s.bindings)], b)
	if s.live {
		s.hub.index(s)
	}
	return true
}

// bound are the bindings at present.
func (s *subscriber) bound() []events.Binding {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.bindings
}

// push queues a message. One who has too many to take is live no more. The
// hub's mutex is held.
func (s *subscriber) push(m *message) {
	if len(s.queue) >= MaxQueue || s.size+len(m.body) > MaxQueueBytes && len(s.queue) > 0 {
		s.hub.leave(s)
		s.slow = true
	} else {
		s.queue = append(s.queue, m)
		s.size += len(m.body)
	}
	s.wake()
}

// take empties the queue.
func (s *subscriber) take() (n news, live bool) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	n = news{messages: s.queue, lost: s.lost, slow: s.slow}
	s.queue, s.size, s.slow, s.lost = nil, 0, false, false
	if some := len(n.messages); some > 0 {
		s.at = n.messages[some-1].position
	}
	return n, s.live
}

// news is what a subscriber gets next.
type news struct {
	messages []*message
	lost     bool // what was published before the first of them may be gone
	slow     bool // more waited for him than is kept in memory
}

// place is up to where he got everything that there was.
func (s *subscriber) place() events.Position {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.live && len(s.queue) == 0 {
		return max(s.at, s.hub.at)
	}
	return s.at
}

// next returns what there is to send, and is to be called again upon wake. With
// nothing to send, caught tells that there is no more at present.
func (s *subscriber) next(ctx context.Context) (n news, caught bool, err error) {
	defer func() {
		if err == nil && !caught {
			s.wake()
		}
	}()
	n, live := s.take()
	if len(n.messages) > 0 || live {
		return n, live && len(n.messages) == 0, nil
	}
	if err := s.hub.reading.Acquire(ctx, 1); err != nil {
		return news{}, false, err
	}
	defer s.hub.reading.Release(1)
	behind, err := s.hub.log.Read(ctx, s.at, portion)
	if err != nil {
		return news{}, false, err
	}
	// Asked for after reading, because the log is trimmed at its beginning.
	complete, _, err := s.hub.log.Extent(ctx)
	if err != nil {
		return news{}, false, err
	}
	gap := n.lost || s.at < complete
	if len(behind) == 0 {
		if gap { // all of it
			s.at = complete
			return news{lost: true}, false, nil
		}
		return news{}, s.hub.join(s), nil
	}
	bindings := s.bound()
	n.lost = gap
	for i := range behind {
		if events.Matches(bindings, &behind[i].Event) {
			n.messages = append(n.messages, render(&behind[i]))
		}
	}
	s.at = behind[len(behind)-1].Position
	return n, false, nil
}

package events

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"taskcluster/internal/events"
)

const (
	// portion is how many messages are read from the log at once.
	portion = 256
	// readers is how many subscribers who are behind read the log at a time.
	readers = 4
	// retryPause is the wait after the log could not be read.
	retryPause = time.Second
)

// message is a published message as subscribers get it, rendered once for all.
type message struct {
	position events.Position
	body     []byte // JSON, in one line
}

func render(m *events.Message) *message {
	routes := []string{}
	for _, cc := range m.CC {
		if route, ok := strings.CutPrefix(cc, "route."); ok {
			routes = append(routes, route)
		}
	}
	body, err := json.Marshal(struct {
		Payload     json.RawMessage `json:"payload"`
		Exchange    string          `json:"exchange"`
		RoutingKey  string          `json:"routingKey"`
		Redelivered bool            `json:"redelivered"`
		Routes      []string        `json:"routes"`
		Position    int64           `json:"position"`
	}{m.Payload, m.Exchange, m.Key, false, routes, int64(m.Position)})
	if err != nil { // the payload is no JSON: it is shown as text
		m.Payload, _ = json.Marshal(string(m.Payload))
		return render(m)
	}
	var line bytes.Buffer
	if json.Compact(&line, body) == nil {
		body = line.Bytes()
	}
	return &message{m.Position, body}
}

// hub reads the log for all subscribers who have caught up with it.
type hub struct {
	log     *events.Log
	reading *semaphore.Weighted // by those who are behind

	mu    sync.Mutex
	at    events.Position // everything up to here was handed out
	live  map[bucket]map[*subscriber]bool
	count int           // of the live ones
	woken chan struct{} // holds a token when the first one came
}

func newHub(l *events.Log) *hub {
	return &hub{log: l, reading: semaphore.NewWeighted(readers), live: map[bucket]map[*subscriber]bool{}, woken: make(chan struct{}, 1)}
}

// join makes a subscriber live, unless he is behind.
func (h *hub) join(s *subscriber) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count == 0 {
		h.at = s.at
	}
	if s.at < h.at {
		return false
	}
	s.live = true
	h.count++
	h.index(s)
	select {
	case h.woken <- struct{}{}:
	default:
	}
	return true
}

func (h *hub) index(s *subscriber) {
	for _, b := range s.bindings {
		in := bucketOf(b)
		subscribers := h.live[in]
		if subscribers == nil {
			subscribers = map[*subscriber]bool{}
			h.live[in] = subscribers
		}
		subscribers[s] = true
	}
}

// bucket is where subscribers are found who may want a message: by its exchange
// and the first two words of its key, or, when their pattern does not begin with
// two words, by the exchange alone. So a message about one task does not meet
// everybody who follows some other task.
type bucket struct{ exchange, start string }

func bucketOf(b events.Binding) bucket {
	start := firstWords(b.Pattern)
	if strings.ContainsAny(start, "*#") {
		start = ""
	}
	return bucket{b.Exchange, start}
}

// firstWords are the first two words of a key, or nothing if it has one.
func firstWords(key string) string {
	first := strings.IndexByte(key, '.')
	if first < 0 {
		return ""
	}
	if second := strings.IndexByte(key[first+1:], '.'); second >= 0 {
		return key[:first+1+second]
	}
	return key
}

// leave is called with h.mu held.
func (h *hub) leave(s *subscriber) {
	if !s.live {
		return
	}
	s.live = false
	h.count--
	for _, b := range s.bindings {
		in := bucketOf(b)
		delete(h.live[in], s)
		if len(h.live[in]) == 0 {
			delete(h.live, in)
		}
	}
}

// follow hands messages out until ctx ends. Without subscribers it waits for one.
func (h *hub) follow(ctx context.Context, logger *slog.Logger) error {
	for ctx.Err() == nil {
		changed := h.log.Changed()
		h.mu.Lock()
		from, any := h.at, h.count > 0
		h.mu.Unlock()
		if !any {
			changed = nil
		}
		if !any || from >= h.log.Head() {
			select {
			case <-changed:
			case <-h.woken:
			case <-ctx.Done():
			}
			continue
		}
		if err := h.read(ctx, from); err != nil && ctx.Err() == nil {
			logger.Error("the event log cannot be read for those who follow it", "error", err)
			pause(ctx, retryPause)
		}
	}
	return nil
}

// read hands out what is next behind from.
func (h *hub) read(ctx context.Context, from events.Position) error {
	messages, err := h.log.Read(ctx, from, portion)
	if err != nil {
		return err
	}
	// Who could not read for longer than the log keeps messages finds that a row is
	// missing. In PostgreSQL some are never there.
	var complete events.Position
	if len(messages) > 0 && messages[0].Position-from > events.PerRow {
		if complete, _, err = h.log.Extent(ctx); err != nil {
			return err
		}
	}
	h.handOut(from, complete, messages)
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// handOut gives messages that were read behind from to the live subscribers. What
// came before complete may be gone.
func (h *hub) handOut(from, complete events.Position, messages []events.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at != from {
		return // all had left, and others came since
	}
	if from < complete {
		for _, subscribers := range h.live {
			for s := range subscribers {
				if s.at < complete && !s.lost {
					s.lost = true
					s.wake()
				}
			}
		}
	}
	for i := range messages {
		m := &messages[i]
		var shown *message
		give := func(start string) {
			for s := range h.live[bucket{m.Exchange, start}] {
				if m.Position > s.at && m.Position > s.pushed && events.Matches(s.bindings, &m.Event) {
					if shown == nil {
						shown = render(m)
					}
					s.pushed = m.Position
					s.push(shown)
				}
			}
		}
		give("")
		for _, key := range append([]string{m.Key}, m.CC...) {
			if start := firstWords(key); start != "" {
				give(start)
			}
		}
		h.at = m.Position
	}
	if len(messages) == 0 { // what there was is trimmed: nobody read for that long
		h.at = h.log.Head()
	}
}

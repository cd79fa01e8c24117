package store

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Signal tells that something of a topic changed, or may have.
type Signal struct {
	// Detail is what Tx.Signal was given. It is "" when Lost.
	Detail string
	// Elsewhere tells that another process made the change.
	Elsewhere bool
	// Lost tells that signals may have been missed: whatever is kept in memory
	// must be read anew.
	Lost bool
}

// maxNotice is how many bytes a database hands on at once (PostgreSQL: fewer
// than 8,000).
const maxNotice = 7999

// topicSignals are the details of one topic, each once. None at all stands for
// those that did not fit into a notice.
type topicSignals struct {
	topic   string
	details []string
}

// signals hands out what was signalled to those who watch.
type signals struct {
	node   string // this process, as others know it
	opened time.Time
	sure   atomic.Int64  // until how long after opened others' signals have been delivered
	asked  chan struct{} // holds a token when that is long ago and somebody wants to know

	mu       sync.Mutex // held while watchers are called, so that they are called one at a time
	watchers map[string][]*watcher
}

type watcher struct{ fn func(Signal) }

func newSignals() *signals {
	return &signals{node: rand.Text(), opened: time.Now(), watchers: map[string][]*watcher{}, asked: make(chan struct{}, 1)}
}

// Signal tells everybody who watches the topic, here and in every other process
// that shares the database, once the transaction is durable: here before any
// caller is answered, elsewhere some milliseconds later. The same signal twice
// in one transaction is one. detail is text in UTF-8; when there are more than
// some hundred in one transaction, other processes get one that is Lost instead.
func (tx *Tx) Signal(topic, detail string) {
	if !tx.hook("Signal") {
		return
	}
	key := [2]string{topic, detail}
	if tx.signalled[key] {
		return
	}
	if tx.signalled == nil {
		tx.signalled = map[[2]string]bool{}
	}
	tx.signalled[key] = true
	for i := range tx.signals {
		if t := &tx.signals[i]; t.topic == topic {
			t.details = append(t.details, detail)
			return
		}
	}
	tx.signals = append(tx.signals, topicSignals{topic, []string{detail}})
}

// Watch has fn called with every signal of a topic, one at a time and in the
// order of the commits, until stop is called. fn must be quick and must not use
// the store, nor call Watch or stop.
//
// To keep in memory what is in the database: watch first, then read, and forget
// what was read before or while a signal came.
func (s *Store) Watch(topic string, fn func(Signal)) (stop func()) {
	w := &watcher{fn}
	s.signals.mu.Lock()
	defer s.signals.mu.Unlock()
	s.signals.watchers[topic] = append(s.signals.watchers[topic], w)
	return func() {
		s.signals.mu.Lock()
		defer s.signals.mu.Unlock()
		s.signals.watchers[topic] = slices.DeleteFunc(s.signals.watchers[topic], func(other *watcher) bool { return other == w })
	}
}

// Delay is how far memory that follows signals may lag behind what other
// processes have committed while Current says yes. Mostly it is milliseconds.
const Delay = 5 * time.Second

// askAgain is how old the answer of Current may be before the database is asked
// for a newer one. Nobody asks on behalf of a process that is idle.
const askAgain = 2 * time.Second

// Current tells whether all signals of what was committed Delay ago or earlier
// have been delivered. It is no while the connection that hears of them is
// broken or the database does not answer on it, and right after this process
// has stood still or nobody has called Current for a while: memory on which much
// depends must not be trusted then, but the database asked.
func (s *Store) Current() bool {
	if !s.shared {
		return true
	}
	age := time.Since(s.signals.opened) - time.Duration(s.signals.sure.Load())
	if age > askAgain {
		select {
		case s.signals.asked <- struct{}{}:
		default:
		}
	}
	return age < Delay
}

// sure notes that signals of what was committed before at have been delivered.
func (s *Store) sure(at time.Time) { s.signals.sure.Store(int64(at.Sub(s.signals.opened))) }

// Where names the database for messages, without secrets.
func (s *Store) Where() string { return s.engine.Where() }

// Shared tells whether other processes may write to the database.
func (s *Store) Shared() bool { return s.shared }

// deliver calls those who watch a topic.
func (s *Store) deliver(topics []topicSignals, elsewhere bool) {
	if len(topics) == 0 {
		return
	}
	s.signals.mu.Lock()
	defer s.signals.mu.Unlock()
	for _, t := range topics {
		for _, w := range s.signals.watchers[t.topic] {
			if len(t.details) == 0 {
				s.tell(w, Signal{Elsewhere: elsewhere, Lost: true})
			}
			for _, detail := range t.details {
				s.tell(w, Signal{Detail: detail, Elsewhere: elsewhere})
			}
		}
	}
}

// lost tells everybody who watches anything that signals may have been missed.
func (s *Store) lost() {
	s.signals.mu.Lock()
	defer s.signals.mu.Unlock()
	for _, watchers := range s.signals.watchers {
		for _, w := range watchers {
			s.tell(w, Signal{Elsewhere: true, Lost: true})
		}
	}
}

func (s *Store) tell(w *watcher, signal Signal) {
	s.logPanic(contain(func() error { w.fn(signal); return nil }))
}

// heard takes a notice of any process, also of this one.
func (s *Store) heard(notice string) {
	node, topics, ok := decodeNotice(notice)
	switch {
	case !ok: // a later version of this program may write another form
		s.lost()
	case node != s.signals.node:
		s.deliver(topics, true)
	}
}

// notice is what other processes are told: a list in JSON of the node and of
// lists, each of a topic and its details.
//
//	["NODE",["topic","detail",…],…]
//
// Details are left out where they would not fit.
func notice(node string, topics []topicSignals) string {
	if len(topics) == 0 {
		return ""
	}
	list := make([]any, 1, 1+len(topics))
	list[0] = node
	sizes := make([]int, len(topics))
	size := len(node) + 4
	for i, t := range topics {
		one := append([]string{t.topic}, t.details...)
		list = append(list, one)
		text, _ := json.Marshal(one) // strings always do
		sizes[i] = len(text) + 1
		size += sizes[i]
	}
	for size > maxNotice {
		largest := 0
		for i := range sizes {
			if sizes[i] > sizes[largest] {
				largest = i
			}
		}
		short, _ := json.Marshal([]string{topics[largest].topic})
		size -= sizes[largest] - len(short) - 1
		list[1+largest], sizes[largest] = []string{topics[largest].topic}, 0
	}
	text, _ := json.Marshal(list)
	return string(text)
}

func decodeNotice(text string) (node string, topics []topicSignals, ok bool) {
	var list []json.RawMessage
	if json.Unmarshal([]byte(text), &list) != nil || len(list) == 0 || json.Unmarshal(list[0], &node) != nil {
		return "", nil, false
	}
	for _, raw := range list[1:] {
		var one []string
		if json.Unmarshal(raw, &one) != nil || len(one) == 0 {
			return "", nil, false
		}
		topics = append(topics, topicSignals{one[0], one[1:]})
	}
	return node, topics, true
}

// notice is empty when nobody else can hear it.
func (s *Store) notice(topics []topicSignals) string {
	if !s.shared {
		return ""
	}
	return notice(s.signals.node, topics)
}

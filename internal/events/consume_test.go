package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
)

var all = []Binding{{Exchange: exchange, Pattern: "#"}}

// The tests of consumers run in bubbles, where synctest.Wait returns when
// everybody waits for something: then all is handled and saved.

// consumed is a consumer that runs in the background and hands each message to
// the test, which answers with the handler's error.
type consumed struct {
	t        testing.TB
	messages chan Message
	answers  chan error
	stop     func() // and waits
	cancel   func()
}

func consume(t testing.TB, l *Log, name string, bindings []Binding) *consumed {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &consumed{t: t, messages: make(chan Message), answers: make(chan error), cancel: cancel}
	ended := make(chan error)
	go func() {
		ended <- l.Consume(ctx, name, bindings, func(ctx context.Context, m Message) error {
			select {
			case c.messages <- m:
				return <-c.answers
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	stopped := false
	c.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the consumer %s ended with %v", name, err)
			}
		}
	}
	t.Cleanup(c.stop)
	synctest.Wait() // it is registered, and so misses nothing, when it waits
	return c
}

func running(t testing.TB, l *Log) []Lag {
	t.Helper()
	lags, err := l.Consumers(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return lags
}

// expect takes the next message, checks its number, and answers.
func (c *consumed) expect(n int, redelivered bool, answer error) {
	c.t.Helper()
	m := <-c.messages
	if want := fmt.Sprint("primary.", n); m.Key != want || m.Redelivered != redelivered {
		c.t.Errorf("got %s, redelivered %v; want %s, %v", m.Key, m.Redelivered, want, redelivered)
	}
	c.answers <- answer
}

func TestConsume(t *testing.T) {
	lifecycle.CheckLeaks(t)
	synctest.Test(t, testConsume)
}

func testConsume(t *testing.T) {
	s, l := newLog(t, Options{})
	publish(t, s, l, 0, 3) // before the consumer's time
	c := consume(t, l, "c", all)
	publish(t, s, l, 3, 5)
	c.expect(3, false, nil)
	c.expect(4, false, nil)
	if err := l.Consume(t.Context(), "c", all, nil); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second consumer of the name: %v", err)
	}
	c.stop()
	if lags := running(t, l); len(lags) != 1 || lags[0].Position != l.Head() {
		t.Errorf("the cursor is %v, the head %d", lags, l.Head())
	}
	publish(t, s, l, 5, 7) // while it does not run
	c = consume(t, l, "c", all)
	c.expect(5, true, nil) // as far as it can know
	c.expect(6, true, nil)
	publish(t, s, l, 7, 8)
	c.expect(7, false, nil)
	publish(t, s, l, 8, 10)
	if m := <-c.messages; m.Key != "primary.8" {
		t.Errorf("got %s", m.Key)
	}
	c.cancel() // while it handles 8, and 9 is behind it
	c.answers <- nil
	c.stop()
	c = consume(t, l, "c", all)
	c.expect(9, true, nil) // 8 was handled, and that was saved
}

func TestBindings(t *testing.T) { synctest.Test(t, testBindings) }

func testBindings(t *testing.T) {
	s, l := newLog(t, Options{})
	other := event(1)
	other.Exchange = "exchange/other"
	c := consume(t, l, "c", []Binding{
		{Exchange: exchange, Pattern: "route.n.2"}, // a CC key
		{Exchange: exchange, Pattern: "primary.4"},
		{Exchange: exchange, Pattern: "#.4"}, // twice, and yet one copy
		{Exchange: "exchange/other", Pattern: "nothing"},
	})
	publish(t, s, l, 0, 4)
	if err := s.Write(t.Context(), func(tx *store.Tx) error { l.Publish(tx, other); return nil }); err != nil {
		t.Fatal(err)
	}
	publish(t, s, l, 4, 6)
	c.expect(2, false, nil)
	c.expect(4, false, nil)
	publish(t, s, l, 2, 3)
	c.expect(2, false, nil)
}

// While nothing is published, consumers run no statement.
func TestIdle(t *testing.T) { synctest.Test(t, testIdle) }

func testIdle(t *testing.T) {
	s, l := newLog(t, Options{})
	consumers := make([]*consumed, 5)
	for i := range consumers {
		consumers[i] = consume(t, l, fmt.Sprint("c", i), all)
	}
	publish(t, s, l, 0, 1)
	for _, c := range consumers {
		c.expect(0, false, nil)
	}
	synctest.Wait()
	for _, lag := range running(t, l) {
		if lag.Position != l.Head() {
			t.Errorf("%+v, the head is %d", lag, l.Head())
		}
	}
	before := s.Stats()
	time.Sleep(24 * time.Hour) // in the bubble's time: whoever looks now and then, does
	synctest.Wait()
	if d := s.Stats(); d != before {
		t.Errorf("idle consumers ran statements: %+v, then %+v", before, d)
	}
}

func TestRetryAndDeadLetters(t *testing.T) { synctest.Test(t, testRetryAndDeadLetters) }

func testRetryAndDeadLetters(t *testing.T) {
	fake := &steps{Fake: clock.NewFake(clock.OfMillis(1_700_000_000_000)), asked: make(chan time.Duration)}
	s, l := newLog(t, Options{Clock: fake, Attempts: 4, Backoff: time.Second, MaxBackoff: 3 * time.Second})
	c := consume(t, l, "c", all)
	trouble := errors.New("trouble \xff")
	publish(t, s, l, 0, 2)
	c.expect(0, false, trouble)
	for _, pause := range []time.Duration{time.Second, 2 * time.Second} {
		if d := <-fake.asked; d != pause {
			t.Errorf("it pauses for %v, want %v", d, pause)
		}
		fake.Advance(pause)
		c.expect(0, true, trouble)
	}
	if d := <-fake.asked; d != 3*time.Second {
		t.Errorf("it pauses for %v, want the greatest pause", d)
	}
	fake.Advance(3 * time.Second)
	if letters, err := l.DeadLetters(t.Context(), 0, 10); err != nil || len(letters) != 0 {
		t.Errorf("too early: %v, %v", letters, err)
	}
	c.expect(0, true, trouble) // the fourth and last attempt
	c.expect(1, false, Reject(trouble))
	publish(t, s, l, 2, 3)
	c.expect(2, false, nil)

	letters, err := l.DeadLetters(t.Context(), 0, 10)
	if err != nil || len(letters) != 2 {
		t.Fatalf("%v, %v", letters, err)
	}
	for i, attempts := range []int{4, 1} {
		d := letters[i]
		if d.Consumer != "c" || d.Attempts != attempts || d.Error != "trouble ?" || d.Died != fake.Now() || d.Replay ||
			d.Message.Key != event(i).Key || string(d.Message.Payload) != string(event(i).Payload) || d.Message.Position == 0 {
			t.Errorf("dead letter %d: %+v", i, d)
		}
	}
	if rest, err := l.DeadLetters(t.Context(), letters[0].ID, 10); err != nil || len(rest) != 1 {
		t.Errorf("%v, %v", rest, err)
	}

	// Given back twice: it fails once more, then it is handled.
	if err := l.Replay(t.Context(), letters[0].ID); err != nil {
		t.Fatal(err)
	}
	c.expect(0, true, errors.New("still"))
	publish(t, s, l, 3, 4)
	c.expect(3, false, nil)
	again, err := l.DeadLetters(t.Context(), 0, 1)
	if err != nil || again[0].Error != "still" || again[0].Attempts != 5 || again[0].Replay {
		t.Errorf("%+v, %v", again, err)
	}
	c.stop()
	if err := l.Replay(t.Context(), letters[0].ID); err != nil {
		t.Fatal(err)
	}
	c = consume(t, l, "c", all) // it looks when it starts
	c.expect(0, true, nil)
	publish(t, s, l, 4, 5)
	c.expect(4, false, nil)
	if err := l.Discard(t.Context(), letters[1].ID); err != nil {
		t.Fatal(err)
	}
	if letters, err := l.DeadLetters(t.Context(), 0, 10); err != nil || len(letters) != 0 {
		t.Errorf("%v, %v", letters, err)
	}
	for _, err := range []error{l.Replay(t.Context(), 99), l.Discard(t.Context(), letters[0].ID)} {
		if !errors.Is(err, ErrNoDeadLetter) {
			t.Errorf("got %v", err)
		}
	}
}

// steps is a clock that tells the test how long somebody wants to wait.
type steps struct {
	*clock.Fake
	asked chan time.Duration
}

func (s *steps) After(at clock.Time) (<-chan struct{}, func()) {
	due, cancel := s.Fake.After(at)
	s.asked <- at.Sub(s.Now())
	return due, cancel
}

func TestPanickingHandler(t *testing.T) { synctest.Test(t, testPanickingHandler) }

func testPanickingHandler(t *testing.T) {
	s, l := newLog(t, Options{Attempts: 1})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	registered := consume(t, l, "p", nil)
	registered.stop()
	publish(t, s, l, 0, 2)
	go func() {
		ended <- l.Consume(ctx, "p", all, func(_ context.Context, m Message) error {
			if m.Key == "primary.0" {
				panic("ouch")
			}
			cancel()
			return nil
		})
	}()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	letters, err := l.DeadLetters(t.Context(), 0, 10)
	if err != nil || len(letters) != 1 || letters[0].Error != "panic: ouch" {
		t.Errorf("%v, %v", letters, err)
	}
}

// A consumer that nothing concerns still moves its cursor, so that it does not
// keep rows from being trimmed, but not with every commit.
func TestSkipping(t *testing.T) { synctest.Test(t, testSkipping) }

func testSkipping(t *testing.T) {
	s, l := newLog(t, Options{})
	c := consume(t, l, "c", []Binding{{Exchange: "exchange/other", Pattern: "#"}})
	before := s.Stats()
	for n := range 200 {
		publish(t, s, l, n, n+1)
	}
	last := event(200)
	last.Exchange = "exchange/other"
	if err := s.Write(t.Context(), func(tx *store.Tx) error { l.Publish(tx, last); return nil }); err != nil {
		t.Fatal(err)
	}
	c.expect(200, false, nil)
	c.stop()
	d := s.Stats()
	if n := d.Commits - before.Commits; n != 202 { // 201, and the cursor once
		t.Errorf("%d commits", n)
	}
	if lags := running(t, l); lags[0].Position != l.Head() {
		t.Errorf("%+v, the head is %d", lags, l.Head())
	}
}

package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

const exchange = "exchange/taskcluster-queue/v1/task-defined"

// event makes the n-th event.
func event(n int) Event {
	return Event{Exchange: exchange, Key: fmt.Sprint("primary.", n), CC: []string{fmt.Sprint("route.n.", n)}, Payload: fmt.Appendf(nil, `{"n":%d}`, n)}
}

func newLog(t testing.TB, opts Options) (*store.Store, *Log) {
	t.Helper()
	// Alone, because a connection that listens would never let a bubble rest.
	s := storetest.Open(t, store.Options{Migrations: []store.Migrations{Migrations}, Clock: opts.Clock, Alone: true})
	return s, NewLog(s, opts)
}

// publish commits events from to to-1 in one transaction.
func publish(t testing.TB, s *store.Store, l *Log, from, to int) {
	t.Helper()
	if err := s.Write(context.Background(), func(tx *store.Tx) error {
		for n := from; n < to; n++ {
			l.Publish(tx, event(n))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// numbers reads everything after a position in portions.
func numbers(t testing.TB, l *Log, after Position, limit int) (got []string) {
	t.Helper()
	for {
		messages, err := l.Read(t.Context(), after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) == 0 {
			return got
		}
		if len(messages) > limit {
			t.Fatalf("%d messages, the limit is %d", len(messages), limit)
		}
		for _, m := range messages {
			if m.Position <= after {
				t.Fatalf("position %d after %d", m.Position, after)
			}
			after = m.Position
			got = append(got, strings.TrimPrefix(m.Key, "primary."))
		}
	}
}

func TestPublishAndRead(t *testing.T) {
	s, l := newLog(t, Options{})
	if l.Head() != 0 || len(numbers(t, l, 0, 10)) != 0 {
		t.Error("a new log is not empty")
	}
	changed := l.Changed()
	before := s.Stats()
	publish(t, s, l, 0, 100)
	d := s.Stats()
	if n := d.Statements - before.Statements; n != 1 {
		t.Errorf("100 events in one commit took %d statements", n)
	}
	<-changed
	changed = l.Changed()
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	trouble := errors.New("trouble")
	if err := s.Write(t.Context(), func(tx *store.Tx) error { l.Publish(tx, event(-1)); return trouble }); !errors.Is(err, trouble) {
		t.Error(err)
	}
	select {
	case <-changed:
		t.Error("Changed fired without a message")
	default:
	}
	publish(t, s, l, 100, 103)
	for _, limit := range []int{1, 7, 1000} {
		got := numbers(t, l, 0, limit)
		if len(got) != 103 || got[0] != "0" || got[99] != "99" || got[102] != "102" {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
	last, err := l.Read(t.Context(), l.Head()-1, 10)
	if err != nil || len(last) != 1 {
		t.Fatalf("%v, %v", last, err)
	}
	m, want := last[0], event(102)
	if m.Position != l.Head() || m.Exchange != want.Exchange || m.Key != want.Key || m.CC[0] != want.CC[0] || string(m.Payload) != string(want.Payload) || m.Time == 0 || m.Redelivered {
		t.Errorf("%+v", m)
	}
	if got := NewLog(s, Options{}).Head(); got != l.Head() {
		t.Errorf("opened again, the head is %d, not %d", got, l.Head())
	}
	if messages, err := l.Read(t.Context(), 0, 0); err != nil || messages != nil {
		t.Errorf("limit 0: %v, %v", messages, err)
	}
}

func TestConcurrentPublish(t *testing.T) {
	s, l := newLog(t, Options{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 25 {
				publish(t, s, l, w*1000+i*2, w*1000+i*2+2)
			}
		})
	}
	wg.Wait()
	got := numbers(t, l, 0, 64)
	next := map[byte]int{}
	for _, text := range got {
		var n int
		fmt.Sscan(text, &n)
		w := byte(n / 1000)
		if n%1000 != next[w] {
			t.Fatalf("the event %d came where %d was due", n, next[w])
		}
		next[w]++
	}
	if len(got) != 400 {
		t.Errorf("%d events, want 400", len(got))
	}
}

func TestManyInOneCommit(t *testing.T) {
	s, l := newLog(t, Options{})
	before := s.Stats()
	publish(t, s, l, 0, PerRow+10)
	if n := s.Stats().Statements - before.Statements; n != 2 {
		t.Errorf("%d statements, want 2", n)
	}
	if want := position(2, 9); l.Head() != want {
		t.Errorf("the head is %d, want %d", l.Head(), want)
	}
	got := numbers(t, l, position(1, PerRow-3), 100)
	if len(got) != 12 || got[0] != fmt.Sprint(PerRow-2) || got[11] != fmt.Sprint(PerRow+9) {
		t.Errorf("got %v", got)
	}
}

func TestLimits(t *testing.T) {
	s, l := newLog(t, Options{})
	for name, e := range map[string]Event{
		"no exchange":   {Key: "k"},
		"a long key":    {Exchange: "x", Key: strings.Repeat("k", 256)},
		"a long CC key": {Exchange: "x", CC: []string{strings.Repeat("k", 256)}},
		"many CC keys":  {Exchange: "x", CC: make([]string, MaxCC+1)},
	} {
		if err := s.Write(t.Context(), func(tx *store.Tx) error { l.Publish(tx, e); return nil }); err == nil {
			t.Errorf("%s was published", name)
		}
	}
	if l.Head() != 0 {
		t.Errorf("the head is %d", l.Head())
	}
}

func TestPublishAllocations(t *testing.T) {
	s, l := newLog(t, Options{})
	e := event(1)
	publish(t, s, l, 0, 2000) // the buffer has its size
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		l.Publish(tx, e)
		if n := testing.AllocsPerRun(500, func() { l.Publish(tx, e) }); n > 0 {
			t.Errorf("an event makes %v allocations", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTrim(t *testing.T) {
	fake := clock.NewFake(clock.OfMillis(1_700_000_000_000))
	s, l := newLog(t, Options{Clock: fake, Retention: time.Hour, HardCap: 10 * time.Hour})
	trim := func(want int64) {
		t.Helper()
		if n, err := l.Trim(t.Context()); err != nil || n != want {
			t.Fatalf("%d rows were removed, want %d; %v", n, want, err)
		}
	}
	trim(0)
	// A consumer that has come past the first of four rows, in the first hour.
	publish(t, s, l, 0, 1)
	if err := s.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(cursorStmt.set, "slow", int64(position(2, 0)), tx.Now())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 4; n++ {
		publish(t, s, l, n, n+1)
	}
	trim(0)
	fake.Advance(2 * time.Hour)
	trim(1) // what the consumer has passed
	lags, err := l.Consumers(t.Context())
	if err != nil || len(lags) != 1 || lags[0].Consumer != "slow" || lags[0].Position != position(2, 0) {
		t.Fatalf("%v, %v", lags, err)
	}
	fake.Advance(9 * time.Hour)
	trim(2) // all but the newest, in spite of the consumer
	if err := l.Forget(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	trim(0)
	head := l.Head()
	publish(t, s, l, 4, 5)
	if l.Head() <= head {
		t.Errorf("positions went back from %d to %d", head, l.Head())
	}
	if got := numbers(t, l, 0, 10); len(got) != 2 || got[1] != "4" {
		t.Errorf("got %v", got)
	}
	for n := 5; n < 5+trimRows+50; n++ {
		publish(t, s, l, n, n+1)
	}
	fake.Advance(2 * time.Hour)
	trim(trimRows + 51)
}

func TestBroken(t *testing.T) {
	s := storetest.Open(t, store.Options{}) // without the log's tables
	l := NewLog(s, Options{})
	if _, err := l.Read(t.Context(), 0, 1); err == nil || !strings.Contains(err.Error(), "cannot be opened") {
		t.Errorf("Read: %v", err)
	}
	if err := l.Consume(t.Context(), "c", nil, nil); err == nil {
		t.Error("Consume works")
	}
	if err := s.Write(t.Context(), func(tx *store.Tx) error { l.Publish(tx, event(1)); return nil }); err == nil {
		t.Error("Publish works")
	}
}

func BenchmarkPublish(b *testing.B) {
	s, l := newLog(b, Options{})
	e := event(1)
	e.Payload = make([]byte, 1000)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		if err := s.Write(b.Context(), func(tx *store.Tx) error {
			for i := 0; i < 512 && n < b.N; i, n = i+1, n+1 {
				l.Publish(tx, e)
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

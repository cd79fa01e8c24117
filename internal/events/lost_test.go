package events

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
	"taskcluster/internal/testenv"
)

// What the hard cap takes from a consumer is counted for that consumer, to the
// event, and logged once for as long as it goes on.
func TestLost(t *testing.T) {
	fake := clock.NewFake(clock.OfMillis(1_700_000_000_000))
	var logs testenv.Buffer
	s, l := newLog(t, Options{Clock: fake, Retention: time.Hour, HardCap: 10 * time.Hour, Log: slog.New(slog.NewTextHandler(&logs, nil))})
	place := func(name string, at Position) {
		t.Helper()
		if err := s.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(cursorStmt.set, name, int64(at), tx.Now())
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	lost := func(want map[string]int64, logged int) {
		t.Helper()
		if _, err := l.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		lags, err := l.Consumers(t.Context())
		if err != nil || len(lags) != 3 {
			t.Fatal(lags, err)
		}
		for _, lag := range lags {
			if lag.Lost != want[lag.Consumer] {
				t.Errorf("%s lost %d events, want %d", lag.Consumer, lag.Lost, want[lag.Consumer])
			}
			if n, err := l.Lost(t.Context(), lag.Consumer); n != lag.Lost || err != nil {
				t.Errorf("%s: %d, %v", lag.Consumer, n, err)
			}
		}
		if n := strings.Count(logs.String(), "events are lost to a consumer"); n != logged {
			t.Errorf("it was logged %d times, want %d:\n%s", n, logged, &logs)
		}
	}
	publish(t, s, l, 0, 3)
	first := l.Head().row()
	publish(t, s, l, 3, 8)
	publish(t, s, l, 8, 10)
	place("none", position(first, 0)-1)
	place("some", position(first+1, 1)) // two of the second row's five
	place("all", l.Head())
	fake.Advance(9 * time.Hour)
	publish(t, s, l, 10, 11)
	lost(nil, 0) // too old for who has passed them, but not for who has not
	fake.Advance(2 * time.Hour)
	lost(map[string]int64{"none": 10, "some": 5}, 2)
	lost(map[string]int64{"none": 10, "some": 5}, 2) // nothing is counted twice
	if text := logs.String(); !strings.Contains(text, "consumer=some lost=5 kept=10h") {
		t.Errorf("the log is:\n%s", text)
	}
	publish(t, s, l, 11, 12)
	fake.Advance(11 * time.Hour)
	place("none", l.Head()) // it has caught up
	place("all", l.Head())
	lost(map[string]int64{"none": 10, "some": 6}, 3)
	publish(t, s, l, 12, 13)
	fake.Advance(11 * time.Hour)
	lost(map[string]int64{"none": 10, "some": 7}, 3) // it goes on
	if n, err := l.Lost(t.Context(), "nobody"); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// A consumer that runs here has not lost what it has passed and not yet saved.
func TestPassedIsNotLost(t *testing.T) {
	fake := clock.NewFake(clock.OfMillis(1_700_000_000_000))
	s, l := newLog(t, Options{Clock: fake, Retention: time.Hour, HardCap: 10 * time.Hour})
	at, err := l.Register(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s, l, 0, 3)
	publish(t, s, l, 3, 4)
	running := &consumer{log: l, name: "c"}
	if err := l.enter(running); err != nil {
		t.Fatal(err)
	}
	running.passed.Store(int64(l.Head()))
	fake.Advance(11 * time.Hour)
	if n, err := l.Trim(t.Context()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := l.Lost(t.Context(), "c"); n != 0 || err != nil {
		t.Errorf("%d are lost after %d, %v", n, at, err)
	}
}

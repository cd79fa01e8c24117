package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
)

// repeating is a store whose background work the test watches.
func repeating(t *testing.T) (s *store.Store, c *clock.Fake, seen *observed, log *bytes.Buffer) {
	t.Helper()
	c, seen, log = clock.NewFake(clock.OfMillis(1_700_000_000_000)), &observed{}, &bytes.Buffer{}
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.Options{
		Clock: c, Observer: seen, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, c, seen, log
}

// TestRepeat: work comes again after the pause and not before, whether it failed
// or not; a turn that was cut off is none.
func TestRepeat(t *testing.T) {
	s, c, seen, log := repeating(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := make(chan clock.Time)
	outcome := make(chan error)
	ended := make(chan error)
	go func() {
		ended <- s.Repeat(ctx, "some/work", time.Hour, func(ctx context.Context) error {
			began <- c.Now()
			select {
			case err := <-outcome:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	first := <-began
	outcome <- errors.New("out of order")
	second := after(c, began)
	outcome <- nil
	third := after(c, began)
	if second.Sub(first) < time.Hour || third.Sub(second) < time.Hour {
		t.Errorf("the pauses are %s and %s", second.Sub(first), third.Sub(second))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if want := []string{"some/work false true", "some/work true true"}; !slices.Equal(seen.turns, want) {
		t.Errorf("the observer was told %q, want %q", seen.turns, want)
	}
	if text := log.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "out of order") || !strings.Contains(text, "some/work") {
		t.Errorf("the log: %s", text)
	}
}

// after lets time pass until the next turn begins.
func after(c *clock.Fake, began <-chan clock.Time) clock.Time {
	for {
		select {
		case at := <-began:
			return at
		case <-time.After(time.Millisecond):
			c.Advance(time.Minute)
		}
	}
}

// TestRepeatEndsWithTheStore: a store that was closed ends the work, which is no
// failure of it.
func TestRepeatEndsWithTheStore(t *testing.T) {
	s, _, seen, log := repeating(t)
	err := s.Repeat(t.Context(), "some/work", time.Hour, func(ctx context.Context) error {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return s.Write(ctx, func(*store.Tx) error { return nil })
	})
	if err != nil || len(seen.turns) != 0 || log.Len() > 0 {
		t.Errorf("%v, turns %q, log: %s", err, seen.turns, log)
	}
}

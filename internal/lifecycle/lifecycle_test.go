package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStopInReverse(t *testing.T) {
	CheckLeaks(t)
	var g Group
	var mu sync.Mutex
	var order []string
	running := make(chan struct{}, 3)
	for _, name := range []string{"a", "b", "c"} {
		g.Go(name, func(ctx context.Context) error {
			running <- struct{}{}
			<-ctx.Done()
			if context.Cause(ctx) != ErrStopped {
				t.Errorf("the cause is %v", context.Cause(ctx))
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return ctx.Err()
		})
	}
	for range 3 {
		<-running
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(order, []string{"c", "b", "a"}) {
		t.Errorf("stopped in the order %v", order)
	}
	g.Go("late", func(context.Context) error { t.Error("started after Stop"); return nil })
	if err := g.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	CheckLeaks(t)
	var log bytes.Buffer
	g := Group{Log: slog.New(slog.NewJSONHandler(&log, nil))}
	trouble := errors.New("trouble")
	g.Go("one", func(context.Context) error { return trouble })
	<-g.Failed()
	if err := g.Err(); !errors.Is(err, trouble) || !strings.HasPrefix(err.Error(), "one: ") {
		t.Fatal(err)
	}
	g.Go("two", func(context.Context) error { panic("ouch") })
	g.Go("three", func(context.Context) error { return nil })
	g.Go("four", func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("ended: %w", ctx.Err()) })
	err := g.Stop(t.Context())
	var p *PanicError
	if !errors.Is(err, trouble) || !errors.As(err, &p) || p.Value != "ouch" || !strings.Contains(string(p.Stack), "TestFailures") {
		t.Fatal(err)
	}
	if strings.Contains(err.Error(), "four") {
		t.Errorf("the end of a context counts as an error: %v", err)
	}
	if !errors.Is(g.Err(), trouble) {
		t.Error("a later failure replaced the first")
	}
	for _, want := range []string{"one: trouble", "two: panic: ouch", "TestFailures"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
}

func TestStopTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		release := make(chan struct{})
		firstTold := make(chan struct{})
		g.Go("first", func(ctx context.Context) error { <-ctx.Done(); close(firstTold); return nil })
		g.Go("stubborn", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := g.Stop(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "stubborn ") {
			t.Fatal(err)
		}
		<-firstTold // all were told, even those that nobody waits for
		close(release)
		if err := g.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// recorder is a test that a check may fail.
type recorder struct {
	failed  string
	cleanup func()
}

func (r *recorder) Helper()                      {}
func (r *recorder) Cleanup(f func())             { r.cleanup = f }
func (r *recorder) Errorf(f string, args ...any) { r.failed = fmt.Sprintf(f, args...) }

func TestCheckLeaks(t *testing.T) {
	var r recorder
	CheckLeaks(&r)
	block := make(chan struct{})
	go leaked(block)
	r.cleanup()
	if !strings.Contains(r.failed, "1 goroutines were left") || !strings.Contains(r.failed, "leaked") {
		t.Errorf("the leak was not found: %q", r.failed)
	}
	close(block)
	r = recorder{}
	CheckLeaks(&r)
	r.cleanup()
	if r.failed != "" {
		t.Error(r.failed)
	}
}

func leaked(block chan struct{}) { <-block }

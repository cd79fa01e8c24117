package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
)

// observed counts what an Observer is told.
type observed struct {
	mu                  sync.Mutex
	commits, operations int
	turns               []string // of background work
}

func (o *observed) Iterated(name string, took time.Duration, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turns = append(o.turns, fmt.Sprint(name, " ", ok, " ", took >= 0))
}

func (o *observed) Committed(operations int, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.commits++
	o.operations += operations
}

func openTraced(t *testing.T, tracer trace.Tracer, observer store.Observer) *store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.Options{Tracer: tracer, Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestSharedTransaction: a transaction that two traced callers share is below
// the first, and linked with the other.
func TestSharedTransaction(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder))
	tracer := provider.Tracer("test")
	seen := &observed{}
	s := openTraced(t, tracer, seen)
	before, done := seen.commits, seen.operations // those of the opening

	// While one write runs, three others get in line: two that are traced.
	running, free := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	write := func(ctx context.Context, fn func(*store.Tx) error) {
		all.Go(func() {
			if err := s.Write(ctx, fn); err != nil {
				t.Error(err)
			}
		})
	}
	nothing := func(*store.Tx) error { return nil }
	write(t.Context(), func(*store.Tx) error { close(running); <-free; return nil })
	<-running
	var roots []trace.Span
	for i := range 3 {
		ctx := t.Context()
		if i > 0 {
			var root trace.Span
			ctx, root = tracer.Start(ctx, "root")
			roots = append(roots, root)
		}
		write(ctx, nothing)
		for s.Waiting() != i+1 {
			time.Sleep(time.Millisecond)
		}
	}
	close(free)
	all.Wait()
	for _, root := range roots {
		root.End()
	}
	if commits, operations := seen.commits-before, seen.operations-done; commits != 2 || operations != 4 {
		t.Errorf("%d commits of %d operations", commits, operations)
	}
	var writes, transactions []sdk.ReadOnlySpan
	for _, span := range recorder.Ended() {
		switch span.Name() {
		case "store.Write":
			writes = append(writes, span)
		case "store.Transaction":
			transactions = append(transactions, span)
		}
	}
	if len(writes) != 2 || len(transactions) != 1 {
		t.Fatalf("%d writes and %d transactions", len(writes), len(transactions))
	}
	transaction := transactions[0]
	for _, w := range writes {
		if w.Parent().SpanID() == roots[0].SpanContext().SpanID() {
			if transaction.Parent().SpanID() != w.SpanContext().SpanID() || len(w.Links()) != 0 {
				t.Errorf("the transaction is not below the first write: %v", transaction.Parent())
			}
			continue
		}
		if len(w.Links()) != 1 || !w.Links()[0].SpanContext.Equal(transaction.SpanContext()) {
			t.Errorf("links of the second write: %v", w.Links())
		}
		if len(transaction.Links()) != 1 || !transaction.Links()[0].SpanContext.Equal(w.SpanContext()) {
			t.Errorf("links of the transaction: %v", transaction.Links())
		}
	}
}

// TestTracingCost: who is not traced pays nothing for those who are.
func TestTracingCost(t *testing.T) {
	nothing := func(*store.Tx) error { return nil }
	provider := sdk.NewTracerProvider(sdk.WithSampler(sdk.NeverSample()))
	cost := func(s *store.Store) (write, read float64) {
		ctx := t.Context()
		write = testing.AllocsPerRun(200, func() { s.Write(ctx, nothing) })
		return write, testing.AllocsPerRun(200, func() { s.Read(ctx, nothing) })
	}
	write, read := cost(openTraced(t, nil, nil))
	write2, read2 := cost(openTraced(t, provider.Tracer("test"), &observed{}))
	if write2 > write || read2 > read || write > 1 || read > 1 {
		t.Errorf("allocations: a write %v and with a tracer %v, a read %v and with a tracer %v", write, write2, read, read2)
	}
}

package store

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Observer is told how the writer and background work do, for metrics. Its
// methods must be quick.
type Observer interface {
	// Committed tells of a transaction: how many operations shared it, and how
	// long it took from its begin until it was durable. The writer waits for it.
	Committed(operations int, took time.Duration)
	// Iterated tells of one turn of background work (Repeat, Iterate): how long it
	// took, and whether it succeeded.
	Iterated(name string, took time.Duration, ok bool)
}

// The attributes of the store's spans.
const (
	operationsAttr = attribute.Key("store.operations") // how many shared the transaction
	dialectAttr    = attribute.Key("db.system.name")
)

// span begins a span below that of the caller. It is nil when nobody traces
// the caller, which costs one comparison when there is no tracer at all.
func (s *Store) span(ctx context.Context, name string) trace.Span {
	if s.tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return nil
	}
	_, span := s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindInternal))
	return span
}

// endSpan ends a span that there may be.
func endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// transactionSpan is the span of a transaction, since it began, below the first
// of its operations that is traced; the others that are link to it, and it to them.
// The event "begun" in each tells how long it had waited in line.
func (s *Store) transactionSpan(units []unit, began time.Time) trace.Span {
	if s.tracer == nil {
		return nil
	}
	var span trace.Span
	operations := 0
	for _, u := range units {
		operations += len(u.ops)
		for _, op := range u.ops {
			if op.span == nil {
				continue
			}
			if span == nil {
				ctx := trace.ContextWithSpan(context.Background(), op.span)
				_, span = s.tracer.Start(ctx, "store.Transaction", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(began))
			} else {
				span.AddLink(trace.Link{SpanContext: op.span.SpanContext()})
				op.span.AddLink(trace.Link{SpanContext: span.SpanContext()})
			}
			op.span.AddEvent("begun")
		}
	}
	if span != nil {
		span.SetAttributes(operationsAttr.Int(operations), dialectAttr.String(s.engine.Dialect()))
	}
	return span
}

// Span is the span of the transaction, nil when none of its operations is traced.
func (tx *Tx) Span() trace.Span { return tx.span }

package events

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// The attributes of the spans of a consumer, as OpenTelemetry names them for
// messages. The span of a transaction that publishes has the same position:
// where a consumer runs in another process than the publisher, it is the link.
const (
	positionAttr    = attribute.Key("taskcluster.event.position")
	destinationAttr = attribute.Key("messaging.destination.name")
	groupAttr       = attribute.Key("messaging.consumer.group.name")
)

// origins remembers the spans of the traced transactions that published last, so
// that what consumers in this process do is seen below them. The rows of the
// log do not carry them: every event would pay for what one in a thousand needs.
type origins struct {
	mu   sync.Mutex
	ring [256]origin
	next int
}

type origin struct {
	from, to Position
	span     trace.SpanContext
}

func (o *origins) add(from, to Position, span trace.SpanContext) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ring[o.next%len(o.ring)] = origin{from, to, span}
	o.next++
}

// find is the span that published the event at p; it is not valid if nobody
// traced that, or too many others did since.
func (o *origins) find(p Position) trace.SpanContext {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.ring {
		if o.ring[i].from <= p && p <= o.ring[i].to {
			return o.ring[i].span
		}
	}
	return trace.SpanContext{}
}

// published notes the span of a transaction that published, if it is traced.
func (c *collected) published(span trace.Span) {
	if span != nil {
		first := position(c.head.row()-int64(len(c.full)), 0)
		span.SetAttributes(positionAttr.Int64(int64(first)))
		c.log.origins.add(first, c.head, span.SpanContext())
	}
}

// traced runs handle within a span, if messages are traced.
func (c *consumer) traced(ctx context.Context, m Message, handle func(context.Context, Message) error) error {
	tracer := c.log.opts.Tracer
	if tracer == nil {
		return handle(ctx, m)
	}
	if from := c.log.origins.find(m.Position); from.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, from)
	}
	ctx, span := tracer.Start(ctx, "events.Consume "+c.name, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		positionAttr.Int64(int64(m.Position)), destinationAttr.String(m.Exchange), groupAttr.String(c.name)))
	defer span.End()
	err := handle(ctx, m)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}

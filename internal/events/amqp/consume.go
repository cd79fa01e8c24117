package amqp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/events"
)

// prefetch is how many messages a consumer has unacknowledged.
const prefetch = 5

// Subscription is what Consume reads.
type Subscription struct {
	URL      string           // of the broker, as in Config
	Queue    string           // in full: "queue/<namespace>/<name>"
	Bindings []events.Binding // exchanges, which exist, with patterns of routing keys
	Logger   *slog.Logger

	heartbeat, retry time.Duration // in tests
}

// Consume reads exchanges of others until ctx ends; then it returns nil. Their
// messages wait in a durable quorum queue while nobody consumes. Several
// consumers of one queue share them.
//
// A message is acknowledged after handle succeeded, so each comes at least
// once. When handle fails or panics, the message comes once more, marked as
// redelivered; when that fails too it is dropped, and logged. After the loss of
// the connection it is made again, for as long as it takes.
func Consume(ctx context.Context, s Subscription, handle func(context.Context, amqp091.Delivery) error) error {
	if _, err := parseURL(s.URL); err != nil {
		return err
	}
	if s.Queue == "" || len(s.Bindings) == 0 {
		return errors.New("a subscription needs a queue and a binding")
	}
	if s.heartbeat == 0 {
		s.heartbeat = heartbeat
	}
	if s.retry == 0 {
		s.retry = retry
	}
	for attempt := 1; ctx.Err() == nil; attempt++ {
		began, err := s.consume(ctx, handle)
		if ctx.Err() != nil {
			break
		}
		if began {
			attempt = 1
		}
		if attempt == 1 || attempt%30 == 0 {
			s.Logger.Warn("a queue of RabbitMQ is not read at present; it is tried again", "queue", s.Queue, "attempts", attempt, "error", err)
		}
		select {
		case <-time.After(s.retry):
		case <-ctx.Done():
		}
	}
	return nil
}

// consume reads over one connection. began tells whether it came so far.
func (s *Subscription) consume(ctx context.Context, handle func(context.Context, amqp091.Delivery) error) (began bool, err error) {
	c, err := broker{s.URL, "taskcluster consumer of " + s.Queue, s.heartbeat}.open(ctx)
	if err != nil {
		return false, err
	}
	defer c.close()
	if _, err := c.QueueDeclare(s.Queue, true, false, false, false, amqp091.Table{"x-queue-type": "quorum"}); err != nil {
		return false, fmt.Errorf("the queue cannot be declared: %w", err)
	}
	for _, b := range s.Bindings {
		if err := c.QueueBind(s.Queue, b.Pattern, b.Exchange, false, nil); err != nil {
			return false, fmt.Errorf("the exchange %s cannot be bound: %w", b.Exchange, err)
		}
	}
	if err := c.Qos(prefetch, 0, false); err != nil {
		return false, err
	}
	deliveries, err := c.Consume(s.Queue, "", false, false, false, false, nil)
	if err != nil {
		return false, fmt.Errorf("the queue cannot be read: %w", err)
	}
	for d := range deliveries {
		failure := call(ctx, d, handle)
		switch {
		case ctx.Err() != nil:
			return true, nil // the broker hands it out again
		case failure == nil:
			err = d.Ack(false)
		default:
			s.Logger.Warn("a message of RabbitMQ could not be handled", "queue", s.Queue, "exchange", d.Exchange, "key", d.RoutingKey,
				"dropped", d.Redelivered, "error", failure)
			err = d.Nack(false, !d.Redelivered)
		}
		if err != nil {
			return true, err
		}
	}
	return true, ended(c)
}

// call runs the handler and turns a panic into an error.
func call(ctx context.Context, d amqp091.Delivery, handle func(context.Context, amqp091.Delivery) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return handle(ctx, d)
}

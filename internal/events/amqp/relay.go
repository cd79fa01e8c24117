package amqp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/events"
)

// Consumer is the name under which the relay's place in the log is kept.
const Consumer = "amqp"

const (
	// window is how many messages may be on their way without a confirm, and so
	// how many may come twice after the loss of a connection.
	window = 1000
	// portion is how many messages are read from the log at once; the place in it
	// is saved behind them, and so this many may come twice after a crash.
	portion = 8000
)

// guard is a queue that only one connection at a time can have: who has it
// publishes. So what a lost connection has still on its way to the broker
// cannot be read there after what a later one sends.
const guard = "queue/taskcluster-relay/guard"

// retry is the pause between attempts to connect.
const retry = 2 * time.Second

// Config of a Relay.
type Config struct {
	Log    *events.Log
	Logger *slog.Logger
	// URL is that of the broker, amqp:// or amqps://, with user and password.
	URL string
	// Exchanges are declared when the relay connects, by their full names.
	// Others are when their first message comes.
	Exchanges []string

	heartbeat time.Duration // in tests
	retry     time.Duration
	watch     time.Duration
}

// Relay mirrors the event log. Each message has its exchange, routing key and
// payload, the further keys as the header CC, is persistent, and is JSON in
// UTF-8. Exchanges are topic exchanges and durable.
//
// A message is done when the broker has confirmed it. Up to 1,000 messages come
// again after the loss of a connection, and up to 8,000 after a crash, in order:
// a consumer sees each message after those before it, and may see a stretch
// twice.
type Relay struct {
	cfg    Config
	broker broker

	session  atomic.Pointer[session] // changed by Run only
	declared map[string]bool
	confirms chan amqp091.Confirmation

	published atomic.Int64
}

// New makes a relay; Run starts it.
func New(cfg Config) (*Relay, error) {
	if _, err := parseURL(cfg.URL); err != nil {
		return nil, err
	}
	if cfg.heartbeat == 0 {
		cfg.heartbeat = heartbeat
	}
	if cfg.retry == 0 {
		cfg.retry = retry
	}
	if cfg.watch == 0 {
		cfg.watch = time.Minute
	}
	return &Relay{cfg: cfg, broker: broker{cfg.URL, "taskcluster relay", cfg.heartbeat}}, nil
}

// Prepare makes the relay's place in the log, so that what is published from
// now on is mirrored.
func (r *Relay) Prepare(ctx context.Context) error {
	_, err := r.cfg.Log.Register(ctx, Consumer)
	return err
}

// Published is the number of messages that the broker has confirmed to this
// process.
func (r *Relay) Published() int64 { return r.published.Load() }

// Connected tells whether this process may publish at present.
func (r *Relay) Connected() bool {
	s := r.session.Load()
	return s != nil && !s.IsClosed()
}

// Run mirrors until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(ctx) })
	defer watching.Wait()
	defer r.disconnect()
	return r.cfg.Log.Portions(ctx, Consumer, portion, r.mirror)
}

// watch says every minute if the mirror is far behind, and once when it is not
// any more. It also says when events begin to be lost to it, and how many were
// when that is over.
func (r *Relay) watch(ctx context.Context) {
	tick := time.NewTicker(r.cfg.watch)
	defer tick.Stop()
	late, losing := false, false
	told := int64(-1) // of the lost ones; not known yet
	for {
		behind, lost, err := r.lag(ctx)
		if told < 0 {
			told = lost
		}
		switch {
		case err != nil && ctx.Err() == nil:
			r.cfg.Logger.Error("it cannot be read how far the mirror in RabbitMQ is behind", "error", err)
		case err != nil:
		case lost > told && !losing:
			late, losing = true, true
			r.cfg.Logger.Error("the mirror in RabbitMQ is so far behind that the event log does not have all that is missing there: its readers will miss events",
				"lost", lost-told, "behind", behind.Round(time.Second).String(), "connected", r.Connected())
		case behind > r.cfg.watch:
			late = true
			r.cfg.Logger.Warn("the mirror in RabbitMQ is behind; what the event log has follows in order",
				"behind", behind.Round(time.Second).String(), "connected", r.Connected())
		case losing:
			r.cfg.Logger.Error("the mirror in RabbitMQ has caught up, with a gap: its readers have to find out by the API what has changed meanwhile",
				"lost", lost-told)
			late, losing, told = false, false, lost
		case late:
			late = false
			r.cfg.Logger.Info("the mirror in RabbitMQ has caught up")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lag is how old the oldest event is that is not mirrored yet, and how many were
// ever lost to the mirror.
func (r *Relay) lag(ctx context.Context) (behind time.Duration, lost int64, err error) {
	if behind, err = r.cfg.Log.Behind(ctx, Consumer); err == nil {
		lost, err = r.cfg.Log.Lost(ctx, Consumer)
	}
	return behind, lost, err
}

func (r *Relay) disconnect() {
	if s := r.session.Swap(nil); s != nil {
		s.close()
	}
}

// mirror publishes a portion and waits until the broker has confirmed it. It is
// given none before: then it connects, and the exchanges are declared for those
// who want to read.
func (r *Relay) mirror(ctx context.Context, messages []events.Message) (done int, err error) {
	if err := r.connect(ctx); err != nil {
		return 0, err
	}
	done, err = r.publish(ctx, r.session.Load(), messages)
	r.published.Add(int64(done))
	if err != nil {
		r.disconnect()
	}
	return done, err
}

// connect returns when there is a session, or with ctx. It tries as long as it
// takes.
func (r *Relay) connect(ctx context.Context) error {
	if r.Connected() {
		return nil
	}
	r.disconnect()
	for attempt := 1; ; attempt++ {
		err := r.attempt(ctx)
		if err == nil {
			r.cfg.Logger.Info("events are mirrored to RabbitMQ", "attempts", attempt)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if attempt == 1 || attempt%30 == 0 {
			r.cfg.Logger.Warn("events cannot be mirrored to RabbitMQ; they are kept, and follow in order when it can be reached",
				"attempts", attempt, "error", err)
		}
		select {
		case <-time.After(r.cfg.retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attempt opens a session, takes the guard and declares the exchanges.
func (r *Relay) attempt(ctx context.Context) (err error) {
	s, err := r.broker.open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if _, err := s.QueueDeclare(guard, false, true, true, false, nil); err != nil {
		return fmt.Errorf("another connection of a relay is still there, or the user may not have the queue %s: %w", guard, err)
	}
	r.declared = make(map[string]bool, len(r.cfg.Exchanges))
	for _, name := range r.cfg.Exchanges {
		if err := r.declare(s, name); err != nil {
			return err
		}
	}
	if err := s.Confirm(false); err != nil {
		return err
	}
	r.confirms = s.NotifyPublish(make(chan amqp091.Confirmation, window))
	r.session.Store(s)
	return nil
}

func (r *Relay) declare(s *session, name string) error {
	if r.declared[name] {
		return nil
	}
	if err := s.ExchangeDeclare(name, amqp091.ExchangeTopic, true, false, false, false, nil); err != nil {
		return fmt.Errorf("the exchange %s cannot be declared: %w", name, err)
	}
	r.declared[name] = true
	return nil
}

// publish sends the messages on the session, as many ahead of their confirms as
// the window allows, and waits for the last one's. After an error the session is
// of no more use; done are the messages, from the first, that were confirmed
// nevertheless.
func (r *Relay) publish(ctx context.Context, s *session, messages []events.Message) (done int, err error) {
	sent, confirmed := make([]int, 0, len(messages)), 0 // indexes of what was sent
	for i := range messages {
		if len(sent)-confirmed == window {
			if err := r.confirm(ctx, s); err != nil {
				return sent[confirmed], err
			}
			confirmed++
		}
		m := &messages[i]
		if size := headerSize(&m.Event); size > s.conn.Config.FrameSize {
			if err = r.bury(ctx, m, size, s.conn.Config.FrameSize); err != nil {
				break
			}
			continue
		}
		if err = r.declare(s, m.Exchange); err != nil {
			break
		}
		if err = s.PublishWithContext(ctx, m.Exchange, m.Key, false, false, publishing(&m.Event)); err != nil {
			break
		}
		sent = append(sent, i)
	}
	// Confirms of what was sent before an error may be on their way.
	for ; confirmed < len(sent); confirmed++ {
		if e := r.confirm(ctx, s); e != nil {
			if err == nil {
				err = e
			}
			return sent[confirmed], err
		}
	}
	if err != nil {
		if len(sent) == 0 {
			return 0, err
		}
		return sent[len(sent)-1] + 1, err
	}
	return len(messages), nil
}

// confirm waits for the confirm of the oldest message that has none.
func (r *Relay) confirm(ctx context.Context, s *session) error {
	select {
	case c, open := <-r.confirms:
		switch {
		case !open:
			return ended(s)
		case !c.Ack:
			return errors.New("RabbitMQ could not keep a message, and said so")
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended is why the session of which the channels are closed has ended.
func ended(s *session) error {
	select {
	case e := <-s.ended:
		return reason(e)
	default:
		return amqp091.ErrClosed
	}
}

func publishing(e *events.Event) amqp091.Publishing {
	cc := make([]any, len(e.CC))
	for i, key := range e.CC {
		cc[i] = key
	}
	return amqp091.Publishing{
		Headers:         amqp091.Table{"CC": cc},
		ContentType:     "application/json",
		ContentEncoding: "utf-8",
		DeliveryMode:    amqp091.Persistent,
		Body:            e.Payload,
	}
}

// headerSize is at least the size of the frame of a message's properties, which
// cannot be split over several as the body can.
func headerSize(e *events.Event) int {
	size := 128 // everything but the keys
	for _, key := range e.CC {
		size += 5 + len(key)
	}
	return size
}

// bury puts a message that the protocol has no room for where an operator sees
// it; otherwise it would hold up everything behind it for ever.
func (r *Relay) bury(ctx context.Context, m *events.Message, size, allowed int) error {
	err := fmt.Errorf("its %d CC keys take a frame of %d bytes, the broker allows %d", len(m.CC), size, allowed)
	r.cfg.Logger.Error("an event cannot be mirrored to RabbitMQ and became a dead letter", "exchange", m.Exchange, "key", m.Key,
		"position", int64(m.Position), "error", err)
	return r.cfg.Log.Bury(ctx, Consumer, *m, err)
}

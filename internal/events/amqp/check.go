package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/slugid"
)

// Check looks whether a relay can do its work with the broker at this URL: it
// connects, and tries whether the user may declare the exchanges and publish to
// them, which need not exist yet. It changes nothing there. Its error is for an
// operator: what is wrong, and what to do.
func Check(ctx context.Context, url string, exchanges []string) error {
	uri, err := parseURL(url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := broker{url, "taskcluster admin check", heartbeat}.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	blocked := s.conn.NotifyBlocked(make(chan amqp091.Blocking, 1))
	go func() {
		if b, told := <-blocked; told && b.Active {
			cancel(fmt.Errorf("RabbitMQ takes no messages at present (%s): free what it lacks; \"rabbitmq-diagnostics alarms\" says more", b.Reason))
		}
	}()
	t := &trial{session: s, uri: uri}
	for _, name := range exchanges {
		if err = t.exchange(name); err != nil {
			break
		}
	}
	if err == nil {
		err = t.relayQueue()
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("RabbitMQ took the connection and then did not answer in time: see its log and its load")
	}
	return err
}

// trial asks for what the broker does not carry out: what is published in a
// transaction that is rolled back, what is deleted that does not exist, what is
// declared that is there already. The broker looks first whether the user may.
type trial struct {
	session *session
	uri     amqp091.URI

	ch     *amqp091.Channel // in a transaction; nil after a refusal, which ends it
	closed chan *amqp091.Error
}

func (t *trial) do(what func(*amqp091.Channel) error) (err error) {
	if t.ch == nil {
		if t.ch, err = t.session.conn.Channel(); err != nil {
			return err
		}
		t.closed = t.ch.NotifyClose(make(chan *amqp091.Error, 1))
		if err := t.ch.Tx(); err != nil {
			return err
		}
	}
	if err = what(t.ch); err != nil {
		t.ch = nil
		return reason(<-t.closed)
	}
	return nil
}

// exchange tries to publish to an exchange, and to declare it as the relay does.
func (t *trial) exchange(name string) error {
	missing := false
	err := t.do(func(ch *amqp091.Channel) error {
		message := amqp091.Publishing{Body: []byte("taskcluster admin check")}
		return errors.Join(ch.Publish(name, "check", false, false, message), ch.TxRollback())
	})
	switch code(err) {
	case amqp091.NotFound:
		missing = true
	case amqp091.AccessRefused:
		return t.forbidden("publish to the exchange " + name)
	default:
		if err != nil {
			return err
		}
	}
	err = t.do(func(ch *amqp091.Channel) error {
		if missing {
			return ch.ExchangeDelete(nowhere(name), true, false)
		}
		return ch.ExchangeDeclare(name, amqp091.ExchangeTopic, true, false, false, false, nil)
	})
	switch code(err) {
	case amqp091.AccessRefused:
		return t.forbidden("declare the exchange " + name)
	case amqp091.PreconditionFailed:
		return fmt.Errorf("the exchange %s is there, but is no durable topic exchange: delete it in RabbitMQ, serve makes it anew", name)
	}
	return err
}

// relayQueue tries to declare a queue like the one that only one relay can have.
func (t *trial) relayQueue() error {
	err := t.do(func(ch *amqp091.Channel) error {
		_, err := ch.QueueDelete(nowhere(guard), true, true, false)
		return err
	})
	if code(err) == amqp091.AccessRefused {
		return t.forbidden("declare the queue " + guard)
	}
	return err
}

// nowhere is a name beside name that nothing has.
func nowhere(name string) string { return name + "-" + slugid.Nice().String() }

func code(err error) int {
	if refusal, ok := errors.AsType[*amqp091.Error](err); ok {
		return refusal.Code
	}
	return 0
}

// permissions are those that the relay's user needs, as rabbitmqctl
// set_permissions takes them: to configure, to write and to read.
var permissions = [...]string{`^(exchange/taskcluster-.*|queue/taskcluster-relay/.*)$`, `^exchange/taskcluster-.*$`, `^$`}

// grant is the command that gives them.
func grant(uri amqp091.URI) string {
	words := []string{"rabbitmqctl", "set_permissions", "-p", quote(uri.Vhost), quote(uri.Username)}
	for _, pattern := range permissions {
		words = append(words, quote(pattern))
	}
	return strings.Join(words, " ")
}

// quote is a word for a shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

func (t *trial) forbidden(what string) error {
	return fmt.Errorf("the user %s may not %s: run %s", t.uri.Username, what, grant(t.uri))
}

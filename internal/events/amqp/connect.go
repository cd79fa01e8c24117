// Package amqp is the event log's bridge to RabbitMQ. A Relay mirrors every
// event of the log to the exchange of its name, in order and with confirms, so
// that consumers outside read them with any AMQP library. Consume reads
// exchanges of others. Neither is part of a request: while the broker is away
// the log grows, and the relay goes on when it is back.
package amqp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// heartbeat is how often both sides say that they live. One that is not heard
// from for about three times as long is given up.
const heartbeat = 10 * time.Second

// dialTimeout bounds the way to the broker up to the end of its handshake.
const dialTimeout = 15 * time.Second

// parseURL reads the URL of a broker, and says what is wrong with it without
// repeating it: it holds a password.
func parseURL(broker string) (amqp091.URI, error) {
	u, err := url.Parse(broker)
	if err != nil || (u.Scheme != "amqp" && u.Scheme != "amqps") || u.Host == "" {
		return amqp091.URI{}, errors.New("it is not a URL like amqps://user:password@host:5671/vhost")
	}
	uri, err := amqp091.ParseURI(broker)
	if err != nil {
		return amqp091.URI{}, errors.New("RabbitMQ's client library cannot read it as a URL like amqps://user:password@host:5671/vhost")
	}
	return uri, nil
}

// broker is how to reach RabbitMQ.
type broker struct {
	url       string
	name      string // what the broker's lists call the connection
	heartbeat time.Duration
}

// session is one connection with one channel, which end together: when the
// broker ends either, when the network does, and when its context does.
type session struct {
	*amqp091.Channel
	conn  *amqp091.Connection
	close func()
	ended chan *amqp091.Error
}

// open connects. Whatever goes on on the session ends with ctx, a write to
// a network that swallows everything included. Its error is for an operator.
func (b broker) open(ctx context.Context) (*session, error) {
	uri, err := parseURL(b.url)
	if err != nil {
		return nil, err
	}
	var raw net.Conn
	var stop func() bool
	dialer := net.Dialer{Timeout: dialTimeout}
	properties := amqp091.NewConnectionProperties()
	properties.SetClientConnectionName(b.name)
	config := amqp091.Config{Locale: "en_US", Heartbeat: b.heartbeat, Properties: properties}
	config.Dial = func(network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		raw, stop = conn, context.AfterFunc(ctx, func() { conn.Close() })
		return conn, conn.SetDeadline(time.Now().Add(dialTimeout)) // of the handshake; the library removes it then
	}
	conn, err := amqp091.DialConfig(b.url, config)
	if err != nil {
		if raw != nil {
			stop()
			raw.Close()
		}
		if ctx.Err() != nil { // else the library guesses
			err = context.Cause(ctx)
		}
		return nil, unreachable(err, uri)
	}
	s := &session{conn: conn, close: func() {
		if stop() {
			// A broker that hears is told; the deadline is for one that does not.
			conn.CloseDeadline(time.Now().Add(time.Second))
		}
		raw.Close()
	}}
	if s.Channel, err = conn.Channel(); err != nil {
		s.close()
		return nil, fmt.Errorf("cannot open a channel to RabbitMQ: %w", err)
	}
	s.ended = s.Channel.NotifyClose(make(chan *amqp091.Error, 1))
	return s, nil
}

// reason is why a session has ended.
func reason(e *amqp091.Error) error {
	if e == nil {
		return amqp091.ErrClosed
	}
	return e
}

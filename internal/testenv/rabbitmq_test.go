//go:build unix

package testenv

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A broker starts, obeys its program, keeps what is durable over a crash and a
// restart, and stops.
func TestRabbitMQ(t *testing.T) {
	s := RabbitMQ(t)
	if err := s.Control("add_user", "someone", "a-password"); err != nil {
		t.Error(err)
	}
	if err := s.Control("add_user", "someone", "a-password"); err == nil {
		t.Error("a user was added twice")
	}
	secure, err := amqp.Dial("amqps://guest:guest@" + s.TLSAddr + "/?cacertfile=" + s.CA)
	if err != nil {
		t.Fatal(err)
	}
	secure.Close()
	with := func(do func(ch *amqp.Channel)) {
		conn, err := amqp.Dial(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		do(ch)
	}
	with(func(ch *amqp.Channel) {
		if _, err := ch.QueueDeclare("kept", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	})
	// Killed first, RabbitMQ may forget a queue of the moment before, which it has
	// not written down yet.
	for _, end := range []func() error{s.Shutdown, s.Kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, err := amqp.Dial(s.URL); err == nil {
			t.Fatal("a broker that has ended answers")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		with(func(ch *amqp.Channel) {
			if _, err := ch.QueueDeclarePassive("kept", true, false, false, false, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

package amqp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/events"
	"taskcluster/internal/testenv"
)

// Messages are acknowledged after they were handled, tried once more after
// a failure or a panic, and dropped after the second; the loss of the connection
// and of the broker are survived.
func TestConsume(t *testing.T) {
	w := newWorld(t, server.Addr)
	proxy := testenv.StartProxy(t, server.Addr)
	queue := w.queue + "/foreign"
	var mu sync.Mutex
	seen := map[string]int{}
	count := func(key string) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[key]
	}
	consume := func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- Consume(ctx, Subscription{
				URL: "amqp://guest:guest@" + proxy.Addr + "/", Queue: queue, Logger: slog.New(slog.DiscardHandler),
				Bindings:  []events.Binding{{Exchange: w.exchanges[0], Pattern: "good.#"}, {Exchange: w.exchanges[1], Pattern: "bad.*"}},
				heartbeat: time.Second, retry: 20 * time.Millisecond,
			}, func(_ context.Context, d amqp091.Delivery) error {
				mu.Lock()
				seen[d.RoutingKey]++
				first := seen[d.RoutingKey] == 1
				mu.Unlock()
				switch {
				case d.RoutingKey == "bad.always":
					return errors.New("it never works")
				case d.RoutingKey == "bad.once" && first:
					panic("the first time")
				}
				return nil
			})
		}()
		return sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	ch := w.channel()
	t.Cleanup(func() { w.channel().QueueDelete(queue, false, false, false) })
	exists := func() bool {
		ch := w.channel()
		_, err := ch.QueueDeclarePassive(queue, true, false, false, false, amqp091.Table{"x-queue-type": "quorum"})
		return err == nil
	}
	send := func(exchange int, key string) {
		t.Helper()
		if err := ch.PublishWithContext(t.Context(), w.exchanges[exchange], key, false, false, amqp091.Publishing{DeliveryMode: 2}); err != nil {
			t.Fatal(err)
		}
	}
	stop := consume()
	defer func() { stop() }()
	eventually(t, "the queue is there", exists)
	send(0, "good.bindings") // the bindings may come a moment after the queue
	for i := 0; count("good.bindings") == 0 && i < 3000; i++ {
		time.Sleep(10 * time.Millisecond)
		send(0, "good.bindings")
	}
	send(0, "other.1")
	send(1, "bad.always")
	send(1, "bad.once")
	send(0, "good.1.2")
	eventually(t, "the last is handled", func() bool { return count("good.1.2") == 1 && count("bad.once") == 2 && count("bad.always") == 2 })
	proxy.Cut()
	send(0, "good.2")
	eventually(t, "it is read over a new connection", func() bool { return count("good.2") == 1 })
	stop()
	for i := range 10 {
		send(0, fmt.Sprint("good.later.", i))
	}
	stop = consume()
	for i := range 10 {
		eventually(t, "what waited is read", func() bool { return count(fmt.Sprint("good.later.", i)) >= 1 })
	}
	if count("other.1") != 0 || count("bad.always") != 2 || count("bad.once") != 2 {
		t.Errorf("handled: %v", seen)
	}
	if err := Consume(t.Context(), Subscription{URL: server.URL, Logger: slog.New(slog.DiscardHandler)}, nil); err == nil {
		t.Error("a subscription without a queue is none")
	}
}

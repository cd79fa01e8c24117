package amqp

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/events"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
	"taskcluster/internal/testenv"
)

// world is an event log with a relay, and a queue that gets everything.
type world struct {
	t     testing.TB
	store *store.Store
	log   *events.Log
	relay *Relay
	logs  *testenv.Buffer

	exchanges []string
	queue     string
	published atomic.Int64 // number of the last one
	stopRelay func()
}

var worlds atomic.Int64

// newWorld makes a log whose relay reaches the broker at addr.
func newWorld(t testing.TB, addr string) *world {
	t.Helper()
	return newWorldWith(t, "amqp://guest:guest@"+addr+"/")
}

// newWorldWith makes a log whose relay is given a URL.
func newWorldWith(t testing.TB, url string) *world {
	t.Helper()
	n := worlds.Add(1)
	w := &world{t: t, logs: new(testenv.Buffer), queue: fmt.Sprint("queue/test/", n)}
	for _, name := range []string{"one", "two", "three"} {
		w.exchanges = append(w.exchanges, fmt.Sprintf("exchange/test-%d/v1/%s", n, name))
	}
	var err error
	w.store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), store.Options{Migrations: []store.Migrations{events.Migrations}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	w.log = events.NewLog(w.store, events.Options{Log: slog.New(slog.NewTextHandler(w.logs, nil)), Backoff: 50 * time.Millisecond, MaxBackoff: 200 * time.Millisecond})
	w.connectTo(url)
	if err := w.relay.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	ch := w.channel()
	if _, err := ch.QueueDeclare(w.queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for _, x := range w.exchanges {
		// A reader may declare the exchanges too, in the same way.
		if err := ch.ExchangeDeclare(x, "topic", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		if err := ch.QueueBind(w.queue, "#", x, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ch := w.channel()
		ch.QueueDelete(w.queue, false, false, false)
		for _, x := range w.exchanges {
			ch.ExchangeDelete(x, false, false)
		}
	})
	return w
}

// connectTo makes the relay, or another one in its place.
func (w *world) connectTo(url string) {
	w.t.Helper()
	var err error
	w.relay, err = New(Config{
		Log: w.log, Logger: slog.New(slog.NewTextHandler(w.logs, nil)), URL: url, Exchanges: w.exchanges[:2],
		heartbeat: time.Second, retry: 50 * time.Millisecond,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// channel connects to the broker itself, past any proxy.
func (w *world) channel() *amqp091.Channel {
	w.t.Helper()
	conn, err := amqp091.Dial(server.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		w.t.Fatal(err)
	}
	return ch
}

// start runs the relay until the test ends or stopRelay is called.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.relay.Run(ctx) }()
	w.stopRelay = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				w.t.Errorf("the relay ended with %v", err)
			}
		case <-time.After(time.Minute):
			w.t.Error("the relay did not end")
		}
	})
	w.t.Cleanup(w.stopRelay)
}

// publish commits n events, a few to a transaction. Those of a "task" (the key's
// second word) are numbered.
func (w *world) publish(n int) {
	w.t.Helper()
	for n > 0 {
		some := min(n, 50)
		n -= some
		var first int64
		if err := w.store.Write(context.Background(), func(tx *store.Tx) error {
			first = w.published.Load()
			for i := range int64(some) {
				w.log.Publish(tx, w.event(first+1+i))
			}
			return nil
		}); err != nil {
			w.t.Fatal(err)
		}
		w.published.Store(first + int64(some))
	}
}

func (w *world) event(n int64) events.Event {
	return events.Event{
		Exchange: w.exchanges[n%int64(len(w.exchanges))], Key: fmt.Sprintf("primary.%d._", n),
		CC: []string{fmt.Sprintf("route.index.n.%d", n), "route.all"}, Payload: fmt.Appendf(nil, `{"n":%d,"version":1}`, n),
	}
}

// number is that of the message.
func number(t testing.TB, d amqp091.Delivery) (n int64) {
	t.Helper()
	if _, err := fmt.Sscanf(d.RoutingKey, "primary.%d._", &n); err != nil {
		t.Fatalf("a message has the key %q", d.RoutingKey)
	}
	return n
}

// drain reads the queue until the last published message has come, and checks
// that none is missing and that each comes after those before it: a message may
// only be out of turn when it and those up to the newest come again. It returns
// how many came again.
func (w *world) drain() (again int64) {
	w.t.Helper()
	ch := w.channel()
	if err := ch.Qos(500, 0, false); err != nil {
		w.t.Fatal(err)
	}
	deliveries, err := ch.Consume(w.queue, "", false, false, false, false, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var last, newest, taken int64
	timeout := time.After(4 * time.Minute)
	for newest < w.published.Load() || last < newest {
		select {
		case d, open := <-deliveries:
			if !open {
				w.t.Fatalf("the reading ended at %d of %d", newest, w.published.Load())
			}
			if taken++; taken%100 == 0 {
				if err := d.Ack(true); err != nil {
					w.t.Fatal(err)
				}
			}
			n := number(w.t, d)
			switch {
			case n == last+1:
			case n <= newest && newest-n < window: // a stretch begins again
			default:
				w.t.Fatalf("message %d came after %d, the newest was %d", n, last, newest)
			}
			if n <= newest {
				again++
			}
			last, newest = n, max(newest, n)
		case <-timeout:
			w.t.Fatalf("only %d of %d messages came\n%s", newest, w.published.Load(), w.logs)
		}
	}
	return again
}

func TestMessages(t *testing.T) {
	w := newWorld(t, server.Addr)
	w.start()
	w.publish(200)
	// No CC keys, and an empty key.
	if err := w.store.Write(t.Context(), func(tx *store.Tx) error {
		w.log.Publish(tx, events.Event{Exchange: w.exchanges[0], Payload: []byte(`"é"`)})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	deliveries, err := w.channel().Consume(w.queue, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(201) {
		n := i + 1
		want := w.event(n)
		if n == 201 {
			want = events.Event{Exchange: w.exchanges[0], Payload: []byte(`"é"`)}
		}
		cc := make([]any, len(want.CC))
		for i, key := range want.CC {
			cc[i] = key
		}
		d := <-deliveries
		if d.Exchange != want.Exchange || d.RoutingKey != want.Key || !bytes.Equal(d.Body, want.Payload) {
			t.Fatalf("message %d is %s %s %s, want %+v", n, d.Exchange, d.RoutingKey, d.Body, want)
		}
		if d.ContentType != "application/json" || d.ContentEncoding != "utf-8" || d.DeliveryMode != amqp091.Persistent ||
			d.MessageId != "" || d.AppId != "" || !d.Timestamp.IsZero() || len(d.Headers) != 1 || fmt.Sprint(d.Headers["CC"]) != fmt.Sprint(cc) {
			t.Fatalf("message %d has the properties %+v", n, d)
		}
	}
	eventually(t, "the confirms are counted", func() bool { return w.relay.Published() == 201 })
}

// A CC key is a routing key: a queue bound to a route gets the message, once.
func TestRoutes(t *testing.T) {
	w := newWorld(t, server.Addr)
	ch := w.channel()
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"route.index.#", "route.#.7", "primary.7.#"} {
		if err := ch.QueueBind(q.Name, pattern, w.exchanges[1], false, nil); err != nil {
			t.Fatal(err)
		}
	}
	deliveries, err := ch.Consume(q.Name, "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.start()
	w.publish(10)
	for _, want := range []int64{1, 4, 7, 10} {
		if n := number(t, <-deliveries); n != want {
			t.Errorf("message %d, want %d", n, want)
		}
	}
}

// What cannot be sent is put aside, and what follows is mirrored.
func TestTooManyKeys(t *testing.T) {
	w := newWorld(t, server.Addr)
	w.publish(1)
	big := events.Event{Exchange: w.exchanges[0], Key: "big", Payload: []byte("{}")}
	for i := range 1000 {
		big.CC = append(big.CC, fmt.Sprintf("route.%d.%s", i, strings.Repeat("x", 200)))
	}
	if err := w.store.Write(t.Context(), func(tx *store.Tx) error {
		w.log.Publish(tx, big)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.publish(1)
	w.start()
	w.drain()
	letters, err := w.log.DeadLetters(t.Context(), 0, 10)
	if err != nil || len(letters) != 1 || letters[0].Consumer != Consumer || letters[0].Message.Key != "big" {
		t.Errorf("dead letters: %+v, %v", letters, err)
	}
}

// The largest message that a task's routes make goes through.
func TestManyRoutes(t *testing.T) {
	w := newWorld(t, server.Addr)
	e := w.event(1)
	e.CC = nil
	for range 64 {
		e.CC = append(e.CC, "route."+strings.Repeat("r", 249))
	}
	e.Payload = []byte(`"` + strings.Repeat("p", 1<<20) + `"`)
	if err := w.store.Write(t.Context(), func(tx *store.Tx) error {
		w.log.Publish(tx, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.published.Store(1)
	w.start()
	w.drain()
}

// The broker is away while events are published; then all come in order.
func TestBrokerAway(t *testing.T) {
	w := newWorld(t, server.Addr)
	w.start()
	w.publish(100)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	restarted := false
	defer func() {
		if !restarted {
			server.Start()
		}
	}()
	w.publish(5000)
	if behind, err := w.log.Behind(t.Context(), Consumer); err != nil || behind <= 0 {
		t.Errorf("behind by %v, %v", behind, err)
	}
	if w.relay.Connected() {
		eventually(t, "the loss is noticed", func() bool { return !w.relay.Connected() })
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	restarted = true
	w.publish(100)
	t.Logf("%d messages came again", w.drain())
	eventually(t, "nothing is behind", func() bool {
		behind, err := w.log.Behind(t.Context(), Consumer)
		return err == nil && behind == 0
	})
	if strings.Contains(w.logs.String(), "guest:") {
		t.Errorf("the password is in the log:\n%s", w.logs)
	}
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 3000 {
		if holds() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("it does not come to pass: %s", what)
}

// A relay that is stopped and started again goes on where it was.
func TestStopAndStart(t *testing.T) {
	w := newWorld(t, server.Addr)
	for range 3 {
		w.start()
		w.publish(500)
		w.stopRelay()
		w.publish(500)
	}
	w.start()
	w.drain()
}

// Two relays, as two nodes have that both believe it is their turn: one
// publishes, the other waits.
func TestTwoRelays(t *testing.T) {
	first, second := newWorld(t, server.Addr), newWorld(t, server.Addr)
	first.start()
	eventually(t, "the first is connected", first.relay.Connected)
	second.start()
	second.publish(100)
	eventually(t, "the second tries", func() bool { return strings.Contains(second.logs.String(), "guard") })
	first.publish(1000)
	if again := first.drain(); again != 0 {
		t.Errorf("%d messages came again", again)
	}
	if second.relay.Connected() || second.relay.Published() != 0 {
		t.Error("two relays publish at a time")
	}
	first.stopRelay()
	second.drain()
}

// Passwords are in no error.
func TestURLs(t *testing.T) {
	for _, url := range []string{"", "http://user:hunter2@host/", "amqp://user:hunter2@ho st/", "amqp://user:hunter2@host:port/", "amqp://", "amqp://u:hunter2%zz@host/"} {
		_, err := New(Config{URL: url})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, url := range []string{"amqp://user:hunter2@" + l.Addr().String() + "/", "amqp://user:hunter2@" + server.Addr + "/", "amqp://guest:guest@" + server.Addr + "/hunter2"} {
		s, err := broker{url: url, name: "test", heartbeat: time.Second}.open(t.Context())
		if err == nil {
			s.close()
		}
		if err == nil || strings.Contains(err.Error(), "hunter2") && !strings.HasSuffix(url, "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

package workload

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/events"
)

// Reader is somebody outside who reads events from RabbitMQ: he has a durable
// queue, acknowledges what he has read, and comes back whenever his connection
// was lost.
type Reader struct {
	url, queue string
	stop       context.CancelFunc
	ended      chan struct{}

	mu      sync.Mutex
	arrived []sum          // in order
	marks   map[string]int // by the id of a client: how many had arrived, its creation included
}

// sum stands for all of an event that is published.
type sum [sha256.Size]byte

func sumOf(exchange, key string, cc []string, payload []byte) sum {
	text, err := json.Marshal([]any{exchange, key, cc, string(payload)})
	if err != nil {
		panic(err) // strings can be written
	}
	return sha256.Sum256(text)
}

// StartReader makes the queue at the broker, has all events of the exchanges
// sent to it, and reads until Stop is called. The exchanges are there.
func StartReader(url string, exchanges []string) (*Reader, error) {
	r := &Reader{url: url, queue: "queue/guest/crash", ended: make(chan struct{}), marks: map[string]int{}}
	conn, err := amqp091.Dial(url)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if _, err := ch.QueueDeclare(r.queue, true, false, false, false, nil); err != nil {
		return nil, err
	}
	for _, exchange := range exchanges {
		if err := ch.QueueBind(r.queue, "#", exchange, false, nil); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() {
		defer close(r.ended)
		for ctx.Err() == nil {
			r.read(ctx) // its error is that of a broker that is away
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return r, nil
}

// Stop ends the reading.
func (r *Reader) Stop() {
	r.stop()
	<-r.ended
}

// read reads until the connection is lost.
func (r *Reader) read(ctx context.Context) error {
	conn, err := amqp091.DialConfig(r.url, amqp091.Config{Dial: amqp091.DefaultDial(5 * time.Second)})
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Qos(200, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, r.queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for d := range deliveries {
		r.add(&d)
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) add(d *amqp091.Delivery) {
	var cc []string
	keys, _ := d.Headers["CC"].([]any)
	for _, k := range keys {
		cc = append(cc, fmt.Sprint(k))
	}
	var created message
	if d.Exchange == "exchange/taskcluster-auth/v1/client-created" {
		json.Unmarshal(d.Body, &created) // what is malformed differs from what was published
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrived = append(r.arrived, sumOf(d.Exchange, d.RoutingKey, cc, d.Body))
	if _, seen := r.marks[created.ClientID]; !seen && created.ClientID != "" {
		r.marks[created.ClientID] = len(r.arrived)
	}
}

// Arrived tells whether the creation of a client has been read.
func (r *Reader) Arrived(clientID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.marks[clientID] > 0
}

// Calm is a time without faults, between the creations of two clients.
type Calm struct{ From, To string }

// Check compares what was read with the log, from the creation of the client
// first to that of last, and returns how many messages came again. All that was
// published has come, none before an earlier one; stretches of it came again,
// but not in a calm.
func (r *Reader) Check(h *History, first, last string, calm []Calm) (repeated int, problems []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, mark := range []string{first, last} {
		if h.created[mark] == 0 || r.marks[mark] == 0 {
			return 0, []string{fmt.Sprintf("the creation of %s is in the log as number %d, and was read as number %d", mark, h.created[mark], r.marks[mark])}
		}
	}
	began := r.marks[first] - 1
	again, problem := walk(h.sums[:h.created[last]], h.created[first]-1, r.arrived[began:r.marks[last]])
	if problem != "" {
		problems = append(problems, "the broker's queue: "+problem)
	}
	for _, c := range calm {
		from, to := r.marks[c.From]-began, r.marks[c.To]-began
		if to <= from {
			problems = append(problems, fmt.Sprintf("the creations of %s and %s were read as numbers %d and %d", c.From, c.To, from, to))
		}
		for _, at := range again {
			if at >= from && at < to {
				problems = append(problems, fmt.Sprintf("the broker's queue: between the creations of %s and %s, without a fault, message %d came again", c.From, c.To, at))
			}
		}
	}
	return len(again), problems
}

// walk follows what arrived through the log, from place next on: it goes on, or
// goes back and repeats from there. again are the indexes of what came again.
func walk(log []sum, next int, arrived []sum) (again []int, problem string) {
	places := map[sum][]int{}
	for i, s := range log {
		places[s] = append(places[s], i)
	}
	newest := next // the first place that was not reached
	for i, s := range arrived {
		if next == len(log) || log[next] != s {
			back, n := -1, 0
			for n < len(places[s]) && places[s][n] < next {
				back, n = places[s][n], n+1
			}
			switch {
			case back >= 0:
				next = back
			case n < len(places[s]):
				return again, fmt.Sprintf("message %d is number %d of the log, and number %d has not come", i, places[s][n], next)
			default:
				return again, fmt.Sprintf("message %d is not in the log", i)
			}
		}
		if next < newest {
			again = append(again, i)
		}
		next++
		newest = max(newest, next)
	}
	if newest < len(log) {
		return again, fmt.Sprintf("the last %d messages of %d never came", len(log)-newest, len(log))
	}
	return again, ""
}

// remember keeps what Reader.Check needs to know of an event.
func (h *History) remember(m *events.Message, p *message) {
	h.sums = append(h.sums, sumOf(m.Exchange, m.Key, m.CC, m.Payload))
	if _, known := h.created[p.ClientID]; !known && p.ClientID != "" && m.Exchange == "exchange/taskcluster-auth/v1/client-created" {
		h.created[p.ClientID] = len(h.sums)
	}
}

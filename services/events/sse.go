package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
	"taskcluster/internal/tcerr"
)

// retryAfter is when a browser is told to reconnect, in milliseconds: not all at
// the same time.
func retryAfter() int { return 500 + rand.IntN(2500) }

// connect answers with Server-Sent Events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
func (s *Service) connect(c *api.Call) (any, error) {
	text, _ := c.Query("bindings")
	bindings, problem := parseBindings(text)
	// What cannot be read names no exchange, and the stream only says so.
	if err := c.Authorize(exchanges(bindings)); err != nil {
		return nil, err
	}
	lastID := c.Request.Header.Get("Last-Event-ID")
	if lastID == noReturn {
		return nil, nil // 204, upon which a browser does not come back
	}
	after, err := s.place(c, lastID)
	if err != nil {
		return nil, err
	}
	who := caller(c)
	if err := s.slots.enter(who); err != nil {
		return nil, err
	}
	if c.Request.Method == http.MethodHead {
		s.slots.leave(who)
	}
	follow, _ := c.Query("follow")
	v := &visit{service: s, caller: who, session: c.Session(), after: after, every: s.ping, once: follow == "false"}
	return api.Stream(func(w http.ResponseWriter, r *http.Request) {
		out, err := newStream(w)
		if err != nil { // the connection is gone already
			s.slots.leave(who)
			return
		}
		out.clock = s.clock
		go v.in(func() {
			defer s.slots.leave(who)
			if problem != nil {
				out.refuse(problem.Error())
				out.hangUp()
				return
			}
			v.stay(bindings, out, func() { // a subscriber has no more to say: what can be read is his end
				var one [1]byte
				_, _ = out.conn.Read(one[:])
			})
		})
	}), nil
}

// noReturn is the id of an event after which a stream ends for good.
const noReturn = "-"

// place is where a stream begins: behind the position that the caller names,
// or at the present.
func (s *Service) place(c *api.Call, lastID string) (events.Position, error) {
	text, given := c.Query("after")
	if lastID != "" { // it is newer than the URL, which a browser repeats
		text, given = lastID, true
	}
	if !given {
		return s.hub.log.Head(), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, tcerr.New(tcerr.InputError, "%q is not the position of a message: resume with the id of the last event that you got, or leave it out", text)
	}
	after := events.Position(n)
	if after > s.hub.log.Head() { // another node may know more than this one yet
		_, newest, err := s.hub.log.Extent(c.Context)
		if err != nil {
			return 0, err
		}
		if after > newest {
			return 0, tcerr.New(tcerr.InputError, "there is no message at position %d yet: it is not of this deployment", after)
		}
	}
	return after, nil
}

// stream writes Server-Sent Events to a connection that it takes over, because
// of the 37 KB that the server would keep for each. After a failure it writes
// nothing.
type stream struct {
	conn  net.Conn
	clock clock.Clock
	buf   []byte
	err   error
}

func newStream(w http.ResponseWriter) (*stream, error) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	h.Set("Connection", "close")
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	_ = h.Write(&head) // memory takes it
	head.WriteString("\r\n")
	return &stream{conn: conn, buf: head.Bytes()}, nil
}

// add appends an event; send must follow. id is left out when it is 0.
func (out *stream) add(kind string, data []byte, id events.Position) {
	out.buf = append(append(append(out.buf, "event: "...), kind...), "\ndata: "...)
	out.buf = append(append(out.buf, data...), '\n')
	if id != 0 {
		out.buf = append(strconv.AppendInt(append(out.buf, "id: "...), int64(id), 10), '\n')
	}
	out.buf = append(out.buf, '\n')
}

func (out *stream) send() error {
	if out.err == nil {
		_ = out.conn.SetWriteDeadline(time.Now().Add(WriteTimeout))
		_, out.err = out.conn.Write(out.buf)
	}
	if out.buf = out.buf[:0]; cap(out.buf) > 512 {
		out.buf = nil // a parked stream shall not keep what a burst needed
	}
	return out.err
}

func (out *stream) event(kind string, v any, id events.Position) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	out.add(kind, data, id)
	return out.send()
}

func (out *stream) ready(after events.Position) error {
	out.buf = fmt.Appendf(out.buf, "retry: %d\n\n", retryAfter())
	out.add("ready", []byte("{}"), after)
	return out.send()
}

func (out *stream) messages(list []*message) error {
	for _, m := range list {
		out.add("message", m.body, m.position)
	}
	return out.send()
}

func (out *stream) lost() error {
	return out.event("lost", map[string]string{"message": lostText}, 0)
}

func (out *stream) slow() error {
	return out.event("slow", map[string]string{"message": slowText}, 0)
}

// With its id a quiet subscriber need not look through all of the log later.
func (out *stream) ping(place events.Position) error {
	return out.event("ping", map[string]string{"time": out.clock.Now().String()}, place)
}

func (out *stream) refuse(why string) {
	data, _ := json.Marshal(why) // a string always does
	out.buf = append(append(append(out.buf, "event: error\ndata: "...), data...), "\nid: "+noReturn+"\n\n"...)
	_ = out.send()
}

func (out *stream) broken() { _ = out.event("error", "Unknown Internal Error", 0) }

func (out *stream) goAway() {} // browsers come back by themselves

func (out *stream) hangUp() { out.conn.Close() }

const (
	lostText = "Messages that were published before those that follow are no longer in the log"
	slowText = "You read more slowly than messages are published: what follows comes from the log"
)

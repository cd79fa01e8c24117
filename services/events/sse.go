package events

import (
	"bytes"
	"context"
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

// maxLife is how long a stream lasts at most: whoever comes back is looked at
// anew, and may have other scopes by then.
const maxLife = time.Hour

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
	if err := s.enter(); err != nil {
		return nil, err
	}
	if c.Request.Method == http.MethodHead {
		s.leave()
	}
	follow, _ := c.Query("follow")
	until := s.until(c)
	return api.Stream(func(w http.ResponseWriter, r *http.Request) {
		out, err := newStream(w)
		if err != nil { // the connection is gone already
			s.leave()
			return
		}
		// The stream goes on without what the server kept for the request.
		go func() {
			defer s.leave()
			defer out.conn.Close()
			if problem != nil {
				out.fail(problem.Error())
				return
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() { // a subscriber has no more to say: what can be read is his end
				defer cancel()
				var one [1]byte
				_, _ = out.conn.Read(one[:])
			}()
			out.serve(ctx, s, after, bindings, until, follow != "false")
		}()
	}), nil
}

// noReturn is the id of an event after which a stream ends for good.
const noReturn = "-"

// until is when a stream ends: with the caller's credentials, and after maxLife.
func (s *Service) until(c *api.Call) clock.Time {
	end := s.clock.Now().Add(maxLife)
	if a := c.Auth(); a.Status == api.AuthSuccess && a.Expires != 0 {
		end = min(end, a.Expires)
	}
	return end
}

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

// enter counts a connection in, or refuses it.
func (s *Service) enter() error {
	if s.open.Add(1) > s.limit {
		s.leave()
		return tcerr.New(tcerr.TooManyRequests, "this server has %d subscribers, which is as many as it serves: try again later", s.limit)
	}
	return nil
}

func (s *Service) leave() { s.open.Add(-1) }

// stream writes Server-Sent Events to a connection that it takes over, because
// of the 37 KB that the server would keep for each. After a failure it writes
// nothing.
type stream struct {
	conn net.Conn
	buf  []byte
	err  error
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

func (out *stream) send() {
	if out.err == nil {
		_ = out.conn.SetWriteDeadline(time.Now().Add(WriteTimeout))
		_, out.err = out.conn.Write(out.buf)
	}
	if out.buf = out.buf[:0]; cap(out.buf) > 512 {
		out.buf = nil // a parked stream shall not keep what a burst needed
	}
}

func (out *stream) event(kind string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		out.err = err
		return
	}
	out.add(kind, data, 0)
	out.send()
}

// fail ends the stream for a reason that another try would meet again.
func (out *stream) fail(why string) {
	data, _ := json.Marshal(why) // a string always does
	out.buf = append(append(append(out.buf, "event: error\ndata: "...), data...), "\nid: "+noReturn+"\n\n"...)
	out.send()
}

// serve sends what a subscriber gets until somebody ends it, or, if he does not
// follow, until there is nothing more.
func (out *stream) serve(ctx context.Context, s *Service, after events.Position, bindings []events.Binding, until clock.Time, follow bool) {
	sub := s.hub.subscribe(after, bindings)
	defer sub.close()
	out.buf = fmt.Appendf(out.buf, "retry: %d\n\n", retryAfter())
	out.add("ready", []byte("{}"), after)
	out.send()
	ping := time.NewTicker(s.ping)
	defer ping.Stop()
	for out.err == nil {
		n, caught, err := sub.next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.logger.Error("the event log cannot be read for a subscriber", "error", err)
				out.event("error", "Unknown Internal Error")
			}
			return
		}
		if n.lost {
			out.event("lost", map[string]string{"message": lostText})
		}
		if len(n.messages) > 0 {
			for _, m := range n.messages {
				out.add("message", m.body, m.position)
			}
			out.send()
		}
		if n.slow {
			out.event("slow", map[string]string{"message": slowText})
		}
		if caught && !follow {
			return
		}
		select {
		case <-sub.wake:
		case <-ping.C:
			if until < s.clock.Now() {
				return
			}
			// With its id a quiet subscriber need not look through all of the log later.
			data, _ := json.Marshal(map[string]string{"time": s.clock.Now().String()})
			out.add("ping", data, sub.place())
			out.send()
		case <-s.stopping:
			return
		case <-ctx.Done():
			return
		}
	}
}

const (
	lostText = "Messages that were published before those that follow are no longer in the log"
	slowText = "You read more slowly than messages are published: what follows comes from the log"
)

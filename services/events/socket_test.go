package events

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// ws is a subscriber by WebSocket.
type ws struct {
	t    testing.TB
	conn *websocket.Conn
}

type wsFrame struct {
	Event, ID string
	Payload   json.RawMessage
}

func (d *deployment) socket(query string) *ws {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(d.server.URL, "http")+"/api/events/v1/socket?"+query, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.CloseNow() })
	return &ws{d.t, conn}
}

func (s *ws) send(text string) {
	s.t.Helper()
	if err := s.conn.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *ws) bind(id, exchange, pattern string) {
	s.send(fmt.Sprintf(`{"method":"bind","id":%q,"options":{"exchange":%q,"routingKeyPattern":%q}}`, id, exchange, pattern))
}

func (s *ws) next() (f wsFrame, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, text, err := s.conn.Read(ctx)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	return f, err
}

func (s *ws) want(event string) wsFrame {
	s.t.Helper()
	f, err := s.next()
	if err != nil || f.Event != event || f.ID == "" {
		s.t.Fatalf("got %s %q %s, %v; want %q", f.Event, f.ID, f.Payload, err, event)
	}
	return f
}

const allowed = "bewit=events:listen:*"

func TestSocketBindsAndGetsMessages(t *testing.T) {
	d := deploy(t)
	s := d.socket(allowed)
	s.want("ready")
	s.bind("first", "a", "x.#")
	if f := s.want("bound"); f.ID != "first" || string(f.Payload) != `{"options":{"exchange":"a","routingKeyPattern":"x.#"}}` {
		t.Fatalf("%s %s", f.ID, f.Payload)
	}
	s.bind("second", "b", "route.of.y")
	s.want("bound")
	d.publish("a x.1", "a y", "b y", "c z")
	for _, want := range []string{"a x.1", "b y"} {
		if got := textOf(t, s.want("message").Payload); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestSocketResumes(t *testing.T) {
	d := deploy(t)
	s := d.socket(query("a", "#"))
	s.want("ready")
	d.publish("a 1", "a 2")
	var m struct{ Position int64 }
	json.Unmarshal(s.want("message").Payload, &m)
	s.conn.CloseNow()
	s = d.socket(query("a", "#") + fmt.Sprintf("&after=%d", m.Position))
	s.want("ready")
	if got := textOf(t, s.want("message").Payload); got != "a 2" {
		t.Fatal(got)
	}
}

func TestSocketRefusesInThePublishedWords(t *testing.T) {
	d := deploy(t)
	s := d.socket("bewit=events:listen:a")
	s.want("ready")
	for _, c := range []struct{ request, id, message string }{
		{`{"method"`, "", "Failed to parse message"},
		{`[]`, "", "Failed to parse message"},
		{`{"method":"bind"}`, "", "Message doesn't have an id"},
		{`{"method":"bind","id":7}`, "", "Message doesn't have an id"},
		{`{"method":"unbind","id":"i"}`, "i", "Unknown method"},
		{`{"method":"bind","id":"i"}`, "i", "bind: options must be a JSON object"},
		{`{"method":"bind","id":"i","options":"x"}`, "i", "bind: options must be a JSON object"},
		{`{"method":"bind","id":"i","options":{"exchange":"a"}}`, "i", "bind: options.routingKeyPattern must be a string"},
		{`{"method":"bind","id":"i","options":{"exchange":"a","routingKeyPattern":5}}`, "i", "bind: options.routingKeyPattern must be a string"},
		{`{"method":"bind","id":"i","options":{"exchange":"a","routingKeyPattern":"` + strings.Repeat("x", 256) + `"}}`, "i", "bind: options.routingKeyPattern is limited to 255 characters"},
		{`{"method":"bind","id":"i","options":{"routingKeyPattern":"#"}}`, "i", "bind: Failed to bind w. requested binding"},
		{`{"method":"bind","id":"i","options":{"exchange":7,"routingKeyPattern":"#"}}`, "i", "bind: Failed to bind w. requested binding"},
		{`{"method":"bind","id":"i","options":{"exchange":"b","routingKeyPattern":"#"}}`, "i", "bind: Failed to bind w. requested binding"}, // no scope
	} {
		s.send(c.request)
		f := s.want("error")
		var p struct {
			Message string
			Details map[string]any
		}
		if err := json.Unmarshal(f.Payload, &p); err != nil || p.Message != c.message || p.Details == nil || c.id != "" && f.ID != c.id {
			t.Errorf("%s: %s %s, %v", c.request, f.ID, f.Payload, err)
		}
	}
	for n := range MaxBindings {
		s.bind(fmt.Sprint(n), "a", "#")
		s.want("bound")
	}
	s.bind("more", "a", "#")
	if f := s.want("error"); !strings.Contains(string(f.Payload), "100 bindings") {
		t.Errorf("%s", f.Payload)
	}
	d.publish("a 1") // after all of that it works, and once only
	if got := textOf(t, s.want("message").Payload); got != "a 1" {
		t.Error(got)
	}
	s.send(`{"method":"bind","id":"` + strings.Repeat("x", maxFrame) + `"}`)
	if _, err := s.next(); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("a frame that is too large: %v", err)
	}
}

func TestSocketEndsWithoutPongs(t *testing.T) {
	d := deploy(t, func(c *Config) { c.SocketPing = 20 * time.Millisecond })
	s := d.socket(allowed)
	time.Sleep(10 * 20 * time.Millisecond) // nobody reads, so nobody answers pings
	s.want("ready")
	for {
		f, err := s.next()
		if err != nil {
			t.Fatalf("the socket ended without a reason: %v", err)
		}
		if f.Event == "error" {
			if !strings.Contains(string(f.Payload), "Closing due to missing pongs") || !strings.Contains(string(f.Payload), `"missingPongs":2`) {
				t.Fatalf("%s", f.Payload)
			}
			return
		}
	}
}

func TestDrainEndsSockets(t *testing.T) {
	d := deploy(t)
	s := d.socket(allowed)
	s.want("ready")
	d.service.Drain()
	if _, err := s.next(); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Fatal(err)
	}
}

func TestSocketWantsAWebSocket(t *testing.T) {
	d := deploy(t)
	for query, want := range map[string]int{
		allowed:                            400,
		"bindings=x&" + allowed:            400,
		query("a", "#") + "&after=nowhere": 400,
	} {
		r, err := http.Get(d.server.URL + "/api/events/v1/socket?" + query)
		if err != nil {
			t.Fatal(err)
		}
		if text := body(r); r.StatusCode != want || !strings.Contains(text, `"code"`) {
			t.Errorf("%s: %s %s", query, r.Status, text)
		}
		r.Body.Close()
	}
}

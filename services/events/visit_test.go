package events

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"taskcluster/internal/api"
	"taskcluster/internal/scopes"
	"taskcluster/internal/testenv"
)

// quickly has streams look at credentials often. Who does not read a WebSocket for
// twice as long is cut off.
func quickly(c *Config) { c.Ping, c.SocketPing = 20*time.Millisecond, 2*time.Second }

// Who may not listen any more is told so, and hears nothing more.
func TestCredentialsAreLookedAtAnew(t *testing.T) {
	for name, now := range map[string]struct {
		result *api.AuthResult
		told   string
	}{
		"disabled":     {&api.AuthResult{Status: api.AuthFailed, Message: "Client with clientId 'caller' is disabled"}, "is disabled"},
		"fewer scopes": {&api.AuthResult{Status: api.AuthSuccess, ClientID: "caller", Issuer: "caller", Scopes: scopes.NewSet("events:listen:a")}, "events:listen:b"},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t, quickly)
			stream, socket := d.listen(query("a", "#", "b", "#"), ""), d.socket(allowed)
			stream.want("ready")
			socket.want("ready")
			socket.bind("1", "b", "#") // what was bound later counts as well
			socket.want("bound")
			stream.want("ping")
			d.callers.answer("events:listen:*", func() *api.AuthResult { return now.result })
			if e := stream.want("error"); !strings.Contains(e.data, now.told) || e.id != noReturn {
				t.Errorf("by Server-Sent Events: %+v", e)
			}
			if e := stream.next(); e.kind != "" {
				t.Errorf("after the end: %+v", e)
			}
			if f := socket.want("error"); !strings.Contains(string(f.Payload), now.told) || !strings.Contains(string(f.Payload), "You may not listen any more") {
				t.Errorf("by WebSocket: %s", f.Payload)
			}
			if _, err := socket.next(); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("after the end: %v", err)
			}
			until(t, "nobody is connected", func() bool { return d.service.Connections() == 0 })
		})
	}
}

// Trouble of ours takes nobody's stream away.
func TestStreamsOutliveTroubleWithCredentials(t *testing.T) {
	var logs testenv.Buffer
	d := deploy(t, quickly, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	s := d.listen(query("a", "#"), "")
	s.want("ready")
	d.callers.answer("events:listen:*", func() *api.AuthResult {
		return &api.AuthResult{Status: api.AuthFailed, Err: errors.New("the database is away")}
	})
	until(t, "the trouble is logged", func() bool { return strings.Contains(logs.String(), "the database is away") })
	d.publish("a 1")
	if got := s.text(); got != "a 1" {
		t.Error(got)
	}
}

// A panic in one connection ends that one, and is logged.
func TestPanicEndsOneConnection(t *testing.T) {
	var logs testenv.Buffer
	d := deploy(t, quickly, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	other := d.listen(query("a", "#"), "")
	other.want("ready")
	const unlucky = "events:listen:a"
	q, _, _ := strings.Cut(query("a", "#"), "&bewit")
	stream, socket := d.listen(q+"&bewit="+unlucky, ""), d.socket(q+"&bewit="+unlucky)
	stream.want("ready")
	socket.want("ready")
	d.callers.answer(unlucky, func() *api.AuthResult { panic("what a surprise") })
	for e := stream.next(); e.kind != ""; e = stream.next() {
		if e.kind != "ping" {
			t.Fatalf("got %+v", e)
		}
	}
	if f, err := socket.next(); err == nil {
		t.Fatalf("got %+v", f)
	}
	until(t, "one is connected", func() bool { return d.service.Connections() == 1 })
	// Also where requests are answered, and not only where events are sent.
	slow := deploy(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	socket = slow.socket(q + "&bewit=" + unlucky)
	socket.want("ready")
	slow.callers.answer(unlucky, func() *api.AuthResult { panic("what a surprise") })
	socket.bind("1", "a", "#")
	if f, err := socket.next(); err == nil {
		t.Fatalf("got %+v", f)
	}
	until(t, "nobody is connected", func() bool { return slow.service.Connections() == 0 })
	until(t, "the log has three panics", func() bool { return strings.Count(logs.String(), `panic="what a surprise"`) == 3 })
	if text := logs.String(); !strings.Contains(text, "visit_test.go") {
		t.Errorf("the log has no stacks:\n%s", text)
	}
	d.publish("a 1")
	if got := other.text(); got != "a 1" {
		t.Error(got)
	}
}

// One caller leaves room for others.
func TestOneCallerDoesNotGetAllConnections(t *testing.T) {
	d := deploy(t, func(c *Config) { c.Connections = 6 })
	var mine []*sse
	for range 4 {
		s := d.listen(query("a", "#"), "")
		s.want("ready")
		mine = append(mine, s)
	}
	s := d.listen(query("a", "#"), "")
	if text := body(s.answer); s.answer.StatusCode != 429 || !strings.Contains(text, "client caller has 4 of the 6 subscribers") {
		t.Fatalf("%s %s", s.answer.Status, text)
	}
	nobody := "bindings=" + url.QueryEscape(`{"bindings":[]}`)
	d.listen(nobody, "").want("ready")
	// He has more than may be his now, and keeps them, but gets no other.
	mine[0].close()
	until(t, "a place is free", func() bool { return d.service.Connections() == 4 })
	d.listen(nobody, "").want("ready")
	if s := d.listen(query("a", "#"), ""); s.answer.StatusCode != 429 {
		t.Fatal(s.answer.Status)
	}
	if s := d.listen(nobody, ""); s.answer.StatusCode != 429 || !strings.Contains(body(s.answer), "address 127.0.0.1 has 2 of the 6") {
		t.Fatal(s.answer.Status)
	}
}

// Who issues temporary credentials under one name after the other is one caller.
func TestNamesAreNoCallers(t *testing.T) {
	d := deploy(t, func(c *Config) { c.Connections = 6 })
	minted := func(n int) string {
		scope := fmt.Sprintf("events:listen:a%d*", n)
		d.callers.answer(scope, func() *api.AuthResult {
			return &api.AuthResult{Status: api.AuthSuccess, ClientID: fmt.Sprint("caller/", n), Issuer: "caller", Scopes: scopes.NewSet("events:listen:*")}
		})
		q, _, _ := strings.Cut(query("a", "#"), "&bewit")
		return q + "&bewit=" + url.QueryEscape(scope)
	}
	for n := range 4 {
		d.listen(minted(n), "").want("ready")
	}
	s := d.listen(minted(4), "")
	if text := body(s.answer); s.answer.StatusCode != 429 || !strings.Contains(text, "client caller has 4 of the 6 subscribers") {
		t.Fatalf("%s %s", s.answer.Status, text)
	}
	_, res, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(d.server.URL, "http")+"/api/events/v1/socket?"+minted(5), nil)
	if err == nil || res == nil || res.StatusCode != 429 {
		t.Fatalf("a socket: %v", err)
	}
}

func TestSlots(t *testing.T) {
	s := &slots{limit: 20_000, callers: map[string]int{}}
	fill := func(caller string) (n int) {
		for s.enter(caller) == nil {
			n++
		}
		return n
	}
	if n := fill("a"); n != 13_334 {
		t.Errorf("one caller gets %d", n)
	}
	if n := fill("b"); n != 4_444 {
		t.Errorf("the next gets %d of what is left", n)
	}
	for i := range 10_000 {
		if s.enter(fmt.Sprint(i)) != nil {
			if s.taken() != s.limit {
				t.Errorf("a new caller is refused with %d taken", s.taken())
			}
			break
		}
	}
	for range 13_334 {
		s.leave("a")
	}
	if _, known := s.callers["a"]; known || s.taken() != s.limit-13_334 {
		t.Errorf("%d are taken after one has left", s.taken())
	}
}

// What a client sends right behind the handshake is read, also when it is more
// than a buffer holds.
func TestSocketReadsWhatCameEarly(t *testing.T) {
	d := deploy(t)
	conn, err := net.Dial("tcp", d.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	early := []byte("GET /api/events/v1/socket?" + allowed + " HTTP/1.1\r\nHost: tc.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	for i := range 4 {
		text := fmt.Sprintf(`{"method":"bind","id":"early-%d","options":{"exchange":"a","routingKeyPattern":%q}}`, i, strings.Repeat("x", 200))
		early = append(early, 0x81, 0x80|126) // a text frame, masked with zeros
		early = binary.BigEndian.AppendUint16(early, uint16(len(text)))
		early = append(append(early, 0, 0, 0, 0), text...)
	}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(early); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for r := bufio.NewReader(conn); !strings.Contains(got.String(), `"id":"early-3"`); {
		c, err := r.ReadByte()
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
		got.WriteByte(c)
	}
	if n := strings.Count(got.String(), `"event":"bound"`); n != 4 || strings.Index(got.String(), `"event":"ready"`) > strings.Index(got.String(), `"event":"bound"`) {
		t.Errorf("%d are bound, and not after ready: %q", n, got.String())
	}
	if _, err := io.WriteString(conn, "\x88\x80\x00\x00\x00\x00"); err != nil { // the end
		t.Error(err)
	}
	until(t, "nobody is connected", func() bool { return d.service.Connections() == 0 })
}

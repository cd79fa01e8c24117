package events

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/coder/websocket"

	"taskcluster/internal/api"
	"taskcluster/internal/events"
	"taskcluster/internal/slugid"
	"taskcluster/internal/tcerr"
)

const (
	// maxFrame is the greatest size of a request, in bytes.
	maxFrame = 64 << 10
	// missingPongs is how many pings in a row may go without a pong.
	missingPongs = 2
)

// socket opens a WebSocket and speaks the protocol of the former service.
func (s *Service) socket(c *api.Call) (any, error) {
	var bindings []events.Binding
	if text, given := c.Query("bindings"); given {
		var problem error
		if bindings, problem = parseBindings(text); problem != nil {
			return nil, tcerr.New(tcerr.InputError, "%v", problem)
		}
	}
	if err := c.Authorize(exchanges(bindings)); err != nil {
		return nil, err
	}
	after, err := s.place(c, "")
	if err != nil {
		return nil, err
	}
	if c.Request.Header.Get("Upgrade") == "" {
		return nil, tcerr.New(tcerr.InputError, "this is the address of a WebSocket: connect with a client for those, or use /connect/ for Server-Sent Events")
	}
	who := caller(c)
	if err := s.slots.enter(who); err != nil {
		return nil, err
	}
	v := &visit{service: s, caller: who, session: c.Session(), after: after, every: s.socketPing}
	return api.Stream(func(w http.ResponseWriter, r *http.Request) {
		// Any page may connect: credentials are in the URL, there are no cookies.
		// Accept answers what is no good handshake.
		conn, err := websocket.Accept(frugal{w}, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			s.slots.leave(who)
			return
		}
		conn.SetReadLimit(maxFrame)
		go v.in(func() {
			defer s.slots.leave(who)
			k := &socket{visit: v, conn: conn}
			v.stay(bindings, k, k.requests)
		})
	}), nil
}

// frugal gives a WebSocket buffers of the size of what it says. Those of the
// server have 8 KB together, which each would keep.
type frugal struct{ http.ResponseWriter }

const readBuffer, writeBuffer = 512, 1024

func (w frugal) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, server, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	var from io.Reader = conn
	early := server.Reader.Buffered() // what came right behind the handshake
	if early > 0 {
		text, _ := server.Reader.Peek(early)
		from = io.MultiReader(bytes.NewReader(text), conn)
	}
	reader := bufio.NewReaderSize(from, max(early, readBuffer))
	if early > 0 {
		_, _ = reader.Peek(early) // Accept takes only what is in the buffer
	}
	return conn, bufio.NewReadWriter(reader, bufio.NewWriterSize(conn, writeBuffer)), nil
}

// socket is one WebSocket.
type socket struct {
	*visit
	conn *websocket.Conn

	waiting atomic.Bool // for a pong
	missing int         // pings in a row that had none
}

// frame is what is sent.
type frame struct {
	Event   string `json:"event"`
	ID      string `json:"id"`
	Payload any    `json:"payload,omitempty"`
}

func (k *socket) send(event, id string, payload any) error {
	if id == "" {
		id = slugid.New().String()
	}
	text, err := json.Marshal(frame{event, id, payload})
	if err != nil {
		return err
	}
	return k.write(text)
}

func (k *socket) write(text []byte) error {
	ctx, cancel := context.WithTimeout(k.ctx, WriteTimeout)
	defer cancel()
	return k.conn.Write(ctx, websocket.MessageText, text)
}

// fail answers a request, or tells why the socket is going to be closed.
func (k *socket) fail(id, message string, details any) error {
	return k.send("error", id, map[string]any{"message": message, "details": details})
}

func (k *socket) ready(after events.Position) error {
	return k.send("ready", "", map[string]any{"position": int64(after)})
}

func (k *socket) messages(list []*message) error {
	for _, m := range list {
		text := make([]byte, 0, len(m.body)+80)
		text = slugid.New().AppendTo(append(text, `{"event":"message","id":"`...))
		text = append(append(append(text, `","payload":`...), m.body...), '}')
		if err := k.write(text); err != nil {
			return err
		}
	}
	return nil
}

func (k *socket) lost() error {
	return k.send("lost", "", map[string]any{"message": lostText})
}

func (k *socket) slow() error {
	return k.send("slow", "", map[string]any{"message": slowText})
}

// ping sends one, and ends the socket when the last ones had no pong.
func (k *socket) ping(events.Position) error {
	if !k.waiting.Swap(true) {
		k.missing = 0
	} else if k.missing++; k.missing == missingPongs {
		_ = k.fail("", "Closing due to missing pongs", map[string]any{"missingPongs": missingPongs})
		_ = k.conn.Close(websocket.StatusPolicyViolation, "missing pongs")
		return errMissingPongs
	}
	go k.in(func() { // lives only while it waits
		ctx, cancel := context.WithTimeout(k.ctx, k.every)
		defer cancel()
		if k.conn.Ping(ctx) == nil {
			k.waiting.Store(false)
		}
	})
	return nil
}

var errMissingPongs = errors.New("missing pongs")

func (k *socket) refuse(why string) {
	_ = k.fail("", "You may not listen any more", map[string]any{"reason": why})
	_ = k.conn.Close(websocket.StatusPolicyViolation, "your credentials do not allow it any more")
}

func (k *socket) broken() {
	_ = k.fail("", "PulseListener Error", map[string]any{"reason": "the event log cannot be read"})
	_ = k.conn.Close(websocket.StatusInternalError, "the event log cannot be read")
}

func (k *socket) goAway() {
	_ = k.conn.Close(websocket.StatusGoingAway, "the server is stopped: connect again")
}

func (k *socket) hangUp() { k.conn.CloseNow() }

// requests answers requests until the socket ends, as it does by hangUp.
func (k *socket) requests() {
	for {
		kind, text, err := k.conn.Read(context.Background())
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			_ = k.conn.Close(websocket.StatusUnsupportedData, "requests are text")
			return
		}
		if k.answer(text) != nil {
			return
		}
	}
}

func (k *socket) answer(text []byte) error {
	var request struct {
		Method  any             `json:"method"`
		ID      any             `json:"id"`
		Options json.RawMessage `json:"options"`
	}
	if json.Unmarshal(text, &request) != nil {
		return k.fail("", "Failed to parse message", map[string]any{"data": string(text)})
	}
	id, _ := request.ID.(string)
	if id == "" {
		return k.fail("", "Message doesn't have an id", map[string]any{"data": json.RawMessage(text)})
	}
	if request.Method != "bind" {
		return k.fail(id, "Unknown method", map[string]any{"method": request.Method, "data": json.RawMessage(text)})
	}
	var options map[string]json.RawMessage
	if json.Unmarshal(request.Options, &options) != nil || options == nil {
		return k.fail(id, "bind: options must be a JSON object", map[string]any{"options": request.Options})
	}
	var b events.Binding
	var pattern *string
	if json.Unmarshal(options["routingKeyPattern"], &pattern) != nil || pattern == nil {
		return k.fail(id, "bind: options.routingKeyPattern must be a string", map[string]any{"options": request.Options})
	}
	b.Pattern = *pattern
	if len([]rune(b.Pattern)) > maxName {
		return k.fail(id, "bind: options.routingKeyPattern is limited to 255 characters",
			map[string]any{"options": request.Options, "routingKeyPattern": b.Pattern})
	}
	failed := func(why string) error {
		return k.fail(id, "bind: Failed to bind w. requested binding", map[string]any{"options": request.Options, "reason": why})
	}
	if json.Unmarshal(options["exchange"], &b.Exchange) != nil {
		return failed("options.exchange must be a string")
	}
	if err := checkBinding(b); err != nil {
		return failed(err.Error())
	}
	if err := k.session.Authorize(k.ctx, exchanges([]events.Binding{b})); err != nil {
		if why, refused := refused(err); refused {
			return failed(why)
		}
		k.service.logger.Error("a binding could not be authorized", "error", err)
		return failed("it could not be authorized now: try again")
	}
	if !k.sub.bind(b) {
		return failed(fmt.Sprintf("there are %d bindings already", MaxBindings))
	}
	return k.send("bound", id, map[string]any{"options": map[string]string{"exchange": b.Exchange, "routingKeyPattern": b.Pattern}})
}

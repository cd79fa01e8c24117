package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

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
	if err := s.enter(); err != nil {
		return nil, err
	}
	return api.Stream(func(w http.ResponseWriter, r *http.Request) {
		// Any page may connect: credentials are in the URL, there are no cookies.
		// Accept answers what is no good handshake.
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			s.leave()
			return
		}
		// It goes on without what the server kept for the request.
		go func() {
			defer s.leave()
			defer conn.CloseNow()
			conn.SetReadLimit(maxFrame)
			k := &socket{service: s, call: c, conn: conn, sub: s.hub.subscribe(after, bindings)}
			defer k.sub.close()
			k.serve(context.Background(), after)
		}()
	}), nil
}

// socket is one WebSocket.
type socket struct {
	service *Service
	call    *api.Call // for the credentials
	conn    *websocket.Conn
	sub     *subscriber
}

// frame is what is sent.
type frame struct {
	Event   string `json:"event"`
	ID      string `json:"id"`
	Payload any    `json:"payload,omitempty"`
}

func (k *socket) send(ctx context.Context, event, id string, payload any) error {
	if id == "" {
		id = slugid.New().String()
	}
	text, err := json.Marshal(frame{event, id, payload})
	if err != nil {
		return err
	}
	return k.write(ctx, text)
}

func (k *socket) write(ctx context.Context, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, WriteTimeout)
	defer cancel()
	return k.conn.Write(ctx, websocket.MessageText, text)
}

// fail answers a request, or tells why the socket is going to be closed.
func (k *socket) fail(ctx context.Context, id, message string, details any) error {
	return k.send(ctx, "error", id, map[string]any{"message": message, "details": details})
}

// serve sends what the subscriber gets and answers requests, until either side
// ends it.
func (k *socket) serve(ctx context.Context, after events.Position) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if k.send(ctx, "ready", "", map[string]any{"position": int64(after)}) != nil {
		return
	}
	go func() {
		defer cancel()
		k.requests(ctx)
	}()
	until := k.service.until(k.call)
	tick := time.NewTicker(k.service.socketPing)
	defer tick.Stop()
	pongs, missing, pinging := make(chan bool, 1), 0, false
	for {
		n, _, err := k.sub.next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				k.service.logger.Error("the event log cannot be read for a subscriber", "error", err)
				_ = k.fail(ctx, "", "PulseListener Error", map[string]any{"reason": "the event log cannot be read"})
				_ = k.conn.Close(websocket.StatusInternalError, "the event log cannot be read")
			}
			return
		}
		if n.lost && k.send(ctx, "lost", "", map[string]any{"message": lostText}) != nil {
			return
		}
		if n.slow && k.send(ctx, "slow", "", map[string]any{"message": slowText}) != nil {
			return
		}
		for _, m := range n.messages {
			text := make([]byte, 0, len(m.body)+80)
			text = slugid.New().AppendTo(append(text, `{"event":"message","id":"`...))
			text = append(append(append(text, `","payload":`...), m.body...), '}')
			if k.write(ctx, text) != nil {
				return
			}
		}
		select {
		case <-k.service.stopping:
			_ = k.conn.Close(websocket.StatusGoingAway, "the server is stopped: connect again")
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			if until < k.service.clock.Now() {
				_ = k.conn.Close(websocket.StatusGoingAway, "connect again, so that your scopes are looked at anew")
				return
			}
			if pinging {
				continue
			}
			pinging = true
			go func() { pongs <- k.ping(ctx) }() // lives only while it waits
		case pong := <-pongs:
			if pinging, missing = false, missing+1; pong {
				missing = 0
			}
			if missing == missingPongs {
				_ = k.fail(ctx, "", "Closing due to missing pongs", map[string]any{"missingPongs": missingPongs})
				_ = k.conn.Close(websocket.StatusPolicyViolation, "missing pongs")
				return
			}
		case <-k.sub.wake:
		}
	}
}

// ping tells whether the other side answers a ping before the next one is due.
func (k *socket) ping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, k.service.socketPing)
	defer cancel()
	return k.conn.Ping(ctx) == nil
}

// requests answers requests until the socket ends.
func (k *socket) requests(ctx context.Context) {
	for {
		kind, text, err := k.conn.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			_ = k.conn.Close(websocket.StatusUnsupportedData, "requests are text")
			return
		}
		if k.answer(ctx, text) != nil {
			return
		}
	}
}

func (k *socket) answer(ctx context.Context, text []byte) error {
	var request struct {
		Method  any             `json:"method"`
		ID      any             `json:"id"`
		Options json.RawMessage `json:"options"`
	}
	if json.Unmarshal(text, &request) != nil {
		return k.fail(ctx, "", "Failed to parse message", map[string]any{"data": string(text)})
	}
	id, _ := request.ID.(string)
	if id == "" {
		return k.fail(ctx, "", "Message doesn't have an id", map[string]any{"data": json.RawMessage(text)})
	}
	if request.Method != "bind" {
		return k.fail(ctx, id, "Unknown method", map[string]any{"method": request.Method, "data": json.RawMessage(text)})
	}
	var options map[string]json.RawMessage
	if json.Unmarshal(request.Options, &options) != nil || options == nil {
		return k.fail(ctx, id, "bind: options must be a JSON object", map[string]any{"options": request.Options})
	}
	var b events.Binding
	var pattern *string
	if json.Unmarshal(options["routingKeyPattern"], &pattern) != nil || pattern == nil {
		return k.fail(ctx, id, "bind: options.routingKeyPattern must be a string", map[string]any{"options": request.Options})
	}
	b.Pattern = *pattern
	if len([]rune(b.Pattern)) > maxName {
		return k.fail(ctx, id, "bind: options.routingKeyPattern is limited to 255 characters",
			map[string]any{"options": request.Options, "routingKeyPattern": b.Pattern})
	}
	failed := func(why string) error {
		return k.fail(ctx, id, "bind: Failed to bind w. requested binding", map[string]any{"options": request.Options, "reason": why})
	}
	if json.Unmarshal(options["exchange"], &b.Exchange) != nil {
		return failed("options.exchange must be a string")
	}
	if err := checkBinding(b); err != nil {
		return failed(err.Error())
	}
	if err := k.call.Authorize(exchanges([]events.Binding{b})); err != nil {
		var e *tcerr.Error
		if errors.As(err, &e) && e.Code != tcerr.InternalServerError {
			return failed(e.Message)
		}
		k.service.logger.Error("a binding could not be authorized", "error", err)
		return failed("it could not be authorized now: try again")
	}
	if !k.sub.bind(b) {
		return failed(fmt.Sprintf("there are %d bindings already", MaxBindings))
	}
	return k.send(ctx, "bound", id, map[string]any{"options": map[string]string{"exchange": b.Exchange, "routingKeyPattern": b.Pattern}})
}

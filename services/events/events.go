// Package events is the service by which browsers and scripts follow what
// happens: they name exchanges and patterns of routing keys, and get each
// message that fits as soon as it is committed, over Server-Sent Events or
// a WebSocket.
//
// What it promises:
//
//   - A subscriber gets every message that fits one of his bindings, once and in
//     the order of the event log, from the moment at which he is told "ready".
//   - One who names the position of the last message that he saw goes on right
//     behind it, on any node, as long as the log has kept what follows. When it
//     may not have, he is told so.
//   - One who reads slowly costs a bounded amount of memory: beyond MaxQueue
//     messages he is told, and served from the log, at his own pace. One who does not read
//     at all is cut off after WriteTimeout, and can resume.
//   - Who may not listen any more hears nothing from the next ping on: clients,
//     roles and certificates are looked at with each.
//   - No caller has all connections: each leaves half as many free as he has.
//   - A parked subscriber costs no query and no timer of his own but the ping.
//
// How: one goroutine reads the log for all (see hub); a subscriber who is behind
// reads by himself until he has caught up with it.
package events

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/schema"
	"taskcluster/internal/scopes"
)

// The limits of the service.
const (
	// MaxConnections is how many subscribers a process serves at a time.
	MaxConnections = 20_000
	// MaxBindings is how many bindings one of them may have.
	MaxBindings = 100
	// MaxQueue is how many messages, and MaxQueueBytes how many bytes of them,
	// wait in memory for one of them.
	MaxQueue, MaxQueueBytes = 256, 256 << 10
	// WriteTimeout is how long a subscriber may take no byte of what is sent.
	WriteTimeout = 30 * time.Second
)

// Config is what the service is built from.
type Config struct {
	Log    *events.Log
	Clock  clock.Clock  // the machine's clock when nil
	Logger *slog.Logger // nothing is logged when nil

	// Ping is the time between two pings of a Server-Sent Events stream, and
	// SocketPing that of a WebSocket; 20 and 30 seconds when zero.
	Ping, SocketPing time.Duration
	// Connections replaces MaxConnections when it is not zero.
	Connections int
}

// Service is the events service.
type Service struct {
	hub    *hub
	slots  *slots
	clock  clock.Clock
	logger *slog.Logger

	ping, socketPing time.Duration

	stopping context.Context // ended by Drain
	drain    context.CancelFunc
}

// New builds the service.
func New(cfg Config) (*Service, error) {
	if cfg.Log == nil {
		return nil, errors.New("events: the event log is needed")
	}
	s := &Service{
		hub: newHub(cfg.Log), slots: &slots{limit: cfg.Connections, callers: map[string]int{}}, clock: cfg.Clock, logger: cfg.Logger,
		ping: cfg.Ping, socketPing: cfg.SocketPing,
	}
	s.stopping, s.drain = context.WithCancel(context.Background())
	if s.clock == nil {
		s.clock = clock.Real{}
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.ping == 0 {
		s.ping = 20 * time.Second
	}
	if s.socketPing == 0 {
		s.socketPing = 30 * time.Second
	}
	if s.slots.limit == 0 {
		s.slots.limit = MaxConnections
	}
	return s, nil
}

// Start begins to follow the log.
func (s *Service) Start(g *lifecycle.Group) {
	g.Go("events: follow the log", func(ctx context.Context) error { return s.hub.follow(ctx, s.logger) })
}

// Drain ends all streams, now and later, in a way that makes subscribers come
// back, to another node. It may be called more than once.
func (s *Service) Drain() { s.drain() }

// Connections is how many subscribers there are.
func (s *Service) Connections() int { return s.slots.taken() }

// API is the service as data.
func (s *Service) API() api.Service {
	return api.Service{
		Name:    "events",
		Version: "v1",
		Title:   "Events API",
		Description: "Sends messages to browsers and scripts as they are published. A binding is an exchange, for example " +
			"`exchange/taskcluster-queue/v1/task-completed`, and a pattern of routing keys, in which `*` stands for one word and `#` for any number.\n\n" +
			"Each message has a `position`. Who reconnects with the last one that he saw misses nothing.",
		Methods: s.methods(),
		Schemas: schema.Source{Service: "events"},
	}
}

// methods are the service's methods.
func (s *Service) methods() []api.Method {
	// Who listens needs a scope for each exchange.
	listen := scopes.MustParseTemplate(`{"AllOf": [{"for": "exchange", "in": "exchanges", "each": "events:listen:<exchange>"}]}`)
	query := []api.QueryParam{
		{Name: "bindings", Pattern: api.Check("it must not be empty", func(s string) bool { return s != "" })},
		{Name: "after", Pattern: api.Regexp(`^[0-9]{1,18}$`)},
	}
	follow := append(slices.Clone(query), api.QueryParam{Name: "follow", Pattern: api.Regexp(`^(true|false)$`)})
	return []api.Method{
		{
			Name: "connect", Method: http.MethodGet, Route: "/connect/", Category: "Events", Stability: api.Experimental,
			Title: "Events by Server-Sent Events",
			Description: "Answers with a stream of events that does not end by itself. The query parameter `bindings` is JSON: " +
				"`{\"bindings\": [{\"exchange\": …, \"routingKeyPattern\": …}, …]}`.\n\n" +
				"The first event is `ready`. A `message` has the published `payload`, `exchange`, `routingKey`, `routes` (of the task's " +
				"routes) and `position`, which is also the event's id: a browser that reconnects sends it as `Last-Event-ID`, a script may " +
				"give it as `after`, and either gets what followed. `lost` tells that some of that may be gone, `slow` that you " +
				"read more slowly than messages come, `ping` comes every 20 seconds, `error` before the stream ends for a reason. " +
				"With `follow` being `false` the stream ends when all that was published was sent. Any stream ends " +
				"when the server stops: reconnect with the last id.\n\n" +
				"Needs `events:listen:<exchange>` for each exchange, as long as it goes on. A browser gives credentials as a bewit in the URL.",
			Query: follow, Output: api.Blob, Scopes: listen, Handle: s.connect,
		},
		{
			Name: "socket", Method: http.MethodGet, Route: "/socket", Category: "Events", Stability: api.Experimental,
			Title: "Events by WebSocket",
			Description: "Opens a WebSocket. Requests and events are JSON, one in a text frame. " +
				"`{\"method\": \"bind\", \"id\": …, \"options\": {\"exchange\": …, \"routingKeyPattern\": …}}` adds a binding, and is answered by " +
				"`bound` or `error` with the same id. Bindings may also be given as for `connect`, with `after` to resume: what comes by " +
				"`bind` begins with the present.\n\n" +
				"Needs `events:listen:<exchange>` for each exchange, by the credentials of the request that opens the socket, as long as it is open.",
			Query: query, Output: api.Blob, Scopes: listen, Handle: s.socket,
		},
	}
}

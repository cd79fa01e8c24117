package api

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"taskcluster/internal/clock"
	"taskcluster/internal/schema"
)

// Options are what a Server needs from the program around it.
type Options struct {
	RootURL    string // without trailing slash
	Schemas    *schema.Set
	Auth       Authenticator
	Clock      clock.Clock
	Log        *slog.Logger
	TrustProxy bool // believe X-Forwarded-For
	Version    Version
	Metrics    Metrics      // may be nil
	Tracer     trace.Tracer // may be nil
}

// Version describes the running program, in the shape that Dockerflow defines.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Source  string `json:"source"`
	Build   string `json:"build"`
}

// Metrics is told about every call that has been answered, and about every
// check of credentials.
type Metrics interface {
	Served(service, name, method string, status int, took time.Duration)
	// Authenticated tells that credentials were good (clientID says whose) or not
	// (reason says why, in one word of a few), given by the scheme "hawk" or "bewit".
	Authenticated(scheme, clientID, reason string)
}

// Server serves a set of services and their references.
type Server struct {
	rootURL    string
	schemas    *schema.Set
	auth       Authenticator
	clock      clock.Clock
	log        *slog.Logger
	trustProxy bool
	version    Version
	metrics    Metrics
	tracer     trace.Tracer
	started    time.Time
	outages    outages

	services []*service
	byPrefix map[string]*service // "queue/v1"
}

type service struct {
	Service
	methods []*method
}

type method struct {
	*Method
	service  *service
	route    route
	urlAuth  bool
	patterns []*Pattern // in the order of the route's names; nil = anything
	input    *schema.Schema
}

// New builds the server. A method that refers to a schema, parameter or route
// that is not there is an error here, not at the first call.
func New(o Options, services ...Service) (*Server, error) {
	s := &Server{
		rootURL: strings.TrimRight(o.RootURL, "/"), schemas: o.Schemas, auth: o.Auth, clock: o.Clock, log: o.Log,
		trustProxy: o.TrustProxy, version: o.Version, metrics: o.Metrics, tracer: o.Tracer, started: time.Now(),
		byPrefix: map[string]*service{}, outages: outages{open: map[string]*outage{}},
	}
	for _, def := range services {
		svc := &service{Service: def}
		svc.Methods = append(s.utilityMethods(), def.Methods...)
		for i := range svc.Methods {
			m, err := s.compile(svc, &svc.Methods[i])
			if err != nil {
				return nil, err
			}
			svc.methods = append(svc.methods, m)
		}
		s.services = append(s.services, svc)
		s.byPrefix[def.Name+"/"+def.Version] = svc
	}
	return s, nil
}

// ServeHTTP implements http.Handler for everything below /api/, /references
// and /schemas, and for the process's own utility paths.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.commonHeaders(w.Header(), r)
	path := r.URL.EscapedPath()
	switch {
	case strings.HasPrefix(path, "/api/"):
		s.serveAPI(w, r, path[len("/api/"):])
	case strings.HasPrefix(path, "/references/") || strings.HasPrefix(path, "/schemas/"):
		s.serveReference(w, r)
	default:
		s.serveUtility(w, r, path)
	}
}

// serveAPI serves a path below /api/: "queue/v1/task/…".
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, path string) {
	name, rest, _ := strings.Cut(path, "/")
	version, rest, ok := strings.Cut(rest, "/")
	svc := s.byPrefix[name+"/"+version]
	if svc == nil {
		notFound(w)
		return
	}
	corsHeaders(w.Header())
	if !ok {
		notFound(w)
		return
	}
	m, params, err := svc.lookup(r.Method, rest)
	if r.Method == http.MethodOptions {
		if allow := svc.allowed(rest); allow != "" {
			w.Header().Set("Allow", allow)
			w.WriteHeader(http.StatusOK)
			return
		}
	}
	if m == nil {
		notFound(w)
		return
	}
	start := time.Now()
	c := &Call{Context: r.Context(), Request: r, server: s, method: m, params: params}
	var span trace.Span
	if s.tracer != nil {
		c.Context, span = s.startSpan(r, m, w.Header())
	}
	status := s.serveCall(c, w, err)
	if span != nil {
		endSpan(span, status)
	}
	took := time.Since(start)
	if s.metrics != nil {
		s.metrics.Served(svc.Name, m.Name, r.Method, status, took)
	}
	s.logCall(c, w.Header(), status, took)
	if c.stream != nil {
		c.stream(w, r)
	}
}

// serveCall runs one call through its checks and answers it.
func (s *Server) serveCall(c *Call, w http.ResponseWriter, routeErr error) int {
	answer, err := s.run(c, w, routeErr)
	if err != nil {
		return s.writeError(c, w, err)
	}
	return s.writeAnswer(c, w, answer)
}

func (s *Server) run(c *Call, w http.ResponseWriter, routeErr error) (answer any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
	}()
	if routeErr != nil {
		return nil, malformedEscape(routeErr)
	}
	if err := c.readBody(w); err != nil {
		return nil, err
	}
	m := c.method
	if m.urlAuth {
		if err := c.AuthorizeStrings(func(name string) (string, bool) { return c.Param(name), true }); err != nil {
			return nil, err
		}
	}
	if err := c.checkParams(); err != nil {
		return nil, err
	}
	if err := c.checkQuery(); err != nil {
		return nil, err
	}
	if err := c.checkInput(); err != nil {
		return nil, err
	}
	answer, err = m.Handle(c)
	if err == nil && !c.authorized && !m.Scopes.IsPublic() {
		return nil, errNeverAuthorized
	}
	return answer, err
}

// lookup finds the method for a path below the service's root. Routes are tried
// in the order of declaration.
func (svc *service) lookup(verb, path string) (*method, []string, error) {
	if verb == http.MethodHead {
		verb = http.MethodGet
	}
	segments := splitPath(path)
	var values []string
	for _, m := range svc.methods {
		if m.Method.Method != verb {
			continue
		}
		if p := m.route.parts[0]; p.kind == literalPart && p.literal != segments[0] {
			continue
		}
		var ok bool
		var err error
		if values, ok, err = m.route.match(segments, values); ok {
			return m, values, err
		}
	}
	return nil, nil, nil
}

// allowed lists the HTTP methods that a path answers to.
func (svc *service) allowed(path string) string {
	var verbs []string
	segments := splitPath(path)
	for _, m := range svc.methods {
		if _, ok, _ := m.route.match(segments, nil); ok {
			verbs = append(verbs, m.Method.Method)
			if m.Method.Method == http.MethodGet {
				verbs = append(verbs, http.MethodHead)
			}
		}
	}
	return strings.Join(verbs, ",")
}

func splitPath(path string) []string {
	return strings.Split(path, "/")
}

// commonHeaders are on every response.
func (s *Server) commonHeaders(h http.Header, r *http.Request) {
	h["X-Content-Type-Options"] = nosniff
	h["Content-Security-Policy"] = contentSecurityPolicy
	trace := r.Header["X-Taskcluster-Trace-Id"]
	if len(trace) != 1 || trace[0] == "" || len(trace[0]) > 128 {
		trace = []string{newUUID()}
	}
	h["X-For-Trace-Id"] = trace
	h["X-For-Request-Id"] = []string{newUUID()}
}

// Header values that never change are shared, so that a response does not
// allocate them.
var (
	nosniff               = []string{"nosniff"}
	contentSecurityPolicy = []string{"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; report-uri /__cspreport__"}
	cacheControl          = []string{"no-store no-cache must-revalidate"}
	allowOrigin           = []string{"*"}
	maxAge                = []string{"900"}
	allowMethods          = []string{"OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT"}
	allowHeaders          = []string{"X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control"}
	textType              = []string{"text/plain; charset=utf-8"}
	jsonType              = []string{"application/json; charset=utf-8"}
)

func corsHeaders(h http.Header) {
	h["Cache-Control"] = cacheControl
	h["Access-Control-Allow-Origin"] = allowOrigin
	h["Access-Control-Max-Age"] = maxAge
	h["Access-Control-Allow-Methods"] = allowMethods
	h["Access-Control-Request-Method"] = allowOrigin
	h["Access-Control-Allow-Headers"] = allowHeaders
}

func notFound(w http.ResponseWriter) {
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(http.StatusNotFound)
	w.Write([]byte(`{"error": "Not found"}`))
}

// newUUID makes a version 4 UUID. It names requests and incidents; it is not a
// secret.
func newUUID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], b[0:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:36], b[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// logCall records one call. What went well is of interest only when debugging;
// what the server got wrong always is, unless an outage explains it.
func (s *Server) logCall(c *Call, h http.Header, status int, took time.Duration) {
	level := slog.LevelDebug
	switch {
	case status == statusClientGone || c.outage:
	case status >= 500:
		level = slog.LevelError
	case status >= 400:
		level = slog.LevelInfo
	}
	ctx := context.Background() // the caller may have gone
	if !s.log.Enabled(ctx, level) {
		return
	}
	clientID := ""
	if c.auth != nil {
		clientID = c.ClientID()
	}
	s.log.LogAttrs(ctx, level, "monitor.apiMethod",
		slog.String("service", c.method.service.Name),
		slog.String("name", c.method.Name),
		slog.String("method", c.Request.Method),
		slog.Any("params", c.paramsMap()),
		slog.Bool("public", c.method.Scopes.IsPublic()),
		slog.String("clientId", clientID),
		slog.String("sourceIp", c.SourceIP()),
		slog.String("requestId", h["X-For-Request-Id"][0]),
		slog.String("traceId", h["X-For-Trace-Id"][0]),
		slog.Int("statusCode", status),
		slog.Float64("duration", float64(took.Microseconds())/1000))
}

package events

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/schema"
	"taskcluster/internal/scopes"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m, "")) }

// patience bounds what a test waits for.
const patience = time.Minute

// callers is who calls in these tests: whoever names scopes in the URL, where
// a bewit would be, has them. Real signatures are checked where the whole
// program runs.
type callers struct {
	mu      sync.Mutex
	answers map[string]func() *api.AuthResult // by scope, instead
}

// answer replaces what is said of who names a scope; nil puts it back.
func (a *callers) answer(scope string, result func() *api.AuthResult) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[scope] = result
}

func (a *callers) Authenticate(_ context.Context, r api.AuthRequest) *api.AuthResult {
	u, _ := url.Parse(r.Resource)
	scope := u.Query().Get("bewit")
	if scope == "" {
		return &api.AuthResult{Status: api.NoAuth}
	}
	a.mu.Lock()
	answer := a.answers[scope]
	a.mu.Unlock()
	if answer != nil {
		return answer()
	}
	return &api.AuthResult{Status: api.AuthSuccess, ClientID: "caller", Issuer: "caller", Scopes: scopes.NewSet(scope)}
}

// deployment is the service over a real store, behind HTTP.
type deployment struct {
	t       testing.TB
	store   *store.Store
	log     *events.Log
	service *Service
	callers *callers
	server  *httptest.Server
}

func deploy(t testing.TB, change ...func(*Config)) *deployment {
	t.Helper()
	db := storetest.Open(t, store.Options{Migrations: []store.Migrations{events.Migrations}})
	d := &deployment{t: t, store: db, log: events.NewLog(db, events.Options{Retention: time.Nanosecond, HardCap: time.Nanosecond})}
	d.callers = &callers{answers: map[string]func() *api.AuthResult{}}
	cfg := Config{Log: d.log}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if d.service, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	schemas, err := schema.Load(d.service.API().Schemas)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := api.New(api.Options{
		RootURL: "https://tc.example.com", Schemas: schemas, Auth: d.callers, Clock: clock.Real{}, Log: slog.New(slog.DiscardHandler),
	}, d.service.API())
	if err != nil {
		t.Fatal(err)
	}
	d.server = httptest.NewUnstartedServer(handler)
	d.server.Config.ReadTimeout = 2 * time.Second // shorter than some streams
	d.server.Start()
	var loops lifecycle.Group
	d.service.Start(&loops)
	t.Cleanup(func() {
		d.service.Drain()
		d.server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := loops.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

// publish publishes messages in one transaction; each is "exchange key", and
// its payload is the text.
func (d *deployment) publish(list ...string) {
	d.t.Helper()
	err := d.store.Write(context.Background(), func(tx *store.Tx) error {
		for _, text := range list {
			exchange, key, _ := strings.Cut(text, " ")
			d.log.Publish(tx, events.Event{Exchange: exchange, Key: key, CC: []string{"route.of." + key, "other"}, Payload: fmt.Appendf(nil, "{\n\"text\": %q}", text)})
		}
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// query is the bindings parameter: exchange, pattern, exchange, pattern, ….
func query(pairs ...string) string {
	list := []map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, map[string]string{"exchange": pairs[i], "routingKeyPattern": pairs[i+1]})
	}
	text, _ := json.Marshal(map[string]any{"bindings": list})
	return "bindings=" + url.QueryEscape(string(text)) + "&bewit=" + url.QueryEscape("events:listen:*")
}

// sse is a subscriber by Server-Sent Events.
type sse struct {
	t      testing.TB
	answer *http.Response
	lines  *bufio.Reader
	lastID string
	cancel func()
}

type sseEvent struct{ kind, data, id string }

func (d *deployment) listen(query, lastID string) *sse {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", d.server.URL+"/api/events/v1/connect/?"+query, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	s := &sse{t: d.t, answer: answer, lines: bufio.NewReader(answer.Body), lastID: lastID, cancel: cancel}
	d.t.Cleanup(s.close)
	return s
}

func (s *sse) close() {
	s.cancel()
	s.answer.Body.Close()
}

// next reads an event; kind is "" at the end of the stream.
func (s *sse) next() (e sseEvent) {
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return sseEvent{}
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			e.kind = value
		case "data":
			e.data += value
		case "id":
			e.id, s.lastID = value, value
		case "":
			if e.kind != "" {
				return e
			}
		}
	}
}

// want reads an event of a kind, skipping pings.
func (s *sse) want(kind string) sseEvent {
	s.t.Helper()
	for {
		e := s.next()
		if e.kind == "ping" && kind != "ping" {
			continue
		}
		if e.kind != kind {
			s.t.Fatalf("got the event %+v, want %q", e, kind)
		}
		return e
	}
}

// text reads a message and returns its text.
func (s *sse) text() string {
	s.t.Helper()
	return textOf(s.t, []byte(s.want("message").data))
}

func textOf(t testing.TB, data []byte) string {
	t.Helper()
	var m struct {
		Payload  struct{ Text string }
		Position int64
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Position == 0 {
		t.Fatalf("%v in %s", err, data)
	}
	return m.Payload.Text
}

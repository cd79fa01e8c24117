package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/client/queue"
)

// get asks the handlers, without a socket.
func get(a *App, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", a.RootURL()+path, nil)
	r.RequestURI = path
	a.handler.ServeHTTP(w, r)
	return w
}

func scrape(t *testing.T, a *App) string {
	t.Helper()
	w := get(a, "/metrics")
	if w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	return w.Body.String()
}

func queueAs(t *testing.T, a *App) *queue.Client {
	t.Helper()
	q, err := queue.New(rootConfig(t, a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func exceptionRequest(reason string) *queue.TaskExceptionRequest {
	return &queue.TaskExceptionRequest{Reason: reason}
}

type readyAnswer struct {
	Ready  bool
	Checks []readinessLine
}

func ready(t *testing.T, a *App) (int, readyAnswer) {
	t.Helper()
	w := get(a, "/readyz")
	var got readyAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	if lines := strings.Count(w.Body.String(), "\n"); lines != len(got.Checks)+2 {
		t.Errorf("not one line per check: %s", w.Body)
	}
	return w.Code, got
}

func failing(r readyAnswer) (names []string) {
	for _, c := range r.Checks {
		if !c.OK {
			names = append(names, c.Check)
		}
	}
	return names
}

func TestHealth(t *testing.T) {
	a, err := open(t, settings(t, t.TempDir(), nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, got := ready(t, a); code != 200 || !got.Ready || len(got.Checks) != 3 || failing(got) != nil {
		t.Errorf("%d %+v", code, got)
	}
	a.draining.Store(true)
	if code, got := ready(t, a); code != 503 || got.Ready || !slices.Equal(failing(got), []string{"draining"}) {
		t.Errorf("draining: %d %+v", code, got)
	}
	if status(a, "/healthz") != 200 || status(a, "/api/queue/v1/__lbheartbeat__") != 200 {
		t.Error("a node that drains is alive")
	}
	a.draining.Store(false)
	s := a.store
	stop(t, a)
	a.store = s // closed: nothing answers
	time.Sleep(readyFor)
	if code, got := ready(t, a); code != 503 || !slices.Equal(failing(got), []string{"database", "migrations", "draining"}) {
		t.Errorf("without a database: %d %+v", code, got)
	}
	if status(a, "/healthz") != 200 {
		t.Error("a node without a database is alive")
	}
}

// TestReadinessIsBounded: a database that hangs makes nobody wait for long, and
// is asked by one at a time.
func TestReadinessIsBounded(t *testing.T) {
	asked := make(chan struct{}, 100)
	free := make(chan struct{})
	q := &remembered{check: func(context.Context) error {
		asked <- struct{}{}
		<-free
		return nil
	}}
	done := make(chan error)
	for range 8 {
		go func() { done <- q.ask(t.Context()) }()
	}
	for range 8 {
		if err := <-done; err == nil || !strings.Contains(err.Error(), "has not answered for 2s") {
			t.Error(err)
		}
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the prober has gone"))
	if err := q.ask(gone); err == nil || err.Error() != "the prober has gone" {
		t.Error(err)
	}
	if n := len(asked); n != 1 {
		t.Errorf("the database was asked %d times at once", n)
	}
	close(free)
	for q.ask(t.Context()) != nil {
	}
	if q.ask(t.Context()) != nil || len(asked) > 2 {
		t.Errorf("an answer must hold for a moment; %d questions", len(asked))
	}
}

package site

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/events"
	"taskcluster/internal/scopes"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

// anybody is an authenticator that knows what anonymous callers may do.
type anybody struct{ scopes scopes.Set }

func (a anybody) Authenticate(context.Context, api.AuthRequest) *api.AuthResult {
	return &api.AuthResult{Status: api.NoAuth, Scopes: a.scopes}
}

func recent(t *testing.T, log *events.Log, anonymous ...string) (page recentPage) {
	t.Helper()
	h := New(Config{Log: log, Auth: anybody{scopes.NewSet(anonymous...)}, Logger: slog.New(slog.DiscardHandler), Version: "1", Services: []string{"queue"}})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/recent.json", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	return page
}

func TestRecent(t *testing.T) {
	s := storetest.Open(t, store.Options{Migrations: []store.Migrations{events.Migrations}})
	log := events.NewLog(s, events.Options{})
	publish := func(exchange, payload string) {
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			log.Publish(tx, events.Event{Exchange: "exchange/taskcluster-queue/v1/" + exchange, Key: "x", Payload: []byte(payload)})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if page := recent(t, log, "*"); len(page.Tasks) != 0 || page.Hidden || page.Serves[0] != "queue" {
		t.Errorf("%+v", page)
	}
	publish("task-pending", `{"status":{"taskId":"a","taskGroupId":"open","taskQueueId":"p/w","state":"pending","runs":[{}]}}`)
	publish("task-pending", `{"status":{"taskId":"b","taskGroupId":"closed","taskQueueId":"p/w","state":"pending","runs":[{}]}}`)
	publish("task-group-resolved", `{"taskGroupId":"open"}`)
	publish("task-exception", `{"status":{"taskId":"a","taskGroupId":"open","taskQueueId":"p/w","state":"exception","runs":[{"reasonResolved":"canceled"}]}}`)
	page := recent(t, log, "queue:status:*", "queue:list-task-group:open")
	if len(page.Tasks) != 1 || page.Tasks[0].TaskID != "a" || page.Tasks[0].State != "exception" || page.Tasks[0].Reason != "canceled" || !page.Hidden {
		t.Errorf("one task may be shown, in its last state: %+v", page)
	}
	if page := recent(t, log); len(page.Tasks) != 0 || !page.Hidden {
		t.Errorf("anonymous may see nothing: %+v", page)
	}
}

// counting counts how often the log is looked through.
type counting struct {
	anybody
	looks *atomic.Int32
}

func (c counting) Authenticate(ctx context.Context, r api.AuthRequest) *api.AuthResult {
	c.looks.Add(1)
	return c.anybody.Authenticate(ctx, r)
}

// Many pages cost no more than one.
func TestRecentForMany(t *testing.T) {
	log := events.NewLog(storetest.Open(t, store.Options{Migrations: []store.Migrations{events.Migrations}}), events.Options{})
	looks := new(atomic.Int32)
	began := time.Now()
	h := New(Config{Log: log, Auth: counting{anybody{}, looks}, Logger: slog.New(slog.DiscardHandler)})
	var pages sync.WaitGroup
	for range 50 {
		pages.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/recent.json", nil))
			if w.Code != 200 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	pages.Wait()
	if n, most := looks.Load(), int32(time.Since(began)/recentFor)+1; n > most {
		t.Errorf("the log was looked through %d times, want %d", n, most)
	}
}

func TestFiles(t *testing.T) {
	h := New(Config{})
	for path, want := range map[string]int{
		"/": 200, "/page.css": 200, "/tasks/groups/x": 200, "/page.html": 200, "/nope": 404, "/../site.go": 404, "/static": 404,
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy", path)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != 404 {
		t.Errorf("POST: %d", w.Code)
	}
}

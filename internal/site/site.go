// Package site serves one small page at /: what runs here, which task groups
// and tasks changed last, and a task's log while it runs. What it shows comes
// from the public API, apart from the list of what changed last, for which it
// reads the tail of the event log. It shows only what an anonymous caller may
// see.
package site

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
)

//go:embed static
var static embed.FS

// Config is what the page needs.
type Config struct {
	Log     *events.Log
	Auth    api.Authenticator
	Logger  *slog.Logger
	Version string
	// Services are the names of the services that this process serves.
	Services []string
}

// New makes the handler.
func New(cfg Config) http.Handler {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the directory is compiled in
	}
	return &site{Config: cfg, files: files}
}

type site struct {
	Config
	files fs.FS

	mu     sync.Mutex
	latest []byte // what recent answered
	asked  time.Time
}

// A task's log may come from a worker on another machine, hence connect-src.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src http: https:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		w.Write([]byte(`{"error": "Not found"}`))
		return
	}
	switch name := strings.TrimPrefix(path.Clean(r.URL.Path), "/"); {
	case name == "recent.json":
		s.recent(w, r)
	case name == "" || strings.HasPrefix(name, "tasks/"):
		h.Set("Cache-Control", "no-cache")
		http.ServeFileFS(w, r, s.files, "page.html")
	default:
		if _, err := fs.Stat(s.files, name); err != nil || name == "." {
			h.Set("Content-Type", "application/json; charset=utf-8")
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"error": "Not found"}`))
			return
		}
		h.Set("Cache-Control", "no-cache")
		http.ServeFileFS(w, r, s.files, name)
	}
}

// tail is how many rows of the event log are looked through; each holds the
// events of one commit.
const tail = 400

// maxTasks bounds the list on the page.
const maxTasks = 100

type recentTask struct {
	TaskID      string     `json:"taskId"`
	TaskGroupID string     `json:"taskGroupId"`
	TaskQueueID string     `json:"taskQueueId"`
	State       string     `json:"state"`
	Reason      string     `json:"reason,omitempty"` // of an exception
	Changed     clock.Time `json:"changed"`
}

type recentPage struct {
	Version string       `json:"version"`
	Serves  []string     `json:"serves"` // the services of this process
	Hidden  bool         `json:"hidden"` // some tasks may not be shown to everybody
	Tasks   []recentTask `json:"tasks"`  // latest first
}

// recentFor is how long an answer is good: everybody may ask, and the log of
// a busy deployment has some megabytes to look through.
const recentFor = time.Second

// recentTimeout bounds a look through the log.
const recentTimeout = 5 * time.Second

func (s *site) recent(w http.ResponseWriter, r *http.Request) {
	body, err := s.lately(r.Context())
	if err != nil {
		s.Logger.Error("the page cannot read the event log", "error", err.Error())
		http.Error(w, `{"error": "the event log cannot be read"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body)
}

// lately looks through the log, or gives what was found just now. Who asks
// meanwhile waits for that.
func (s *site) lately(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest != nil && time.Since(s.asked) < recentFor {
		return s.latest, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recentTimeout) // others wait for it, too
	defer cancel()
	page, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	if s.latest, err = json.Marshal(page); err != nil {
		return nil, err
	}
	s.asked = time.Now()
	return s.latest, nil
}

func (s *site) read(ctx context.Context) (recentPage, error) {
	page := recentPage{Version: s.Version, Serves: s.Services, Tasks: []recentTask{}}
	anonymous := s.Auth.Authenticate(ctx, api.AuthRequest{Method: http.MethodGet, Resource: "/", Host: "localhost", Port: 80})
	head := s.Log.Head()
	var messages []events.Message
	for after := max(head-tail*events.PerRow, 0); after < head && len(messages) < 20_000; {
		some, err := s.Log.Read(ctx, after, 20_000-len(messages))
		if err != nil {
			return page, err
		}
		if len(some) == 0 {
			break
		}
		messages, after = append(messages, some...), some[len(some)-1].Position
	}
	seen := map[string]bool{}
	for i := len(messages) - 1; i >= 0 && len(page.Tasks) < maxTasks; i-- {
		m := &messages[i]
		if !strings.Contains(m.Exchange, "/task-") {
			continue
		}
		var p struct {
			Status *struct {
				TaskID, TaskGroupID, TaskQueueID, State string
				Runs                                    []struct{ ReasonResolved string }
			}
		}
		if json.Unmarshal(m.Payload, &p) != nil || p.Status == nil || seen[p.Status.TaskID] {
			continue
		}
		seen[p.Status.TaskID] = true
		if !anonymous.Scopes.Has("queue:status:"+p.Status.TaskID) || !anonymous.Scopes.Has("queue:list-task-group:"+p.Status.TaskGroupID) {
			page.Hidden = true
			continue
		}
		t := recentTask{
			TaskID: p.Status.TaskID, TaskGroupID: p.Status.TaskGroupID, TaskQueueID: p.Status.TaskQueueID,
			State: p.Status.State, Changed: m.Time,
		}
		if n := len(p.Status.Runs); t.State == "exception" && n > 0 {
			t.Reason = p.Status.Runs[n-1].ReasonResolved
		}
		page.Tasks = append(page.Tasks, t)
	}
	return page, nil
}

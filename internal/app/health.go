package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"taskcluster/internal/store"
)

const (
	// readyTimeout bounds a question to the database: one that answers later is
	// as good as away.
	readyTimeout = 2 * time.Second
	// readyFor is how long its answer is good, however often somebody asks.
	readyFor = time.Second
)

// health answers whether the process lives (/healthz) and whether it should be
// sent requests (/readyz). The first looks at nothing else, so that nobody
// restarts a process because its database is away.
type health struct {
	checks []readiness
}

// readiness is one reason to send requests elsewhere. Its error is for everybody
// to read.
type readiness struct {
	name  string
	check func(ctx context.Context) error
}

// newHealth makes the checks of this node.
func (a *App) newHealth() *health {
	database := &remembered{check: func(ctx context.Context) error {
		missing, err := a.store.Missing(ctx, migrations())
		switch {
		case errors.Is(err, store.ErrNewerSchema):
			return nil // a newer node has migrated: this one goes on beside it
		case err != nil:
			a.log.Warn("this node is not ready: the database does not answer", "error", err.Error())
			return errors.New("it does not answer")
		case len(missing) > 0:
			return fmt.Errorf("%w: %d", errMigrations, len(missing))
		}
		return nil
	}}
	return &health{[]readiness{
		{"database", func(ctx context.Context) error {
			if err := database.ask(ctx); !errors.Is(err, errMigrations) {
				return err
			}
			return nil
		}},
		{"migrations", func(ctx context.Context) error {
			err := database.ask(ctx)
			if err != nil && !errors.Is(err, errMigrations) {
				return errors.New("not known without the database")
			}
			return err
		}},
		{"draining", func(context.Context) error {
			if a.draining.Load() {
				return errors.New("this node is stopping")
			}
			return nil
		}},
	}}
}

var errMigrations = errors.New("steps of the database's tables are missing; start this node again, or run taskcluster admin migrate")

// readinessLine is one line of the answer.
type readinessLine struct {
	Check   string `json:"check"`
	OK      bool   `json:"ok"`
	Message string `json:"message,omitempty"`
}

// ServeHTTP implements http.Handler.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path == "/healthz" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "alive")
		return
	}
	var lines [][]byte
	ready := true
	for _, c := range h.checks {
		line := readinessLine{Check: c.name, OK: true}
		if err := c.check(r.Context()); err != nil {
			ready, line.OK, line.Message = false, false, err.Error()
		}
		text, _ := json.Marshal(line) // three plain fields
		lines = append(lines, text)
	}
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"ready\":%t,\"checks\":[\n%s\n]}\n", ready, bytes.Join(lines, []byte(",\n")))
}

// remembered asks a question that may take long: its answer holds for a moment,
// those who ask meanwhile share it, and nobody waits longer than readyTimeout.
type remembered struct {
	check func(ctx context.Context) error

	mu      sync.Mutex
	asking  chan struct{} // closed when the answer is there; nil when nobody asks
	answer  error
	answers time.Time
}

func (q *remembered) ask(ctx context.Context) error {
	q.mu.Lock()
	if q.asking == nil && time.Since(q.answers) < readyFor {
		defer q.mu.Unlock()
		return q.answer
	}
	if q.asking == nil {
		q.asking = make(chan struct{})
		go q.find()
	}
	asking := q.asking
	q.mu.Unlock()
	late := time.NewTimer(readyTimeout)
	defer late.Stop()
	select {
	case <-asking:
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.answer
	case <-late.C:
		return fmt.Errorf("it has not answered for %s", readyTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (q *remembered) find() {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	err := q.check(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answer, q.answers = err, time.Now()
	close(q.asking)
	q.asking = nil
}

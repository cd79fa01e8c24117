package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	"taskcluster/internal/config"
	"taskcluster/internal/events"
	"taskcluster/internal/store"
)

// DeadLetter is an event that a consumer has given up, as an operator sees it.
type DeadLetter struct {
	ID         int64           `json:"id"`
	Consumer   string          `json:"consumer"`
	Exchange   string          `json:"exchange"`
	RoutingKey string          `json:"routingKey"`
	Position   int64           `json:"position"`
	Published  string          `json:"published"`
	Died       string          `json:"died"`
	Attempts   int             `json:"attempts"`
	Error      string          `json:"error"`
	Replay     bool            `json:"replay"` // it was given back and waits for its consumer
	Payload    json.RawMessage `json:"payload,omitempty"`
}

// DeadLetters is how an operator reaches the dead letters of a deployment,
// running or not. There is no letter: events.ErrNoDeadLetter.
type DeadLetters interface {
	// List lists up to limit letters whose ID is greater than after, without payloads.
	List(ctx context.Context, after int64, limit int) ([]DeadLetter, error)
	// Show is one letter with its payload.
	Show(ctx context.Context, id int64) (DeadLetter, error)
	// Replay gives a letter back to its consumer.
	Replay(ctx context.Context, id int64) error
	// Discard removes a letter.
	Discard(ctx context.Context, id int64) error
	Close() error
}

// OpenDeadLetters opens the dead letters. PostgreSQL is asked directly; so is
// SQLite's file while no server has it, and otherwise the server is asked.
func OpenDeadLetters(ctx context.Context, settings config.Settings, log *slog.Logger) (DeadLetters, error) {
	missing, err := MissingMigrations(ctx, settings)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("the database is not as this program needs it: %d steps are missing; check the settings, and start the server or run \"taskcluster admin migrate\"", len(missing))
	}
	a := idle(settings, log)
	_, err = a.openDatabase(ctx)
	if errors.Is(err, store.ErrLocked) {
		return newAdminClient(*settings.DataDir), nil
	}
	if err != nil {
		return nil, err
	}
	return &letters{log: events.NewLog(a.store, events.Options{Log: log}), close: a.close}, nil
}

// letters are the dead letters of a log in this process.
type letters struct {
	log   *events.Log
	close func() error
}

func (l *letters) List(ctx context.Context, after int64, limit int) ([]DeadLetter, error) {
	found, err := l.log.DeadLetters(ctx, after, limit)
	list := make([]DeadLetter, len(found))
	for i := range found {
		list[i] = describe(&found[i])
		list[i].Payload = nil
	}
	return list, err
}

func (l *letters) Show(ctx context.Context, id int64) (DeadLetter, error) {
	found, err := l.log.DeadLetters(ctx, id-1, 1)
	if err == nil && (len(found) == 0 || found[0].ID != id) {
		err = events.ErrNoDeadLetter
	}
	if err != nil {
		return DeadLetter{}, err
	}
	return describe(&found[0]), nil
}

func (l *letters) Replay(ctx context.Context, id int64) error  { return l.log.Replay(ctx, id) }
func (l *letters) Discard(ctx context.Context, id int64) error { return l.log.Discard(ctx, id) }
func (l *letters) Close() error                                { return l.close() }

func describe(d *events.DeadLetter) DeadLetter {
	out := DeadLetter{
		ID: d.ID, Consumer: d.Consumer, Exchange: d.Message.Exchange, RoutingKey: d.Message.Key,
		Position: int64(d.Message.Position), Published: d.Message.Time.String(), Died: d.Died.String(),
		Attempts: d.Attempts, Error: d.Error, Replay: d.Replay, Payload: d.Message.Payload,
	}
	if !json.Valid(out.Payload) { // what we publish is; foreign exchanges are free
		out.Payload, _ = json.Marshal(string(d.Message.Payload))
	}
	return out
}

// handler serves the letters to an adminClient.
func (l *letters) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request, id int64) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var id int64
			if text := r.PathValue("id"); text != "" {
				if _, err := fmt.Sscan(text, &id); err != nil {
					http.Error(w, "an id is a number", http.StatusBadRequest)
					return
				}
			}
			answer, err := do(r, id)
			switch {
			case errors.Is(err, events.ErrNoDeadLetter):
				http.Error(w, err.Error(), http.StatusNotFound)
			case err != nil:
				http.Error(w, err.Error(), http.StatusInternalServerError)
			default:
				json.NewEncoder(w).Encode(answer)
			}
		})
	}
	handle("GET /dead-letters", func(r *http.Request, _ int64) (any, error) {
		var after int64
		var limit int
		if _, err := fmt.Sscan(r.FormValue("after")+" "+r.FormValue("limit"), &after, &limit); err != nil {
			return nil, err
		}
		return l.List(r.Context(), after, limit)
	})
	handle("GET /dead-letters/{id}", func(r *http.Request, id int64) (any, error) { return l.Show(r.Context(), id) })
	handle("POST /dead-letters/{id}/replay", func(r *http.Request, id int64) (any, error) { return nil, l.Replay(r.Context(), id) })
	handle("DELETE /dead-letters/{id}", func(r *http.Request, id int64) (any, error) { return nil, l.Discard(r.Context(), id) })
	return mux
}

// adminSocket is the socket in the data directory by which commands reach the
// server that has the database. Who may open it may read the keys beside it.
func adminSocket(dir string) string { return filepath.Join(dir, "admin.sock") }

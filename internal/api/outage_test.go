package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"taskcluster/internal/schema"
	"taskcluster/internal/store"
	"taskcluster/internal/testenv"
)

// TestOutage: while the database is away, thousands of calls fail. That is one
// incident and two lines of the log, and all else is still logged by itself.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := testService()
		causes := map[string]error{
			"/away":    fmt.Errorf("reading: %w (server: connection refused)", store.ErrUnavailable),
			"/unknown": store.ErrOutcomeUnknown, "/full": store.ErrDiskFull, "/conflict": store.ErrConflict,
		}
		for route, err := range causes {
			svc.Methods = append(svc.Methods, Method{Name: route[1:], Method: http.MethodGet, Route: route, Title: route, Description: route,
				Category: "Test", Stability: Stable, Handle: func(*Call) (any, error) { return nil, err }})
		}
		s, _ := newTestServer(t)
		set, err := schema.Load(svc.Schemas)
		if err != nil {
			t.Fatal(err)
		}
		log := new(testenv.Buffer)
		s, err = New(Options{RootURL: s.rootURL, Schemas: set, Auth: s.auth, Clock: s.clock, Log: slog.New(slog.NewTextHandler(log, nil))}, svc)
		if err != nil {
			t.Fatal(err)
		}
		incidents := func(path string, n int) map[string]int {
			ids := map[string]int{}
			var mu sync.Mutex
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					r := call(s, "GET", path, "")
					message, _ := r.json(t)["message"].(string)
					id, _, _ := strings.Cut(strings.TrimPrefix(message, "Internal Server Error, incidentId "), ".")
					if r.status != 500 || len(id) != 36 {
						t.Errorf("%s: %d %s", path, r.status, r.body)
					}
					mu.Lock()
					defer mu.Unlock()
					ids[id]++
				})
			}
			all.Wait()
			return ids
		}
		lines := func(with ...string) (n int) {
			for line := range strings.Lines(log.String()) {
				found := true
				for _, w := range with {
					found = found && strings.Contains(line, w)
				}
				if found {
					n++
				}
			}
			return n
		}

		// Some seconds lie between the refusals, as when a server starts again.
		var id string
		for id = range incidents("/away", 500) {
		}
		time.Sleep(outageQuiet - time.Second)
		if got := incidents("/unknown", 400); got[id] != 400 {
			t.Errorf("the incidents of one outage: first %s, then %v", id, got)
		}
		if lines("msg=incident ", id, "database is away", "connection refused") != 1 || lines() != 1 {
			t.Errorf("while the database is away:\n%s", log)
		}
		// Another outage and other errors are told meanwhile.
		if got := incidents("/full", 20); len(got) != 1 || got[id] != 0 {
			t.Errorf("a full disk: %v", got)
		}
		if got := incidents("/conflict", 3); len(got) != 3 || lines("msg=incident ", "name=conflict") != 3 || lines("msg=monitor.apiMethod", "name=conflict") != 3 {
			t.Errorf("other errors: %v\n%s", got, log)
		}
		time.Sleep(outageQuiet)
		synctest.Wait()
		if lines("is over", id, "refused=900", "seconds=9") != 1 || lines("is over", "disk is full", "refused=20") != 1 || lines() != 1+1+6+2 {
			t.Errorf("after it:\n%s", log)
		}
		// The next one is another.
		if got := incidents("/away", 2); len(got) != 1 || got[id] != 0 || lines("msg=incident ", "database is away") != 2 {
			t.Errorf("the next outage: %v\n%s", got, log)
		}
		time.Sleep(2 * outageQuiet)
		synctest.Wait()
		if len(s.outages.open) != 0 {
			t.Errorf("%d outages are kept", len(s.outages.open))
		}
	})
}

// What a call is refused for is told from what else may go wrong.
func TestOutageOf(t *testing.T) {
	for _, err := range []error{store.ErrDamaged, store.ErrAltered, store.ErrConflict, store.ErrIO, store.ErrClosed, store.ErrNoRows, errors.New("x"), nil} {
		if what, ok := outageOf(err); ok {
			t.Errorf("%v: %s", err, what)
		}
	}
}

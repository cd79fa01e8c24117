// Package crash kills the server under load, again and again, and looks for
// anything that it had promised and lost.
package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/events"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
	"taskcluster/test/harness"
)

var trials = flag.Int("trials", 50, "how often the server is killed")

const taskQueue = "crash/test"

// ledger is what the server has acknowledged.
type ledger struct {
	mu        sync.Mutex
	created   map[string]bool
	claimed   map[string]string // "taskId/runId" -> worker
	completed map[string]bool   // "taskId/runId"
}

func (l *ledger) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// TestKilledUnderLoad: a process that is killed with SIGKILL while clients
// create, claim and resolve loses no acknowledged call, lets no task run twice
// at once, and publishes an event for every change.
func TestKilledUnderLoad(t *testing.T) {
	binary := harness.Binary(t)
	dir := t.TempDir()
	l := &ledger{created: map[string]bool{}, claimed: map[string]string{}, completed: map[string]bool{}}
	for trial := range *trials {
		server := harness.Start(t, binary, dir, "--log-level", "error")
		if trial > 0 {
			verifyStatuses(t, server, l)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() { create(ctx, t, server, l) })
			wg.Go(func() { work(ctx, t, server, l, fmt.Sprintf("w%d-%d", trial, n)) })
		}
		// Kill at a moment that differs from trial to trial.
		time.Sleep(time.Duration(100+37*trial%300) * time.Millisecond)
		server.Kill()
		cancel()
		wg.Wait()
		if t.Failed() {
			t.Fatalf("trial %d\n%s", trial, server.Log())
		}
	}
	server := harness.Start(t, binary, dir, "--log-level", "error")
	verifyStatuses(t, server, l)
	server.Stop()
	verifyEvents(t, dir, l)
	t.Logf("%d kills: %d tasks created, %d claims and %d completions acknowledged, none lost", *trials, len(l.created), len(l.claimed), len(l.completed))
}

func connect(t *testing.T, s *harness.Server, c client.Credentials) *queue.Client {
	t.Helper()
	q, err := queue.New(client.Config{RootURL: s.RootURL, Credentials: c, Retries: -1})
	if err != nil {
		t.Error(err)
	}
	return q
}

func root(s *harness.Server) client.Credentials {
	return client.Credentials{ClientID: s.ClientID, AccessToken: s.AccessToken}
}

// refusal reports an answer that is not merely the connection breaking.
func refusal(t *testing.T, ctx context.Context, what string, err error) {
	if code := client.StatusCode(err); code != 0 && ctx.Err() == nil {
		t.Errorf("%s: %v", what, err)
	}
}

func create(ctx context.Context, t *testing.T, s *harness.Server, l *ledger) {
	q := connect(t, s, root(s))
	defer q.Close()
	for ctx.Err() == nil {
		id := slugid.New().String()
		now := time.Now()
		_, err := q.CreateTask(ctx, id, &queue.CreateTaskRequest{
			TaskQueueID: taskQueue, Created: client.At(now), Deadline: client.At(now.Add(time.Hour)), Payload: json.RawMessage(`{"x":1}`),
			Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com/"},
		})
		if err != nil {
			refusal(t, ctx, "createTask", err)
			return
		}
		l.note(func() { l.created[id] = true })
	}
}

func work(ctx context.Context, t *testing.T, s *harness.Server, l *ledger, worker string) {
	q := connect(t, s, root(s))
	defer q.Close()
	for ctx.Err() == nil {
		got, err := q.ClaimWork(ctx, taskQueue, &queue.ClaimWorkRequest{WorkerGroup: "crash", WorkerID: worker, Tasks: 4})
		if err != nil {
			refusal(t, ctx, "claimWork", err)
			return
		}
		for _, c := range got.Tasks {
			key := c.Status.TaskID + "/" + strconv.Itoa(c.RunID)
			l.note(func() {
				if other, ok := l.claimed[key]; ok {
					t.Errorf("%s was given to %s and to %s", key, other, worker)
				}
				l.claimed[key] = worker
			})
		}
		for i, c := range got.Tasks {
			if i == 3 {
				continue // some stay claimed
			}
			mine := connect(t, s, client.Credentials{ClientID: c.Credentials.ClientID, AccessToken: c.Credentials.AccessToken, Certificate: c.Credentials.Certificate})
			_, err := mine.ReportCompleted(ctx, c.Status.TaskID, strconv.Itoa(c.RunID))
			mine.Close()
			if err != nil {
				refusal(t, ctx, "reportCompleted", err)
				return
			}
			l.note(func() { l.completed[c.Status.TaskID+"/"+strconv.Itoa(c.RunID)] = true })
		}
	}
}

// verifyStatuses asks the restarted server for everything in the ledger.
func verifyStatuses(t *testing.T, s *harness.Server, l *ledger) {
	t.Helper()
	q := connect(t, s, root(s))
	defer q.Close()
	var ids []string
	for id := range l.created {
		ids = append(ids, id)
	}
	found := map[string]queue.TaskStatus{}
	for len(ids) > 0 {
		n := min(len(ids), 500)
		got, err := q.Statuses(t.Context(), &queue.TasksRequest{TaskIDs: ids[:n]}, queue.StatusesQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got.Statuses {
			found[e.TaskID] = e.Status
		}
		ids = ids[n:]
	}
	for id := range l.created {
		if _, ok := found[id]; !ok {
			t.Errorf("task %s was acknowledged and is gone", id)
		}
	}
	for key, worker := range l.claimed {
		id, run, _ := strings.Cut(key, "/")
		n, _ := strconv.Atoi(run)
		st, ok := found[id]
		if !ok {
			continue // created by a call whose answer was lost
		}
		switch {
		case n >= len(st.Runs):
			t.Errorf("run %s was claimed and is gone", key)
		case st.Runs[n].WorkerID != worker:
			t.Errorf("run %s belongs to %q, was given to %q", key, st.Runs[n].WorkerID, worker)
		case l.completed[key] && st.Runs[n].State != "completed":
			t.Errorf("run %s was completed and is %s", key, st.Runs[n].State)
		}
	}
	checkCounts(t, s, found)
}

// checkCounts compares the queue's counters with what the tasks say; tasks
// whose creation was never acknowledged may add to them, never subtract.
func checkCounts(t *testing.T, s *harness.Server, found map[string]queue.TaskStatus) {
	t.Helper()
	resp, err := http.Get(s.RootURL + "/api/queue/v1/task-queues/" + taskQueue + "/counts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var counts struct{ PendingTasks, ClaimedTasks int }
	body, _ := io.ReadAll(resp.Body)
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&counts); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	pending := 0
	for _, st := range found {
		if st.State == "pending" {
			pending++
		}
	}
	if counts.PendingTasks < pending {
		t.Errorf("%d tasks are pending, the counter says %d", pending, counts.PendingTasks)
	}
}

// verifyEvents reads the event log and follows every task through it.
func verifyEvents(t *testing.T, dir string, l *ledger) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "taskcluster.db"), store.Options{Migrations: []store.Migrations{events.Migrations}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	log := events.NewLog(s, events.Options{})
	type history struct{ defined, pending, running, completed int }
	seen := map[string]*history{}
	busy := map[string]bool{} // a run of this task is running
	for at := events.Position(0); ; {
		messages, err := log.Read(t.Context(), at, 5000)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) == 0 {
			break
		}
		for _, m := range messages {
			if m.Position <= at {
				t.Fatalf("position %d after %d", m.Position, at)
			}
			at = m.Position
			kind, ok := strings.CutPrefix(m.Exchange, "exchange/taskcluster-queue/v1/task-")
			if !ok || strings.HasPrefix(kind, "group-") {
				continue
			}
			var p struct{ Status struct{ TaskID string } }
			if err := json.Unmarshal(m.Payload, &p); err != nil {
				t.Fatal(err)
			}
			h := seen[p.Status.TaskID]
			if h == nil {
				h = &history{}
				seen[p.Status.TaskID] = h
			}
			switch kind {
			case "defined":
				h.defined++
			case "pending":
				h.pending++
			case "running":
				if busy[p.Status.TaskID] {
					t.Errorf("task %s ran twice at once", p.Status.TaskID)
				}
				busy[p.Status.TaskID] = true
				h.running++
			case "completed", "failed", "exception":
				delete(busy, p.Status.TaskID)
				h.completed++
			}
		}
	}
	none := &history{}
	of := func(id string) *history {
		if h := seen[id]; h != nil {
			return h
		}
		return none
	}
	for id := range l.created {
		if h := of(id); h.defined != 1 || h.pending != 1 {
			t.Errorf("task %s: %+v", id, *h)
		}
	}
	for key := range maps.Keys(l.claimed) {
		id, _, _ := strings.Cut(key, "/")
		if h := of(id); h.running != 1 || l.completed[key] && h.completed != 1 {
			t.Errorf("run %s: %+v", key, *h)
		}
	}
}

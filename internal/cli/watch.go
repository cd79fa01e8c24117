package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/cli/graph"
)

// watch follows the tasks of a graph until nothing more will happen.
type watch struct {
	session *session
	queue   *queue.Client
	group   string
	tasks   []*watched // in the order of the files
	byID    map[string]*watched
	sorted  []*watched // each behind those that it needs
	begun   time.Time
	display display
	json    bool
	stream  bool // JSON lines

	logs     *logReader // nil without --follow
	logSlots chan struct{}
	fullLog  bool           // with the worker's own lines
	pending  sync.WaitGroup // announcements that wait for their turn
}

// watched is one task.
type watched struct {
	*graph.Task
	status    *queue.TaskStatus // nil before the first poll
	blockedBy *watched          // it will not start, because of this one
	followed  int               // runs whose log is followed, or was
	logs      sync.WaitGroup
	output    *output // of the run outputOf, the latest that is followed
	outputOf  int
	shown     <-chan struct{} // closed when the latest state has been shown; nil: it has
}

// over reports whether nothing more will happen to the task.
func (t *watched) over() bool {
	return t.status != nil && (t.blockedBy != nil || resolved(t.status.State))
}

// state is the task's state for people: a blocked one says so.
func (t *watched) state() string {
	switch {
	case t.status == nil:
		return "unscheduled"
	case t.blockedBy != nil:
		return "blocked"
	}
	return t.status.State
}

// Pauses between polls: short after a change, longer while nothing happens.
const (
	shortestPause = 200 * time.Millisecond
	longestPause  = 2 * time.Second
)

const (
	pollSize     = 1000 // tasks that one call asks for, as many as the API allows
	pollFailures = 10   // polls in a row that may fail, each tried several times
	logsAtOnce   = 32   // logs that are read at the same time
)

func newWatch(s *session, c *runCommand, q *queue.Client, g *graph.Graph) *watch {
	w := &watch{
		session: s, queue: q, group: g.GroupID, begun: s.now(), json: c.JSON, stream: c.JSON && c.Follow,
		byID: make(map[string]*watched, len(g.Tasks)),
	}
	for _, t := range g.Tasks {
		task := &watched{Task: t}
		w.tasks = append(w.tasks, task)
		w.byID[t.ID] = task
	}
	for _, level := range g.Levels() {
		for _, t := range level {
			w.sorted = append(w.sorted, w.byID[t.ID])
		}
	}
	if c.Follow {
		w.fullLog = c.FullLog
		w.logs = &logReader{queue: q, http: newArtifactClient(), sleep: s.sleep}
		w.logSlots = make(chan struct{}, logsAtOnce)
	}
	w.display = newDisplay(s, c.JSON, c.Follow, w.tasks)
	return w
}

// run polls until all tasks are resolved or blocked. A limit of 0 is none.
func (w *watch) run(ctx context.Context, limit time.Duration) error {
	defer w.display.close()
	ctx, cancel := context.WithCancel(ctx)
	defer func() { // let logs end on their own, unless the watch is given up
		w.pending.Wait()
		cancel()
	}()
	pause, failures := shortestPause, 0
	for {
		changed, err := w.poll(ctx)
		switch {
		case ctx.Err() != nil:
			cancel()
			return ctx.Err()
		case err != nil && refused(err), err != nil && failures == pollFailures:
			cancel()
			return err
		case err != nil:
			if failures++; failures == 1 {
				fmt.Fprintf(w.session.stderr, "%v\nTrying again.\n", err)
				w.display.moved()
			}
		default:
			failures = 0
			w.advance(ctx, changed)
		}
		w.display.draw(w.session.now())
		if err == nil && w.over() {
			return nil
		}
		pause = min(pause*3/2, longestPause)
		if len(changed) > 0 {
			pause = shortestPause
		}
		if limit > 0 {
			left := limit - w.session.now().Sub(w.begun)
			if left <= 0 {
				cancel()
				return errTimeout
			}
			pause = min(pause, left)
		}
		if err := w.session.sleep(ctx, pause); err != nil {
			cancel()
			return err
		}
	}
}

// refused reports whether an error is an answer that will not change.
func refused(err error) bool {
	status := client.StatusCode(err)
	return status/100 == 4 && status != http.StatusTooManyRequests || errors.Is(err, errUnexpected)
}

// poll asks for the state of all tasks that are not resolved, and returns those
// that have changed. It asks for those that need others first, so that of two
// answers the one about what is needed is never the older. If it fails, nothing
// has changed.
func (w *watch) poll(ctx context.Context) (changed map[*watched]bool, err error) {
	var ids []string
	for _, t := range slices.Backward(w.sorted) {
		if t.status == nil || !resolved(t.status.State) {
			ids = append(ids, t.ID)
		}
	}
	fresh := make(map[string]*queue.TaskStatus, len(ids))
	for part := range slices.Chunk(ids, pollSize) {
		for page, err := range w.queue.StatusesPages(ctx, &queue.TasksRequest{TaskIDs: part}, queue.StatusesQuery{}) {
			if err != nil {
				return nil, err
			}
			for i := range page.Statuses {
				status := &page.Statuses[i].Status
				t := w.byID[status.TaskID]
				if t == nil || checkStatus(t.ID, status) != nil {
					return nil, errUnexpected
				}
				fresh[t.ID] = status
			}
		}
	}
	changed = map[*watched]bool{}
	for _, id := range ids {
		t, status := w.byID[id], fresh[id]
		if status == nil {
			return nil, errUnexpected
		}
		if t.status == nil || t.status.State != status.State || len(t.status.Runs) != len(status.Runs) {
			changed[t] = true
		}
	}
	for id, status := range fresh {
		w.byID[id].status = status
	}
	return changed, nil
}

// advance finds what is blocked now, begins to follow logs and shows the change.
func (w *watch) advance(ctx context.Context, changed map[*watched]bool) {
	for _, t := range w.sorted {
		if t.status == nil || t.blockedBy != nil || t.status.State != "unscheduled" {
			continue
		}
		for _, n := range t.Needs {
			need := w.byID[n.ID]
			failed := need.status != nil && (need.status.State == "failed" || need.status.State == "exception")
			if need.blockedBy != nil || failed && t.Definition.Requires != "all-resolved" {
				t.blockedBy = need
				changed[t] = true
				break
			}
		}
	}
	for _, t := range w.sorted {
		switch {
		case !changed[t]:
		case resolved(t.status.State):
			w.follow(ctx, t)
			w.announce(t) // behind the log
		default:
			w.announce(t)
			w.follow(ctx, t)
		}
	}
}

// over reports whether nothing more will happen.
func (w *watch) over() bool {
	for _, t := range w.tasks {
		if !t.over() {
			return false
		}
	}
	return true
}

// outcome is what --json prints of a task in the end.
type outcome struct {
	Name      string `json:"name"`
	TaskID    string `json:"taskId"`
	State     string `json:"state"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"` // with --follow: what the log says about a failure
	Runs      int    `json:"runs"`
	BlockedBy string `json:"blockedBy,omitempty"` // name of the task because of which it did not start
}

// summary is what --json prints in the end.
type summary struct {
	Type        string    `json:"type,omitempty"` // "result" among JSON lines
	RootURL     string    `json:"rootUrl"`
	TaskGroupID string    `json:"taskGroupId"`
	Completed   bool      `json:"completed"` // all tasks
	Tasks       []outcome `json:"tasks"`
}

// report prints the outcome, and returns whether all tasks completed.
func (w *watch) report(rootURL string) bool {
	sum := summary{RootURL: rootURL, TaskGroupID: w.group, Completed: true}
	var bad []*watched
	for _, t := range w.tasks {
		o := outcome{Name: t.Name, TaskID: t.ID, State: t.status.State, Message: t.why(), Runs: len(t.status.Runs)}
		if run := latest(t.status); run != nil {
			o.Reason = run.ReasonResolved
		}
		if t.blockedBy != nil {
			o.BlockedBy = t.blockedBy.Name
		}
		sum.Tasks = append(sum.Tasks, o)
		if t.status.State != "completed" {
			sum.Completed = false
			bad = append(bad, t)
		}
	}
	s := w.session
	switch {
	case w.stream:
		sum.Type = "result"
		writeJSON(s.stdout, sum, "")
	case w.json:
		s.printJSON(sum)
	case sum.Completed:
		fmt.Fprintf(s.stdout, "%s completed in %s.\n", count(len(w.tasks), "task"), short(s.now().Sub(w.begun)))
	default:
		fmt.Fprintf(s.stdout, "%d of %s did not complete:\n", len(bad), count(len(w.tasks), "task"))
		var rows [][]string
		for _, t := range bad {
			if t.blockedBy != nil {
				rows = append(rows, []string{"  " + t.Name, "not started", "waits for " + t.blockedBy.Name + ": rerun that, or cancel the group"})
			} else {
				state := stateText(t.status)
				if why := t.why(); why != "" {
					state += ": " + why
				}
				rows = append(rows, []string{"  " + t.Name, state, "taskcluster task log " + t.ID})
			}
		}
		table(s.stdout, rows)
	}
	return sum.Completed
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
)

var priorities = []string{"lowest", "very-low", "low", "medium", "high", "very-high", "highest"}

// definition makes a task. Some have a deadline that comes soon.
func (l *Ledger) definition(group string, dependencies []string) *queue.CreateTaskRequest {
	now := l.clocks.now()
	deadline, retries := now.Add(time.Hour), rand.IntN(4)
	if rand.IntN(20) == 0 {
		deadline = now.Add(time.Duration(2+rand.IntN(4)) * time.Second)
	}
	return &queue.CreateTaskRequest{
		TaskQueueID: TaskQueue, TaskGroupID: group, Dependencies: dependencies, Retries: &retries,
		Priority: priorities[rand.IntN(len(priorities))],
		Created:  client.At(now), Deadline: client.At(deadline), Payload: json.RawMessage(`{"x":1}`),
		Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com/"},
		Routes:   []string{"crash.test"},
	}
}

// create makes tasks, one or several at a time, some of them behind others.
func (l *Load) create() {
	for l.ctx.Err() == nil {
		if l.ledger.open() > maxOpen {
			l.pause()
			continue
		}
		if rand.IntN(6) == 0 {
			l.createMany(false)
			continue
		}
		id := slugid.New().String()
		var dependencies []string
		if recent := l.ledger.floored(50); len(recent) > 0 && rand.IntN(4) == 0 {
			dependencies = []string{recent[rand.IntN(len(recent))]}
		}
		since := l.ledger.clocks.moment()
		def := l.ledger.definition("", dependencies)
		l.ledger.define(id, dependencies, *def.Retries, def.Priority)
		// A dependency that was acknowledged is there, and lives longer than
		// this task; past the deadline a repetition is refused.
		l.callSince(since, "createTask", late(def), func(ctx context.Context, n *node, _ bool) error {
			l.ledger.sending(id)
			got, err := n.queue(n.Credentials).CreateTask(ctx, id, def)
			if err == nil {
				l.ledger.with(func() { l.ledger.counts.Tasks++; l.ledger.acknowledge(&got.Status) })
			}
			return err
		})
	}
}

// late is how a creation may be refused: a deadline that has passed is
// malformed.
func late(def *queue.CreateTaskRequest) []int {
	if def.Deadline.Sub(def.Created.Time) < time.Minute {
		return []int{400}
	}
	return nil
}

// createMany makes a group of tasks by one call: a first one, some behind it,
// and a last one behind those. own tells that meddlers leave them alone. created
// are those that were acknowledged.
func (l *Load) createMany(own bool) (group string, created []string) {
	group = slugid.New().String()
	in := &queue.CreateTasksRequest{}
	var ids []string
	soon, since := false, l.ledger.clocks.moment()
	for i := range 8 {
		id := slugid.New().String()
		var dependencies []string
		switch i {
		case 0:
		case 7:
			dependencies = slices.Clone(ids[1:])
		default:
			dependencies = ids[:1]
		}
		def := l.ledger.definition(group, dependencies)
		soon = soon || late(def) != nil
		text, err := json.Marshal(def)
		if err != nil {
			panic(err)
		}
		ids = append(ids, id)
		in.Tasks = append(in.Tasks, queue.CreateTasksRequestTask{TaskID: id, Task: text})
		l.ledger.define(id, dependencies, *def.Retries, def.Priority)
		if own {
			l.ledger.with(func() { l.ledger.tasks[id].group = group })
		}
	}
	l.callSince(since, "createTasks", nil, func(ctx context.Context, n *node, _ bool) error {
		for _, id := range ids {
			l.ledger.sending(id)
		}
		got, err := n.queue(n.Credentials).CreateTasks(ctx, in)
		if err != nil {
			return err
		}
		l.ledger.with(func() {
			for _, e := range got.Tasks {
				if e.Status != nil {
					l.ledger.counts.Tasks++
					l.ledger.acknowledge(e.Status)
					created = append(created, e.TaskID)
				} else if !soon && l.ledger.clocks.steady(since) {
					l.ledger.broken("createTasks refused %s: %+v", e.TaskID, e.Error)
				}
			}
		})
		return nil
	})
	return group, created
}

// floored returns some of the latest tasks that were acknowledged and live long.
func (l *Ledger) floored(n int) (ids []string) {
	l.with(func() {
		for i := len(l.order) - 1; i >= 0 && len(ids) < n && i >= len(l.order)-4*n; i-- {
			if t := l.tasks[l.order[i]]; t.floor != nil && t.group == "" && t.floor.Deadline.Sub(l.clocks.now()) > time.Minute {
				ids = append(ids, l.order[i])
			}
		}
	})
	return ids
}

// work claims runs and does with them what workers do.
func (l *Load) work(name string, i int) {
	for round := 0; l.ctx.Err() == nil; round++ {
		n := l.pick()
		if n == nil {
			return
		}
		// Each claim has a worker's name of its own, so that an answer that was
		// lost is not mistaken for the next one.
		worker := fmt.Sprintf("%s-%d-%d", name, i, round)
		since := l.ledger.clocks.moment()
		got, err := n.queue(n.Credentials).ClaimWork(l.ctx, TaskQueue, &queue.ClaimWorkRequest{WorkerGroup: "crash", WorkerID: worker, Tasks: 1 + rand.IntN(4)})
		if l.outcomeOf("claimWork", since, err) != done {
			l.pause()
			continue
		}
		l.ledger.with(func() {
			for i := range got.Tasks {
				l.ledger.claimed(&got.Tasks[i], worker)
			}
		})
		for i := range got.Tasks {
			l.run(&got.Tasks[i])
		}
	}
}

// named begins the names of workers who claim runs by name. A claim that they
// repeat is told of again.
const named = "named-"

// claimNamed claims runs that are known to be pending, by claimTask.
func (l *Load) claimNamed(name string) {
	for round := 0; l.ctx.Err() == nil; round++ {
		l.pause()
		id, run := l.ledger.pending()
		if id == "" {
			continue
		}
		worker := fmt.Sprintf("%s%s-%d", named, name, round)
		var c *queue.ClaimWorkResponseTask
		l.call("claimTask", []int{409}, func(ctx context.Context, n *node, _ bool) error {
			l.ledger.sending(id)
			got, err := n.queue(n.Credentials).ClaimTask(ctx, id, strconv.Itoa(run), &queue.TaskClaimRequest{WorkerGroup: "crash", WorkerID: worker})
			if err == nil {
				c = &queue.ClaimWorkResponseTask{Credentials: got.Credentials, RunID: got.RunID, Status: got.Status, TakenUntil: got.TakenUntil}
				l.ledger.with(func() { l.ledger.counts.Named++; l.ledger.claimed(c, worker) })
			}
			return err
		})
		if c != nil {
			l.run(c)
		}
	}
}

// pending is the latest run that was acknowledged as pending, if any.
func (l *Ledger) pending() (id string, run int) {
	l.with(func() {
		for i := len(l.order) - 1; i >= max(0, len(l.order)-200); i-- {
			if floor := l.tasks[l.order[i]].floor; floor != nil && floor.State == "pending" {
				id, run = l.order[i], len(floor.Runs)-1
				return
			}
		}
	})
	return id, run
}

// gone is how a worker is refused whose run was canceled, has timed out, or
// whose credentials are too old.
var gone = []int{401, 403, 409}

// run does with a claimed run one of the things that may happen to it.
func (l *Load) run(c *queue.ClaimWorkResponseTask) {
	id, run := c.Status.TaskID, strconv.Itoa(c.RunID)
	credentials := client.Credentials{ClientID: c.Credentials.ClientID, AccessToken: c.Credentials.AccessToken, Certificate: c.Credentials.Certificate}
	dice := rand.IntN(100)
	if dice < 4 {
		return // the worker is gone
	}
	if rand.IntN(4) == 0 {
		l.artifact(credentials, c)
	}
	if rand.IntN(6) == 0 {
		l.call("reclaimTask", gone, func(ctx context.Context, n *node, _ bool) error {
			got, err := n.queue(credentials).ReclaimTask(ctx, id, run)
			if err == nil {
				credentials = client.Credentials{ClientID: got.Credentials.ClientID, AccessToken: got.Credentials.AccessToken, Certificate: got.Credentials.Certificate}
				l.ledger.with(func() { l.ledger.acknowledge(&got.Status) })
			}
			return err
		})
	}
	l.call("report", gone, func(ctx context.Context, n *node, _ bool) (err error) {
		l.ledger.sending(id)
		var got *queue.TaskStatusResponse
		state, reason := "completed", "completed"
		switch q := n.queue(credentials); {
		case dice < 80:
			got, err = q.ReportCompleted(ctx, id, run)
		case dice < 90:
			state, reason = "failed", "failed"
			got, err = q.ReportFailed(ctx, id, run)
		default:
			state, reason = "exception", []string{"worker-shutdown", "malformed-payload", "intermittent-task"}[dice%3]
			got, err = q.ReportException(ctx, id, run, &queue.TaskExceptionRequest{Reason: reason})
		}
		if err == nil {
			l.ledger.with(func() {
				l.ledger.counts.Resolutions++
				if r := got.Status.Runs[c.RunID]; r.State != state || r.ReasonResolved != reason {
					l.ledger.broken("run %s/%s was reported as %s (%s), and the answer says %s (%s)", id, run, state, reason, r.State, r.ReasonResolved)
				}
				l.ledger.acknowledge(&got.Status)
			})
		}
		return err
	})
}

// artifact gives a run an artifact that is no data: an error or a link.
func (l *Load) artifact(credentials client.Credentials, c *queue.ClaimWorkResponseTask) {
	key := artifactKey{runKey{c.Status.TaskID, c.RunID}, "public/error.txt"}
	in := &queue.PostArtifactRequest{StorageType: "error", Reason: "file-missing-on-worker", Message: "it is not there", Expires: client.At(c.Status.Expires.Time)}
	if rand.IntN(2) == 0 {
		key.name = "public/link.txt"
		in = &queue.PostArtifactRequest{StorageType: "link", Artifact: "public/error.txt", ContentType: "text/plain", Expires: client.At(c.Status.Expires.Time)}
	}
	o := l.call("createArtifact", gone, func(ctx context.Context, n *node, _ bool) error {
		l.ledger.sending(key.task)
		_, err := n.queue(credentials).CreateArtifact(ctx, key.task, strconv.Itoa(c.RunID), key.name, in)
		return err
	})
	if o == done {
		l.ledger.with(func() { l.ledger.counts.Artifacts++; l.ledger.artifacts[key] = true })
	}
}

// meddle cancels tasks, runs them again and changes their priority.
func (l *Load) meddle() {
	for l.ctx.Err() == nil {
		l.pause()
		recent := l.ledger.floored(200)
		if len(recent) == 0 {
			continue
		}
		id := recent[rand.IntN(len(recent))]
		change := func(what string, f func(ctx context.Context, q *queue.Client) (*queue.TaskStatusResponse, error)) outcome {
			return l.call(what, []int{409}, func(ctx context.Context, n *node, _ bool) error {
				l.ledger.sending(id)
				got, err := f(ctx, n.queue(n.Credentials))
				if err == nil {
					l.ledger.with(func() { l.ledger.acknowledge(&got.Status) })
				}
				return err
			})
		}
		switch rand.IntN(4) {
		case 0:
			change("cancelTask", func(ctx context.Context, q *queue.Client) (*queue.TaskStatusResponse, error) {
				got, err := q.CancelTask(ctx, id)
				if err == nil && !resolved(got.Status.State) {
					l.ledger.with(func() { l.ledger.broken("task %s was canceled and is %s", id, got.Status.State) })
				}
				return got, err
			})
		case 1:
			change("rerunTask", func(ctx context.Context, q *queue.Client) (*queue.TaskStatusResponse, error) {
				got, err := q.RerunTask(ctx, id)
				if err == nil && resolved(got.Status.State) {
					l.ledger.with(func() { l.ledger.broken("task %s was rerun and is %s", id, got.Status.State) })
				}
				return got, err
			})
		default:
			p := priorities[rand.IntN(len(priorities))]
			l.ledger.with(func() { l.ledger.tasks[id].priority.sent(p) })
			o := change("changeTaskPriority", func(ctx context.Context, q *queue.Client) (*queue.TaskStatusResponse, error) {
				return q.ChangeTaskPriority(ctx, id, &queue.ChangeTaskPriorityRequest{NewPriority: p})
			})
			l.ledger.with(func() { l.ledger.tasks[id].priority.end(p, o) })
		}
	}
}

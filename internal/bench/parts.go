package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"taskcluster/internal/hawk"
	"taskcluster/internal/slugid"
)

// definition renders a task of ordinary size: about a kilobyte.
func (b *bench) definition() []byte { return b.definitionIn("") }

// definitionIn renders a task of a group; of its own when that is empty.
func (b *bench) definitionIn(group string) []byte {
	now := time.Now().UTC()
	task := map[string]any{
		"taskQueueId": b.queue,
		"created":     now.Format("2006-01-02T15:04:05.000Z"),
		"deadline":    now.Add(24 * time.Hour).Format("2006-01-02T15:04:05.000Z"),
		"priority":    "low",
		"payload": map[string]any{
			"command":    [][]string{{"/bin/bash", "-c", "./mach build --config release && ./mach test --chunk 3"}},
			"maxRunTime": 3600, "env": map[string]string{"MOZ_AUTOMATION": "1", "GECKO_HEAD_REV": "5d1c3a0b6a2fa1a1b4b9", "TASKCLUSTER_VOLUMES": "/builds/worker/checkouts"},
			"artifacts": []map[string]string{{"type": "directory", "name": "public/build", "path": "build"}},
		},
		"scopes":   []string{},
		"routes":   []string{},
		"tags":     map[string]string{"kind": "build", "os": "linux", "label": "build-linux64/opt"},
		"metadata": map[string]string{"name": "build-linux64/opt", "description": "Builds the product for 64-bit Linux, optimised", "owner": "somebody@example.com", "source": "https://hg.example.com/file/5d1c3a0b/taskcluster/kinds/build"},
	}
	if group != "" {
		task["taskGroupId"] = group
	}
	d, _ := json.Marshal(task)
	return d
}

func (b *bench) create(ctx context.Context) (*Throughput, error) {
	def := b.definition()
	return b.measure(ctx, b.Clients, func(c *conn, record func(string, time.Time)) (int, bool, error) {
		began := time.Now()
		if err := b.createOne(c, def); err != nil {
			return 0, false, err
		}
		record("createTask", began)
		return 1, true, nil
	})
}

func (b *bench) createOne(c *conn, def []byte) error {
	status, body, err := c.do(c.credentials, http.MethodPut, "/api/queue/v1/task/"+slugid.New().String(), def)
	return expect(status, body, err)
}

func expect(status int, body []byte, err error) error {
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("answered %d: %.300s", status, body)
	}
	return err
}

// claimed is what a worker reads of a claim.
type claimed struct {
	RunID  int `json:"runId"`
	Status struct {
		TaskID string `json:"taskId"`
	} `json:"status"`
	Credentials struct {
		ClientID    string `json:"clientId"`
		AccessToken string `json:"accessToken"`
		Certificate string `json:"certificate"`
	} `json:"credentials"`
}

func (b *bench) claimWork(c *conn, worker string, n int) ([]claimed, error) {
	body := fmt.Appendf(nil, `{"workerGroup":"bench","workerId":%q,"tasks":%d}`, worker, n)
	status, answer, err := c.do(c.credentials, http.MethodPost, "/api/queue/v1/claim-work/"+b.queue, body)
	if err := expect(status, answer, err); err != nil {
		return nil, err
	}
	var out struct {
		Tasks []claimed `json:"tasks"`
	}
	return out.Tasks, json.Unmarshal(answer, &out)
}

func (b *bench) complete(c *conn, t *claimed) error {
	credentials := hawk.Credentials{ClientID: t.Credentials.ClientID, AccessToken: t.Credentials.AccessToken, Certificate: t.Credentials.Certificate}
	status, body, err := c.do(credentials, http.MethodPost, fmt.Sprintf("/api/queue/v1/task/%s/runs/%d/completed", t.Status.TaskID, t.RunID), nil)
	return expect(status, body, err)
}

// claim has workers claim n tasks at a time and resolve each, with the task's
// own credentials. Operations are tasks.
func (b *bench) claim(ctx context.Context, workers, n int) (*Throughput, error) {
	if _, err := b.fill(ctx, int(b.Duration.Seconds()*15_000), ""); err != nil {
		return nil, err
	}
	var ids atomic.Int64
	names := sync.Map{} // *conn -> worker id
	return b.measure(ctx, workers, func(c *conn, record func(string, time.Time)) (int, bool, error) {
		name, ok := names.Load(c)
		if !ok {
			name = "w" + strconv.FormatInt(ids.Add(1), 10)
			names.Store(c, name)
		}
		began := time.Now()
		tasks, err := b.claimWork(c, name.(string), n)
		if err != nil {
			return 0, false, err
		}
		if len(tasks) == 0 {
			return 0, false, errors.New("the backlog is empty: measure for a shorter time")
		}
		record("claimWork", began)
		for i := range tasks {
			began := time.Now()
			if err := b.complete(c, &tasks[i]); err != nil {
				return i, false, err
			}
			record("reportCompleted", began)
		}
		return len(tasks), true, nil
	})
}

// wake measures from before a task is created until the worker that waits for
// it has its claim: the creation's own time is included.
func (b *bench) wake(ctx context.Context) (*Latency, error) {
	creator, err := b.dial()
	if err != nil {
		return nil, err
	}
	defer creator.c.Close()
	worker, err := b.dial()
	if err != nil {
		return nil, err
	}
	defer worker.c.Close()
	def := b.definition()
	var took []time.Duration
	for began := time.Now(); time.Since(began) < b.Duration && ctx.Err() == nil; {
		type outcome struct {
			tasks []claimed
			at    time.Time
			err   error
		}
		parked := make(chan outcome, 1)
		go func() {
			tasks, err := b.claimWork(worker, "sleeper", 1)
			parked <- outcome{tasks, time.Now(), err}
		}()
		time.Sleep(3 * time.Millisecond) // so that the worker is parked
		sent := time.Now()
		if err := b.createOne(creator, def); err != nil {
			return nil, err
		}
		o := <-parked
		if o.err != nil || len(o.tasks) != 1 {
			return nil, errors.Join(o.err, fmt.Errorf("a parked worker got %d tasks", len(o.tasks)))
		}
		took = append(took, o.at.Sub(sent))
		if err := b.complete(worker, &o.tasks[0]); err != nil {
			return nil, err
		}
	}
	l := latency(took)
	return &l, ctx.Err()
}

// idle parks workers on an empty queue and looks at what that costs.
func (b *bench) idle(ctx context.Context) (*Idle, error) {
	var conns []*conn
	defer func() {
		for _, c := range conns {
			c.c.Close()
		}
	}()
	for i := range b.Parked {
		c, err := b.dial()
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
		go b.claimWork(c, "p"+strconv.Itoa(i), 1) // ends when the connection is closed
	}
	select { // until all are parked and the worker records are written
	case <-ctx.Done():
	case <-time.After(3 * time.Second):
	}
	first, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	before, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	// Reading the figures runs statements itself; they are not the workers'.
	const statements = "taskcluster_store_statements_total"
	own := before[statements] - first[statements]
	began := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(min(b.Duration, 10*time.Second)):
	}
	after, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	return &Idle{
		Workers: b.Parked, Seconds: round(took, 1),
		Statements: after[statements] - before[statements] - own,
		CPUPercent: round((after["process_cpu_seconds_total"]-before["process_cpu_seconds_total"])/took*100, 2),
	}, nil
}

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"taskcluster/internal/slugid"
)

// bulk renders a call of createTasks with n tasks of this definition.
func bulk(buf []byte, def []byte, ids []string) []byte {
	buf = append(buf[:0], `{"tasks":[`...)
	for i, id := range ids {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, `{"taskId":"`...)
		buf = append(buf, id...)
		buf = append(buf, `","task":`...)
		buf = append(buf, def...)
		buf = append(buf, '}')
	}
	return append(buf, `]}`...)
}

func freshIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = slugid.New().String()
	}
	return ids
}

// createBulk creates tasks with one call and checks that each was created.
func (b *bench) createBulk(c *conn, body []byte, ids []string) error {
	status, answer, err := c.do(c.credentials, http.MethodPost, "/api/queue/v1/tasks/create", body)
	if err := expect(status, answer, err); err != nil {
		return err
	}
	var out struct {
		Tasks []struct {
			TaskID string          `json:"taskId"`
			Error  json.RawMessage `json:"error"`
		} `json:"tasks"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return err
	}
	if len(out.Tasks) != len(ids) {
		return fmt.Errorf("%d tasks were sent, %d answered", len(ids), len(out.Tasks))
	}
	for i, t := range out.Tasks {
		if t.Error != nil || t.TaskID != ids[i] {
			return fmt.Errorf("task %s: %s", t.TaskID, t.Error)
		}
	}
	return nil
}

// perCall is how many tasks a call of createTasks has when it is measured.
const perCall = 100

// createMany measures createTasks; operations are tasks.
func (b *bench) createMany(ctx context.Context) (*Throughput, error) {
	def := b.definition()
	return b.measure(ctx, b.Clients, func(c *conn, record func(string, time.Time)) (int, bool, error) {
		ids := freshIDs(perCall)
		body := bulk(nil, def, ids)
		began := time.Now()
		if err := b.createBulk(c, body, ids); err != nil {
			return 0, false, err
		}
		record("createTasks", began)
		return len(ids), true, nil
	})
}

// fill creates n pending tasks in the part's task queue, and says how many per
// second. All are of one group, when that is given.
func (b *bench) fill(ctx context.Context, n int, group string) (perSecond float64, err error) {
	const batch, conns = 500, 4
	def := b.definitionIn(group)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	errs := make(chan error, conns)
	began := time.Now()
	for range conns {
		c, err := b.dial()
		if err != nil {
			return 0, err
		}
		wg.Go(func() {
			defer c.c.Close()
			var body []byte
			for ctx.Err() == nil {
				mine := min(batch, left.Add(-batch)+batch)
				if mine <= 0 {
					return
				}
				ids := freshIDs(int(mine))
				body = bulk(body, def, ids)
				if err := b.createBulk(c, body, ids); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return round(float64(n)/time.Since(began).Seconds(), 0), ctx.Err()
	}
}

// status measures reads of the status of tasks that wait.
func (b *bench) status(ctx context.Context) (*Throughput, error) {
	const tasks = 10_000
	c, err := b.dial()
	if err != nil {
		return nil, err
	}
	defer c.c.Close()
	def := b.definition()
	var paths []string
	for range tasks / 500 {
		ids := freshIDs(500)
		if err := b.createBulk(c, bulk(nil, def, ids), ids); err != nil {
			return nil, err
		}
		for _, id := range ids {
			paths = append(paths, "/api/queue/v1/task/"+id+"/status")
		}
	}
	var next atomic.Int64
	return b.measure(ctx, b.Clients, func(c *conn, record func(string, time.Time)) (int, bool, error) {
		path := paths[next.Add(7919)%tasks] // spread over all of them
		began := time.Now()
		status, body, err := c.do(c.credentials, http.MethodGet, path, nil)
		if err := expect(status, body, err); err != nil {
			return 0, false, err
		}
		record("status", began)
		return 1, true, nil
	})
}

// groupSize is how many tasks the group has that is listed.
const groupSize = 10_000

// group measures how long one caller takes to list a group.
func (b *bench) group(ctx context.Context) (*Group, error) {
	id := slugid.New().String()
	if _, err := b.fill(ctx, groupSize, id); err != nil {
		return nil, err
	}
	c, err := b.dial()
	if err != nil {
		return nil, err
	}
	defer c.c.Close()
	g := &Group{Tasks: groupSize}
	var took []time.Duration
	for began := time.Now(); (g.Listings == 0 || time.Since(began) < b.Duration) && ctx.Err() == nil; g.Listings++ {
		g.Pages, g.Bytes = 0, 0
		seen := 0
		started := time.Now()
		for token := ""; ; {
			path := "/api/queue/v1/task-group/" + id + "/list"
			if token != "" {
				path += "?continuationToken=" + url.QueryEscape(token)
			}
			status, body, err := c.do(c.credentials, http.MethodGet, path, nil)
			if err := expect(status, body, err); err != nil {
				return nil, err
			}
			g.Pages++
			g.Bytes += int64(len(body))
			var page struct {
				ContinuationToken string            `json:"continuationToken"`
				Tasks             []json.RawMessage `json:"tasks"`
			}
			if err := json.Unmarshal(body, &page); err != nil {
				return nil, err
			}
			seen += len(page.Tasks)
			if token = page.ContinuationToken; token == "" {
				break
			}
		}
		if seen != groupSize {
			return nil, fmt.Errorf("%d of %d tasks were listed", seen, groupSize)
		}
		took = append(took, time.Since(started))
	}
	g.Millis = latency(took)
	return g, ctx.Err()
}

package queue

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"taskcluster/internal/hawk"
	"taskcluster/internal/slugid"
)

// The main job over HTTP with everything: signing by the client, signature,
// scopes, schema, commit; without a socket. 32 callers at a time.

func overHTTP(b *testing.B, op func(caller int) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	for caller := range 32 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := op(caller); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// send is call without the checks, which cost more than the call.
func (d *deployment) send(as hawk.Credentials, verb, path string, body any) answer {
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, d.request(context.Background(), as, verb, path, body))
	return answer{t: d.t, method: path, status: w.Code, body: w.Body.String()}
}

func BenchmarkCreateOverHTTP(b *testing.B) {
	d := deploy(b)
	def := d.definition()
	overHTTP(b, func(int) error {
		d.send(root, "PUT", "/task/"+slugid.New().String(), def).want(200)
		return nil
	})
}

// BenchmarkCycleOverHTTP is claimWork(1), then reportCompleted with the
// credentials of the claim.
func BenchmarkCycleOverHTTP(b *testing.B) {
	d := deploy(b)
	body := d.body()
	var filling sync.WaitGroup
	for range 32 {
		filling.Go(func() {
			for range b.N/32 + 1 {
				if err := d.queue.creates.Do(context.Background(), alone(d.creation(body, slugid.ID{}))); err != nil {
					b.Error(err)
				}
			}
		})
	}
	filling.Wait()
	overHTTP(b, func(caller int) error {
		a := d.send(root, "POST", "/claim-work/"+testQueue, with{"workerGroup": "wg", "workerId": "w" + strconv.Itoa(caller)}).want(200)
		var claims struct {
			Tasks []struct {
				Status      struct{ TaskID string }
				Credentials hawk.Credentials
			}
		}
		if err := json.Unmarshal([]byte(a.body), &claims); err != nil {
			return err
		}
		c := claims.Tasks[0]
		d.send(c.Credentials, "POST", "/task/"+c.Status.TaskID+"/runs/0/completed", nil).want(200)
		return nil
	})
}

// BenchmarkCreateTasksOverHTTP creates tasks in calls of 100, which share a
// group. One operation is a task.
func BenchmarkCreateTasksOverHTTP(b *testing.B) {
	const each = 100
	d := deploy(b)
	var bodies [32]func() string
	for i := range bodies {
		bodies[i] = d.manyBodies(each)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	for caller := range 8 {
		all.Go(func() {
			for left.Add(-each) > -each {
				a := d.send(root, "POST", "/tasks/create", bodies[caller]()).want(200)
				if strings.Contains(a.body, `"error"`) {
					b.Error(a.body)
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/task") // with the caller's
}

// manyBodies gives a function that makes bodies of createTasks, each of n tasks
// that share a group.
func (d *deployment) manyBodies(n int) func() string {
	def := string(d.body())
	def = strings.TrimSuffix(def, "}") + `,"taskGroupId":"`
	return func() string {
		var b strings.Builder
		b.WriteString(`{"tasks":[`)
		group := slugid.New().String()
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`{"taskId":"` + slugid.New().String() + `","task":` + def + group + `"}}`)
		}
		return b.String() + "]}"
	}
}

package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"taskcluster/internal/slugid"
)

// Many creators and workers at once, some of whom hang up at any moment: every
// run is claimed once, none is stranded, all counters agree.
func TestConcurrentWork(t *testing.T) { concurrentWork([]*deployment{deploy(t)}) }

func concurrentWork(nodes []*deployment) {
	const creators, each, workers = 4, 100, 12
	d := nodes[0]
	t := d.t
	body := d.body()
	var created, finished, lost atomic.Int64
	done, stop := context.WithCancel(context.Background())
	defer stop()

	var working sync.WaitGroup
	for i := range workers {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		w := workerName{"wg", fmt.Sprint("w", i)}
		d := nodes[i%len(nodes)]
		working.Go(func() {
			for done.Err() == nil {
				ctx, hangUp := context.WithCancel(done)
				if r.IntN(3) == 0 { // hangs up while something becomes pending
					before := created.Load() + int64(r.IntN(3))
					go func() {
						for created.Load() < before && ctx.Err() == nil {
							runtime.Gosched()
						}
						hangUp()
					}()
				}
				claims, err := d.queue.waitForWork(ctx, testQueue, w, 1+r.IntN(4), noAudit)
				hangUp()
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				if err != nil && len(claims) > 0 {
					t.Error("claims together with an error")
				}
				for _, c := range claims {
					item := &resolution{id: c.task.id, runID: c.task.last.id, state: completed, why: reasonCompleted, audit: noAudit}
					if r.IntN(5) == 0 {
						item.state, item.why = exception, reasonIntermittentTask
					}
					if err := d.queue.resolves.Do(context.Background(), item); err != nil || item.refusal != nil {
						t.Error(err, item.refusal)
					}
					if strings.Contains(string(item.reply), `"state":"pending","runs"`) {
						lost.Add(1)
					} else {
						finished.Add(1)
					}
				}
			}
		})
	}
	var creating sync.WaitGroup
	for i := range creators {
		d := nodes[i/2%len(nodes)]
		creating.Go(func() {
			for range each {
				item := d.creation(body, slugid.ID{})
				if err := d.queue.creates.Do(context.Background(), alone(item)); err != nil || item.refusal != nil {
					t.Error(err, item.refusal)
				}
				created.Add(1)
			}
		})
	}
	creating.Wait()
	eventually(t, "all tasks are resolved", func() bool { return finished.Load() == creators*each })
	stop()
	working.Wait()
	t.Logf("%d runs, of which %d were retried", finished.Load()+lost.Load(), lost.Load())

	claimed := map[string]int{}
	for _, m := range d.messages() {
		if m.Exchange == exchangePrefix+"task-running" {
			parts := strings.Split(m.Key, ".")
			claimed[parts[1]+"/"+parts[2]]++
		}
	}
	if len(claimed) != int(finished.Load()+lost.Load()) {
		t.Errorf("%d runs were claimed, %d ended", len(claimed), finished.Load()+lost.Load())
	}
	for run, n := range claimed {
		if n != 1 {
			t.Errorf("%s was claimed %d times", run, n)
		}
	}
	for _, d := range nodes {
		if order := d.left(t); order != "" || d.parked() != 0 {
			t.Errorf("left behind: %d waiters, %s", d.parked(), order)
		}
	}
}

package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/slugid"
)

// A claim and a deadline are times of the clock, whatever it is set to: what is
// past is over at once, what is to come again waits until then.
func TestClockIsSetForward(t *testing.T) {
	d := deploy(t).start()
	kept := d.create(with{"deadline": d.clock.Now().Add(3 * time.Hour).String(), "priority": "lowest"})
	claimed, _ := d.run(with{"deadline": d.clock.Now().Add(3 * time.Hour).String(), "priority": "high"})
	late := d.create(with{"deadline": d.clock.Now().Add(30 * time.Minute).String(), "priority": "lowest"})
	d.clock.Advance(time.Hour)
	eventually(t, "the claim expires", func() bool { return d.status(claimed).string("status", "state") == "pending" })
	eventually(t, "the deadline passes", func() bool { return d.status(late).string("status", "state") == "exception" })
	d.wantState(claimed, "pending", "retry", "")
	d.wantState(late, "exception", "scheduled", "deadline-exceeded")
	d.wantState(kept, "pending", "scheduled", "")
	d.report(claimed, 0, "completed", nil).want(409) // its worker comes too late
	d.mustClaimOne(claimed)
	d.report(claimed, 1, "completed", nil).want(200)
}

func TestClockIsSetBack(t *testing.T) {
	d := deploy(t).start()
	began := d.clock.Now()
	claimed, a := d.run(with{"deadline": began.Add(3 * time.Hour).String(), "retries": 0, "priority": "high"})
	short := d.create(with{"deadline": began.Add(30 * time.Minute).String(), "priority": "lowest"})
	until := a.string("tasks", 0, "takenUntil")
	d.clock.Advance(-time.Hour)
	// The worker does as it always does, and is not given less than it had.
	if got := d.call(root, "POST", "/task/"+claimed+"/runs/0/reclaim", nil).want(200).string("takenUntil"); got != until {
		t.Errorf("the claim lasts until %s, it was %s", got, until)
	}
	// Somebody who comes now is given what waits.
	if got := d.claim("w2", 1).string("tasks", 0, "status", "taskId"); got != short {
		t.Errorf("%s was given", got)
	}
	d.clock.Advance(20 * time.Minute)
	eventually(t, "the claim of after the change expires", func() bool { return d.status(short).string("status", "state") == "pending" })
	d.clock.Advance(59*time.Minute + 59*time.Second)
	d.wantState(claimed, "running", "scheduled", "")
	d.clock.Advance(time.Second)
	eventually(t, "the claim expires", func() bool { return d.status(claimed).string("status", "state") == "exception" })
	d.wantState(claimed, "exception", "scheduled", "claim-expired")
	d.wantState(short, "pending", "retry", "")
	d.clock.Advance(10 * time.Minute)
	eventually(t, "the deadline passes", func() bool { return d.status(short).string("status", "state") == "exception" })
	d.wantState(short, "exception", "retry", "deadline-exceeded")
}

// The clock jumps by up to an hour, forward and back, while tasks are created,
// claimed and resolved. No run is given to two workers, each task that was
// accepted comes to an end, and each run has its events, once and in order.
func TestClockJumpsUnderLoad(t *testing.T) {
	const jumps, tasks = 60, 150
	d := deploy(t).start()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	given := map[string]string{} // run: worker
	var created []string
	var clients, workers sync.WaitGroup
	// What a jump comes between is refused: its signature or its times are of
	// another hour. The client tries again.
	between := func(a answer) bool {
		return a.status == 401 || a.status == 400 && strings.Contains(a.body, "drift") || a.status == 400 && strings.Contains(a.body, "deadline")
	}
	for c := range 3 {
		clients.Go(func() {
			for i := range tasks / 3 {
				id := slugid.New().String()
				for {
					a := d.call(root, "PUT", "/task/"+id, d.definition(with{
						"deadline": d.clock.Now().Add(time.Duration(90+rand.IntN(60)) * time.Minute).String(), "retries": 3}))
					if a.status == 200 || a.status == 409 { // 409: an earlier try was accepted, with other times
						break
					}
					if !between(a) {
						t.Errorf("client %d, task %d: %d %s", c, i, a.status, a.body)
						return
					}
				}
				mu.Lock()
				created = append(created, id)
				mu.Unlock()
			}
		})
	}
	for w := range 4 {
		workers.Go(func() {
			for ctx.Err() == nil {
				a := d.callContext(ctx, root, "POST", "/claim-work/"+testQueue, with{"workerGroup": "wg", "workerId": fmt.Sprint("w", w), "tasks": 2})
				if a.body == "" || a.status != 200 && (ctx.Err() != nil || between(a)) {
					continue // empty: nobody was there to answer
				}
				if a.status != 200 {
					t.Errorf("claimWork: %d %s", a.status, a.body)
					return
				}
				for i := range a.len("tasks") {
					id, run := a.string("tasks", i, "status", "taskId"), int(a.at("tasks", i, "runId").(float64))
					key := fmt.Sprintf("%s/%d", id, run)
					mu.Lock()
					if other := given[key]; other != "" {
						t.Errorf("run %s was given to %s and to w%d", key, other, w)
					}
					given[key] = fmt.Sprint("w", w)
					mu.Unlock()
					if rand.IntN(4) == 0 {
						continue // it forgets the run
					}
					if a := d.report(id, run, "completed", nil); a.status != 200 && a.status != 409 && !between(a) {
						t.Errorf("reportCompleted: %d %s", a.status, a.body)
					}
				}
			}
		})
	}
	for range jumps {
		d.clock.Advance(time.Duration(rand.Int64N(int64(2*time.Hour))) - time.Hour)
		before := d.store.Stats().Commits
		eventually(t, "something is done between two jumps", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return d.store.Stats().Commits > before+2 || len(created) == tasks
		})
	}
	clients.Wait()
	stop()
	workers.Wait()
	// Forward until all deadlines have passed, wherever the clock stands.
	for range jumps {
		d.clock.Advance(2 * time.Hour)
	}
	if len(created) != tasks {
		t.Fatalf("%d of %d tasks were created", len(created), tasks)
	}
	runs := 0
	for _, id := range created {
		eventually(t, "each task comes to an end", func() bool {
			s := d.status(id).string("status", "state")
			return s == "completed" || s == "exception"
		})
		a := d.status(id)
		for i := range a.len("status", "runs") {
			runs++
			key := fmt.Sprintf("%s/%d", id, i)
			if worker := a.string("status", "runs", i, "workerId"); worker != given[key] {
				t.Errorf("run %s is %s's, and was given to %s", key, worker, given[key])
			}
		}
	}
	seen := map[string][]string{}
	for _, e := range d.messages() {
		parts := strings.Split(e.Key, ".")
		seen[parts[1]+"/"+parts[2]] = append(seen[parts[1]+"/"+parts[2]], strings.TrimPrefix(e.Exchange, exchangePrefix+"task-"))
	}
	for _, id := range created {
		a := d.status(id)
		for i := range a.len("status", "runs") {
			want := []string{"pending"}
			if a.string("status", "runs", i, "workerId") != "" {
				want = append(want, "running")
			}
			want = append(want, a.string("status", "runs", i, "state"))
			if got := seen[fmt.Sprintf("%s/%d", id, i)]; strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("run %s/%d has the events %v, want %v", id, i, got, want)
			}
		}
	}
	t.Logf("%d runs of %d tasks", runs, tasks)
}

package worker_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestRunIsNoLongerOurs: a run that the queue has resolved, or given to another,
// is ended long before its claim is to be renewed, and is not reported.
func TestRunIsNoLongerOurs(t *testing.T) {
	for _, how := range []struct{ state, reason, owner, says string }{
		{"exception", "canceled", "", "canceled"},
		{"exception", "deadline-exceeded", "", "deadline-exceeded"},
		{"exception", "claim-expired", "", "claim-expired"},
		{"failed", "", "", "failed elsewhere"},
		{"running", "", "another", "running elsewhere"},
	} {
		t.Run(how.says, func(t *testing.T) {
			t.Parallel()
			c := newSteered()
			q := newQueue(t, c)
			start(t, q)
			task := q.add(sh(stubborn, `"artifacts": [{"type": "file", "path": "none"}]`))
			live := q.follow(task)
			live.count("\npid ", 3)
			c.reach(t, 10*time.Second) // still ours
			q.until("the status was asked for", func() bool { return task.asked == 1 })
			q.mu.Lock()
			task.state, task.reason, task.owner = how.state, how.reason, how.owner
			q.mu.Unlock()
			c.reach(t, 10*time.Second)
			log := live.rest()
			contains(t, log, "Result: ABORTED", "[taskcluster:error] Task aborted - the run is no longer this worker's: "+how.says)
			gone(t, log, 3)
			if how.state != "failed" { // of such a run the queue takes nothing more
				contains(t, q.log(task), how.says)
			}
			q.mu.Lock()
			defer q.mu.Unlock()
			if task.reports != 0 || task.artifacts["none"] != nil {
				t.Error("the run was reported, or its artifacts were uploaded")
			}
		})
	}
}

// TestStatusIsNotTold: that the worker is not told how a run stands is no harm
// to the run. Where it may not ask, it asks no more and says so once.
func TestStatusIsNotTold(t *testing.T) {
	for status, asksOn := range map[int]bool{http.StatusForbidden: false, http.StatusNotFound: true, http.StatusBadGateway: true} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			c := newSteered()
			q := newQueue(t, c)
			q.failWith(func(method, _ string) int {
				if method == "status" {
					return status
				}
				return 0
			})
			w := start(t, q)
			for range 2 {
				task := q.add(sh("echo ready; while [ ! -e go ]; do sleep 0.01; done; echo done"))
				q.follow(task).until("ready\n")
				c.reach(t, 10*time.Second)
				q.until("the status was asked for", func() bool { return task.asked > 0 })
				if asksOn {
					c.reach(t, 10*time.Second)
					q.until("the status was asked for again", func() bool { return task.asked > 1 })
				} else {
					for range 20 { // time for it to ask again
						c.Advance(10 * time.Second)
						if resp, err := http.Get(q.url); err == nil {
							resp.Body.Close()
						}
					}
				}
				touch(t, w, "go")
				q.resolved(task, "completed")
				contains(t, q.log(task), "ready\ndone\n")
				q.mu.Lock()
				asked := task.asked
				q.mu.Unlock()
				if asksOn != (asked > 1) {
					t.Errorf("the worker asked %d times", asked)
				}
			}
			want := 1
			if asksOn {
				want = 0
			}
			if n := strings.Count(w.log.String(), "may not ask how its runs stand"); n != want {
				t.Errorf("said %d times, want %d: %s", n, want, w.log)
			}
		})
	}
}

package queue

import (
	"fmt"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
)

func TestWhyPending(t *testing.T) {
	d := deploy(t)
	why := func(id string) answer { return d.call(root, "GET", "/task/"+id+"/why-pending", nil) }
	why(slugid.New().String()).want(404)
	a := d.create()
	b := d.create(with{"priority": "high"})
	c := d.create()
	got := why(c).want(200, "No worker was seen in its queue in the last hour.")
	if got.at("position", "ahead") != 2.0 || got.at("position", "pending") != 3.0 || got.at("position", "exact") != true ||
		got.at("workers", "seen") != 0.0 || got.at("expectedStart") != nil {
		t.Error(got.body)
	}
	if got := why(b).want(200); got.at("position", "ahead") != 0.0 {
		t.Error(got.body)
	}
	d.claim("w", 1)
	why(b).want(200, "is running: worker wg/w claimed run 0")
	d.clock.Advance(time.Minute)
	got = why(c).want(200, "1 tasks are before it, for 1 workers seen", "claims a minute, it starts at about")
	if got.at("workers", "claimsPerMinute") != 0.2 || got.string("workers", "lastClaim") != "2026-05-04T03:02:01.000Z" ||
		got.string("expectedStart") != "2026-05-04T03:13:01.000Z" { // two tasks at one in five minutes
		t.Error(got.body)
	}
	d.call(root, "PUT", "/provisioners/prov/worker-types/type/workers/wg/w", with{"quarantineUntil": d.clock.Now().Add(time.Hour).String()}).want(200)
	got = why(c).want(200, "All 1 workers seen in its queue in the last hour are in quarantine.")
	if got.at("expectedStart") != nil {
		t.Error(got.body)
	}
	d.report(b, 0, "failed", nil).want(200)
	why(b).want(200, "is resolved: run 0 ended as failed (failed)")

	// What it depends on.
	self := slugid.New().String()
	d.call(root, "PUT", "/task/"+self, d.definition(with{"dependencies": []string{self, b, a}})).want(200)
	got = why(self).want(200, "waits for 3 dependencies. 1 of those listed did not complete", "depends on itself")
	if got.at("blockersTotal") != 3.0 || got.len("blockers") != 3 || got.at("blockers", 1, "unsatisfiable") != true ||
		got.string("blockers", 2, "taskId") != a || got.string("blockers", 2, "state") != "pending" {
		t.Error(got.body)
	}
	d.call(root, "POST", "/task/"+a+"/cancel", nil).want(200)
	resolved := d.create(with{"dependencies": []string{a, c}, "requires": "all-resolved"})
	got = why(resolved).want(200, "waits for one dependency.")
	if got.len("blockers") != 1 || got.string("blockers", 0, "taskId") != c || got.at("blockers", 0, "unsatisfiable") != false {
		t.Error(got.body)
	}
	var many []string
	for range 101 {
		many = append(many, d.create())
	}
	got = why(d.create(with{"dependencies": many})).want(200, "waits for 101 dependencies.")
	if got.len("blockers") != 100 || got.at("blockersTotal") != 101.0 {
		t.Error(got.body)
	}
}

func TestWhyPendingConcurrency(t *testing.T) {
	d := deploy(t)
	d.create(limited("a b", 1))
	id := d.create(limited("a b", 1))
	if len(d.claimed(1)) != 1 {
		t.Fatal("nothing")
	}
	got := d.call(root, "GET", "/task/"+id+"/why-pending", nil).want(200, `It is passed over: 1 runs with its concurrency key \"a b\" are live, and it allows 1.`)
	if got.string("concurrency", "key") != "a b" || got.at("concurrency", "live") != 1.0 || got.at("concurrency", "limit") != 1.0 {
		t.Error(got.body)
	}
}

// The position is counted by a walk over the heap, which is bounded.
func TestAhead(t *testing.T) {
	m := newMemoryPending()
	const n = 30_000
	var changes []pendingChange
	for row := int64(1); row <= n; row++ {
		changes = append(changes, pendingChange{pendingRun: pendingRun{row: row, scheduled: clock.Time(row*7919%n + 1), priority: lowest}, queue: "q/x"})
	}
	m.apply(changes)
	for _, at := range []int{1, 2, 500, maxAhead, maxAhead + 1, n} {
		got, exact := m.ahead("q/x", pendingRun{scheduled: clock.Time(at), priority: lowest}, maxAhead)
		if want := min(at-1, maxAhead); got != want || exact != (want < maxAhead) {
			t.Errorf("%d: %d %v", at, got, exact)
		}
	}
	if got, exact := m.ahead("q/none", pendingRun{}, maxAhead); got != 0 || !exact {
		t.Error(got, exact)
	}
}

func TestClaimHistory(t *testing.T) {
	now := clock.Of(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC))
	h := newClaimHistory(now)
	check := func(at time.Duration, want float64) {
		t.Helper()
		if got, _ := h.rate("q", now.Add(at)); fmt.Sprintf("%.3f", got) != fmt.Sprintf("%.3f", want) {
			t.Errorf("after %s: %v, want %v", at, got, want)
		}
	}
	check(0, 0)
	h.add("q", 10, now)
	check(time.Minute, 2)
	h.add("q", 50, now.Add(20*time.Minute))
	check(20*time.Minute, 3)
	check(62*time.Minute, 50./60)
	check(90*time.Minute, 0)
	check(500*time.Minute, 0)
	for i := range historyQueues + 10 {
		h.add(fmt.Sprint(i), 1, now)
	}
	if len(h.queues) > historyQueues {
		t.Error(len(h.queues))
	}
}

// BenchmarkWhyPosition is what whyPending holds the claims' lock for, at most.
func BenchmarkWhyPosition(b *testing.B) {
	m := newMemoryPending()
	const n = 1_000_000
	for row := int64(1); row <= n; row++ {
		m.apply([]pendingChange{{pendingRun: pendingRun{row: row, scheduled: clock.Time(row), priority: lowest}, queue: "q/x"}})
	}
	for b.Loop() {
		if ahead, _ := m.ahead("q/x", pendingRun{row: n, scheduled: n, priority: lowest}, maxAhead); ahead != maxAhead {
			b.Fatal(ahead)
		}
	}
}

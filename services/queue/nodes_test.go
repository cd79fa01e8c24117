package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

// nodes are n deployments that share a database and a clock. The first answers
// for the checks at the end.
func nodes(t *testing.T, n int) []*deployment {
	t.Helper()
	if storetest.Dialect() == store.SQLite {
		t.Skip("NOTE: one process at a time has a SQLite database")
	}
	list := []*deployment{deploy(t)}
	for len(list) < n {
		list = append(list, list[0].beside())
	}
	return list
}

// beside starts another node on the database.
func (d *deployment) beside() *deployment {
	d.t.Helper()
	other := deployIn(d.t, d.dir, d.clock)
	other.auth.tokens, other.auth.scopes = d.auth.tokens, d.auth.scopes
	return other
}

// heardBy waits until another node has heard all signals up to now.
func (d *deployment) heardBy(other *deployment) {
	d.t.Helper()
	heard := make(chan struct{}, 1)
	defer other.store.Watch("test", func(s store.Signal) { heard <- struct{}{} })()
	if err := d.store.Write(context.Background(), func(tx *store.Tx) error {
		tx.Signal("test", "")
		return nil
	}); err != nil {
		d.t.Fatal(err)
	}
	<-heard
}

// Runs that are made on any node are claimed from any other in the one order.
func TestNodesShareTheOrder(t *testing.T) {
	n := nodes(t, 2)
	r := rand.New(rand.NewPCG(3, 4))
	type made struct {
		id       string
		priority priority
	}
	var want []made
	for i := range 40 {
		p := priority(1 + r.IntN(7))
		if i%5 == 0 {
			n[0].clock.Advance(time.Millisecond)
		}
		want = append(want, made{n[i%2].create(with{"priority": p.String()}), p})
	}
	slices.SortStableFunc(want, func(a, b made) int { return int(b.priority) - int(a.priority) })
	for i := 0; len(want) > 0; i++ {
		a := n[i%2].claim("w", 1+r.IntN(3))
		for j := range a.len("tasks") {
			if got := a.string("tasks", j, "status", "taskId"); got != want[0].id {
				t.Fatalf("claimed %s, want %v", got, want[0])
			}
			want = want[1:]
		}
	}
}

// A commit of one node wakes a worker that waits at another.
func TestNodesWakeEachOther(t *testing.T) {
	n := nodes(t, 3)
	for range 3 {
		waits := []<-chan answer{n[0].park(t.Context(), "a", 1), n[1].park(t.Context(), "b", 1), n[2].park(t.Context(), "c", 1)}
		made := map[string]bool{n[0].create(): true, n[0].create(): true, n[1].create(): true}
		for _, w := range waits {
			a := (<-w).want(200)
			id := a.string("tasks", 0, "status", "taskId")
			if !made[id] {
				t.Fatalf("%s", a.body)
			}
			delete(made, id)
		}
	}
	// A limit has room again.
	first := n[0].create(limited("k", 1))
	second := n[1].create(limited("k", 1))
	if got := n[0].claimed(2); !slices.Equal(got, []string{first}) {
		t.Fatal(got)
	}
	parked := n[0].park(t.Context(), "d", 1)
	n[1].report(first, 0, "completed", nil).want(200)
	if a := (<-parked).want(200); a.string("tasks", 0, "status", "taskId") != second {
		t.Fatal(a.body)
	}
}

// What no signal told is found by looking.
func TestNodesLookForThemselves(t *testing.T) {
	n := nodes(t, 2)
	n[0].create()
	n[0].create(with{"priority": "high"})
	n[0].heardBy(n[1])
	p := n[1].queue.pending.(*databaseRuns)
	w := p.line.enter(testQueue, 5)
	p.line.stay(w)
	if err := n[1].queue.follower.look(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if len(w.token) != 1 || w.due != 2 {
		t.Errorf("%d tokens for %d", len(w.token), w.due)
	}
	p.line.leave(w)
	n[1].claimAll()
	// A node that is gone had set a timer.
	id, _ := n[0].run()
	n[0].stop()
	n[1].start()
	eventually(t, "another node ends the claim", func() bool {
		n[1].clock.Advance(time.Second)
		return n[1].status(id).string("status", "state") == "pending"
	})
	if now := n[1].clock.Now(); now > testClock().Now().Add(20*time.Minute+30*time.Second) {
		t.Errorf("only at %s", now)
	}
}

func TestNodesKnowWhoIsQuarantined(t *testing.T) {
	n := nodes(t, 2)
	n[0].run()
	n[0].create()
	until := n[0].clock.Now().Add(time.Hour)
	path := "/provisioners/prov/worker-types/type/workers/wg/w"
	k := workerKey{testQueue, workerName{"wg", "w"}}
	n[0].call(root, "PUT", path, with{"quarantineUntil": until.String()}).want(200)
	eventually(t, "the other node heard of it", func() bool { return n[1].queue.workers.quarantined(k, n[1].clock.Now()) })
	ctx, hangUp := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer hangUp()
	if claims, err := n[1].queue.waitForWork(ctx, testQueue, k.workerName, 1, noAudit); err == nil || claims != nil {
		t.Error(claims, err)
	}
	// Also when no signal told it.
	n[1].queue.workers.setQuarantine(k, 0, until)
	if err := n[1].queue.follower.look(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if !n[1].queue.workers.quarantined(k, n[1].clock.Now()) {
		t.Error("not read anew")
	}
	// Claims anywhere count for the rate.
	if err := n[0].queue.follower.tell(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other node heard of the claim", func() bool {
		rate, _ := n[1].queue.history.rate(testQueue, n[1].clock.Now())
		return rate > 0
	})
}

// Workers at two nodes never have more than the limit together.
func TestNodesConcurrencyRace(t *testing.T) { concurrencyRace(nodes(t, 2)) }

func TestNodesConcurrentWork(t *testing.T) { concurrentWork(nodes(t, 2)) }

// The migration puts what is pending into the order.
func TestPendingRunsOfBefore(t *testing.T) {
	n := nodes(t, 1)
	d := n[0]
	for i := range 4 {
		d.create(with{"priority": []string{"low", "high"}[i%2]})
		d.create(limited("k", 2), with{"priority": []string{"low", "high"}[i%2]})
		d.create(limited("k", 1))
		d.create(limited("l", 1), with{"workerType": fmt.Sprint("other", i%2)})
	}
	d.claimed(3)
	steps, err := Migrations().Load(store.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	script := "DELETE FROM pending_runs; DELETE FROM pending_heads; DELETE FROM concurrency_keys"
	for _, part := range strings.Split(steps[3].Script, ";\n") {
		if at := strings.Index(part, "INSERT INTO"); at >= 0 {
			script += ";" + part[at:]
		}
	}
	err = d.store.Write(t.Context(), func(tx *store.Tx) error {
		for _, text := range strings.Split(script, ";") {
			if _, err := tx.Exec(store.OnlyPostgres(text)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d.checkOrder(t)
}

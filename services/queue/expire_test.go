package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/blob"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// sweep removes what has expired and returns how much of each kind.
func (d *deployment) sweep() map[string]int {
	d.t.Helper()
	done, err := d.queue.expiry().Once(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	return done.Removed
}

// rows counts the rows of each table.
func (d *deployment) rows() map[string]int {
	d.t.Helper()
	n := map[string]int{}
	for _, table := range []string{"tasks", "task_definitions", "past_runs", "task_groups", "task_dependencies",
		"artifacts", "task_queues", "queue_workers", "queue_counts"} {
		err := d.store.Read(context.Background(), func(tx *store.Tx) error {
			var count int
			err := tx.Row(store.SQL(`SELECT count(*) FROM ` + table)).Scan(&count)
			if count > 0 {
				n[table] = count
			}
			return err
		})
		if err != nil {
			d.t.Fatal(err)
		}
	}
	return n
}

func TestExpireEverything(t *testing.T) {
	d := deploy(t)
	brief := with{"expires": d.clock.Now().Add(2 * time.Hour).String(), "retries": 1}
	id, _ := d.run(brief)
	first := d.create(brief, with{"dependencies": []string{id}})
	var url string
	for i := range 3 {
		a := d.artifact(id, 0, fmt.Sprintf("public/%d", i), with{"storageType": "s3", "contentType": "text/plain", "expires": brief["expires"]}).want(200)
		url = a.string("putUrl")
		if res := d.blob("PUT", url, "text/plain", "x"); res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
	}
	d.artifact(id, 0, "public/ref", with{"storageType": "reference", "url": "https://example.com", "contentType": "text/plain", "expires": brief["expires"]}).want(200)
	d.report(id, 0, "exception", with{"reason": "worker-shutdown"}).want(200)
	d.claim("w", 1)
	d.report(id, 1, "completed", nil).want(200)
	d.claim("w", 1)
	d.report(first, 0, "failed", nil).want(200)
	kept, _ := d.run()
	d.artifact(kept, 0, "public/kept", with{"storageType": "s3", "contentType": "text/plain"}).want(200)
	d.report(kept, 0, "completed", nil).want(200)

	before := d.rows()
	d.clock.Advance(2*time.Hour + expireGrace - time.Second)
	if removed := d.sweep(); removed["tasks"]+removed["artifacts"]+removed["dependencies"] != 0 {
		t.Errorf("removed too early: %v", removed)
	}
	d.call(root, "GET", "/task/"+id, nil).want(200) // expired, and still shown
	d.clock.Advance(time.Second + time.Millisecond)
	want := map[string]int{"artifacts": 4, "dependencies": 1, "tasks": 2}
	for kind, n := range d.sweep() {
		if n != want[kind] {
			t.Errorf("%s: %d were removed, want %d", kind, n, want[kind])
		}
	}
	d.call(root, "GET", "/task/"+id, nil).want(404)
	d.call(root, "GET", "/task/"+id+"/status", nil).want(404)
	d.call(root, "GET", "/task/"+id+"/runs/1/artifacts", nil).want(404)
	d.call(root, "GET", "/task/"+kept+"/status", nil).want(200, "completed")
	for i := range 3 {
		key := fmt.Sprintf("%s/0/public/%d", id, i)
		if _, err := d.blobs.Stat(context.Background(), key); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("the content of %s is still there: %v", key, err)
		}
	}
	after := d.rows()
	if after["tasks"] != 1 || after["task_definitions"] != 1 || after["past_runs"] != 0 || after["task_dependencies"] != 0 || after["artifacts"] != 1 {
		t.Errorf("left over: %v, of %v", after, before)
	}
	d.clock.Advance(time.Hour)
	if removed := d.sweep(); removed["taskGroups"] != 2 {
		t.Errorf("groups: %v", removed)
	}

	// Workers, their task queues and the counters, a day after they were seen.
	d.clock.Advance(24 * time.Hour)
	if removed := d.sweep(); removed["workers"] != 1 || removed["taskQueues"] != 1 || removed["counters"] != 1 {
		t.Errorf("workers: %v", removed)
	}
	d.clock.Advance(2 * 366 * 24 * time.Hour)
	d.sweep()
	if left := d.rows(); len(left) != 0 {
		t.Errorf("something never expires: %v", left)
	}
}

// What is unresolved when it expires, because nobody ran at its deadline, is
// resolved first.
func TestExpireAfterStandstill(t *testing.T) {
	d := deploy(t)
	brief := with{"expires": d.clock.Now().Add(time.Hour).String()}
	waiting, unscheduled := d.create(brief), d.create(brief, with{"dependencies": []string{d.create(brief)}})
	d.clock.Advance(10 * time.Hour)
	if removed := d.sweep(); removed["tasks"] != 0 {
		t.Errorf("unresolved tasks were removed: %v", removed)
	}
	d.wantState(waiting, "pending", "scheduled", "")
	if err := d.expireNow(); err != nil {
		t.Fatal(err)
	}
	d.wantState(waiting, "exception", "scheduled", "deadline-exceeded")
	d.wantState(unscheduled, "exception", "exception", "deadline-exceeded")
	if removed := d.sweep(); removed["tasks"] != 3 || removed["taskGroups"] != 3 {
		t.Errorf("%v", removed)
	}
}

// How far behind removal is shows, and a task that expires does not make the
// tasks that it waited for look blocked.
func TestExpiryLag(t *testing.T) {
	d := deploy(t)
	lag := func(want time.Duration) {
		t.Helper()
		if got, err := d.queue.ExpiryLag(context.Background()); err != nil || got != want {
			t.Errorf("lag %s, want %s (%v)", got, want, err)
		}
	}
	lag(0)
	id := d.create()
	d.create(with{"expires": d.clock.Now().Add(time.Hour).String(), "dependencies": []string{id}})
	d.clock.Advance(time.Hour)
	if err := d.expireNow(); err != nil {
		t.Fatal(err)
	}
	lag(0)
	d.clock.Advance(expireGrace)
	lag(0)
	d.clock.Advance(7 * time.Minute)
	lag(7 * time.Minute)
	if removed := d.sweep(); removed["tasks"] != 1 || removed["dependencies"] != 1 {
		t.Errorf("%v", removed)
	}
	lag(0)
}

// A group counts the tasks that are left, and goes after the last of them.
func TestExpireGroupMembers(t *testing.T) {
	d := deploy(t)
	group := slugid.New().String()
	member := with{"taskGroupId": group}
	d.create(member, with{"expires": d.clock.Now().Add(time.Hour).String()})
	later := d.create(member, with{"expires": d.clock.Now().Add(48 * time.Hour).String()})
	d.clock.Advance(3 * time.Hour)
	if err := d.expireNow(); err != nil {
		t.Fatal(err)
	}
	if removed := d.sweep(); removed["tasks"] != 1 || removed["taskGroups"] != 0 {
		t.Errorf("%v", removed)
	}
	if l := d.call(root, "GET", "/task-group/"+group+"/list", nil).want(200); l.len("tasks") != 1 || l.string("tasks", 0, "status", "taskId") != later {
		t.Error(l.body)
	}
	d.call(root, "POST", "/task-group/"+group+"/seal", nil).want(200)
	d.call(root, "POST", "/task-group/"+group+"/cancel", nil).want(200, `"taskGroupSize":1`)
	d.clock.Advance(49 * time.Hour)
	if removed := d.sweep(); removed["tasks"] != 1 || removed["taskGroups"] != 1 {
		t.Errorf("%v", removed)
	}
}

// brokenBlobs cannot delete.
type brokenBlobs struct{ blob.Store }

func (brokenBlobs) Delete(context.Context, ...string) error { return errors.New("out of order") }

// An artifact whose content cannot be deleted is seen no more, stands in nobody's
// way, and goes when the content does.
func TestExpireArtifactLater(t *testing.T) {
	d := deploy(t)
	id, _ := d.run(with{"expires": d.clock.Now().Add(30 * 24 * time.Hour).String(), "deadline": d.clock.Now().Add(4 * time.Hour).String()})
	brief := with{"storageType": "s3", "contentType": "text/plain", "expires": d.clock.Now().Add(time.Minute).String()}
	d.artifact(id, 0, "public/x", brief).want(200)
	d.clock.Advance(time.Minute + expireGrace + time.Second)
	whole := d.queue.blob
	d.queue.blob = brokenBlobs{whole}
	if removed := d.sweep(); removed["artifacts"] != 0 {
		t.Errorf("%v", removed)
	}
	d.call(root, "GET", "/task/"+id+"/runs/0/artifacts/public/x", nil).want(404)
	if l := d.call(root, "GET", "/task/"+id+"/runs/0/artifacts", nil).want(200); l.len("artifacts") != 0 {
		t.Error(l.body)
	}
	d.artifact(id, 0, "public/x", with{"storageType": "s3", "contentType": "text/plain"}).want(409, "being removed")
	d.queue.blob = whole
	if removed := d.sweep(); removed["artifacts"] != 1 {
		t.Errorf("%v", removed)
	}
	d.artifact(id, 0, "public/x", with{"storageType": "s3", "contentType": "text/plain"}).want(200)
}

// A worker in quarantine is remembered until that ends.
func TestExpireWorkers(t *testing.T) {
	d := deploy(t)
	d.run()
	path := "/provisioners/prov/worker-types/type/workers/wg/w"
	d.call(root, "PUT", path, with{"quarantineUntil": d.clock.Now().Add(50 * time.Hour).String()}).want(200)
	d.clock.Advance(26 * time.Hour)
	if err := d.expireNow(); err != nil {
		t.Fatal(err)
	}
	if removed := d.sweep(); removed["workers"] != 0 || removed["taskQueues"] != 0 || removed["counters"] != 0 {
		t.Errorf("%v", removed)
	}
	d.call(root, "GET", path, nil).want(200) // though nobody serves the task queue
	d.call(root, "GET", "/task-queues/prov%2Ftype", nil).want(404)
	d.clock.Advance(25 * time.Hour)
	if removed := d.sweep(); removed["workers"] != 1 || removed["taskQueues"] != 1 || removed["counters"] != 1 {
		t.Errorf("%v", removed)
	}
	if d.queue.workers.quarantined(workerKey{testQueue, workerName{"wg", "w"}}, 0) {
		t.Error("memory still knows the worker")
	}
}

// No statement reads a table from end to end.
func TestExpirePlans(t *testing.T) {
	d := deploy(t)
	for _, q := range store.Statements(expireStmt) {
		params, _, err := d.store.Describe(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		args := make([]any, params)
		for i := range args {
			args[i] = 1
		}
		err = d.store.Write(context.Background(), func(tx *store.Tx) error {
			rows := tx.Query(store.SQL("EXPLAIN QUERY PLAN "+q.Text(store.SQLite)), args...)
			defer rows.Close()
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					return err
				}
				if strings.HasPrefix(detail, "SCAN") && detail != "SCAN CONSTANT ROW" || strings.Contains(detail, "TEMP B-TREE") {
					t.Errorf("%s: %s", q, detail)
				}
			}
			return rows.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

//go:build linux

package crash

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
	"taskcluster/internal/testenv"
	"taskcluster/test/crash/workload"
	"taskcluster/test/harness"
)

// TestClockJumps: the clock of the machine is set forward and back by up to an
// hour under load, on two nodes at different moments, and sometimes a node is
// killed afterwards. What became due forward is over within seconds; what was
// acknowledged stays, no run is given twice, and each task's events are told in
// order. Callers are refused only when a clock was set between a call and its
// answer, or while the nodes disagree.
func TestClockJumps(t *testing.T) {
	shifted := harness.Binary(t, "-overlay", overlay(t))
	t.Run("sqlite", func(t *testing.T) {
		rounds(t, (*jumps+1)/2, func(t *testing.T, trials int) { clockJumps(t, shifted, trials, "") })
	})
	t.Run("two nodes", func(t *testing.T) {
		rounds(t, *jumps/2, func(t *testing.T, trials int) {
			url := testenv.Postgres(t).URL
			clockJumps(t, shifted, trials, url, url)
		})
	})
}

func clockJumps(t *testing.T, binary string, trials int, urls ...string) {
	d := plan(t, binary, dirs(t, len(urls)), urls)
	for range urls {
		c, err := workload.NewClock(filepath.Join(t.TempDir(), "clock"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		d.clocks = append(d.clocks, c)
	}
	d.ledger = workload.NewLedger(d.clocks...)
	d.startAll()
	d.work()
	some := time.Duration(1+rand.IntN(3600)) * time.Second
	ways := []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour, some, -some}
	furthest := time.Duration(0)
	for trial := range trials {
		by := ways[trial%len(ways)]
		d.busy(100 + rand.IntN(200))
		soon, late := d.due(30*time.Minute), d.due(3*time.Hour)
		to := d.clocks[0].Shift() + by
		furthest = max(furthest, to)
		d.setClocks(to)
		q := d.queue(0)
		if by == time.Hour {
			wait(t, d.nodes[0], func() bool { return d.state(q, soon) == "exception" })
		} else if by < 0 && d.state(q, soon) != "pending" {
			d.fatal("task %s is %s, and its deadline is more than half an hour away", soon, d.state(q, soon))
		}
		if state := d.state(q, late); state != "pending" {
			d.fatal("task %s is %s, and its deadline is more than an hour away", late, state)
		}
		q.Close()
		if trial%3 == 2 {
			victim := rand.IntN(len(urls))
			d.kill(victim)
			d.load.SetNodes(d.up()...)
			d.start(victim)
			d.load.SetNodes(d.up()...)
		}
		d.busy(100)
		for i := range d.nodes {
			d.verify(i)
		}
	}
	// What was claimed when the clock was ahead shall be over.
	d.setClocks(furthest + time.Minute)
	d.busy(50)
	d.finish()
}

// setClocks sets the nodes' clocks one after the other, with calls in between.
func (d *deployment) setClocks(to time.Duration) {
	d.t.Helper()
	for i, c := range d.clocks {
		if i > 0 {
			d.busy(30)
		}
		if err := c.Set(to); err != nil {
			d.fatal("%v", err)
		}
	}
}

func (d *deployment) queue(i int) *queue.Client {
	d.t.Helper()
	n := d.node(i)
	q, err := queue.New(client.Config{RootURL: n.RootURL, Credentials: n.Credentials, Now: n.Clock.Now})
	if err != nil {
		d.t.Fatal(err)
	}
	return q
}

// due makes a task that nobody works on, with a deadline so far away.
func (d *deployment) due(after time.Duration) (id string) {
	d.t.Helper()
	q := d.queue(0)
	defer q.Close()
	id = slugid.New().String()
	now := d.clocks[0].Now()
	_, err := q.CreateTask(d.t.Context(), id, &queue.CreateTaskRequest{
		TaskQueueID: "crash/clock", Created: client.At(now), Deadline: client.At(now.Add(after)), Payload: []byte(`{}`),
		Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com/"},
	})
	if err != nil {
		d.fatal("%v", err)
	}
	d.foreign = append(d.foreign, id)
	return id
}

func (d *deployment) state(q *queue.Client, id string) string {
	d.t.Helper()
	got, err := q.Status(d.t.Context(), id)
	if err != nil {
		d.fatal("%v", err)
	}
	return got.Status.State
}

// overlay has the program built with a package time that adds testdata/clock.go's
// shift to what the kernel tells, as when somebody sets the machine's clock: the
// monotonic time goes on. Setting that one would disturb everybody else, and the
// program is linked statically, so that no library can come between.
func overlay(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src/time/time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const told = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if bytes.Count(text, []byte(told)) != 1 {
		t.Fatalf("%s of %s tells the time in a new way: have this test shift it there", source, runtime.Version())
	}
	text = bytes.Replace(text, []byte(told), []byte(told+"\tif shift != nil {\n\t\tsec += *shift\n\t}\n"), 1)
	text = append(text, "\n//go:linkname shift\nvar shift *int64\n"...)
	shifted := filepath.Join(dir, "time.go")
	if err := os.WriteFile(shifted, text, 0o600); err != nil {
		t.Fatal(err)
	}
	checkout := testenv.Root(t)
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {
		source: shifted,
		filepath.Join(checkout, "cmd/taskcluster/shifted.go"): filepath.Join(checkout, "test/crash/testdata/clock.go"),
	}})
	path = filepath.Join(dir, "overlay.json")
	if err == nil {
		err = os.WriteFile(path, replace, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

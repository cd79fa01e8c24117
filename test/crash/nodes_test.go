package crash

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
	"taskcluster/internal/testenv"
)

// TestOneOfTwoKilled: of two nodes one is killed; the other goes on at once, and
// what the first had in hand is delayed by no more than its lease.
func TestOneOfTwoKilled(t *testing.T) {
	rounds(t, *kills, func(t *testing.T, trials int) {
		url := testenv.Postgres(t).URL
		d := deploy(t, binary, url, url)
		longest := time.Duration(0)
		for trial := range trials {
			victim := trial % 2
			d.busy(100 + rand.IntN(200))
			d.kill(victim)
			began := time.Now()
			d.load.SetNodes(d.up()...)
			d.busy(50)
			longest = max(longest, time.Since(began))
			d.verify(1 - victim)
			d.start(victim)
			d.load.SetNodes(d.up()...)
			d.verify(victim)
		}
		d.busy(200)
		d.finish()
		t.Logf("50 calls took at most %v after a node was killed", longest.Round(time.Millisecond))
		d.punctual()
	})
}

// punctual holds timers to the lease.
func (d *deployment) punctual() {
	d.t.Helper()
	if late := max(d.history.LateExpiry, d.history.LateDeadline); late > lease {
		d.t.Errorf("a timer was %v late, with a node there all the time; the lease is %v", late, lease)
	}
}

// TestParkedClaim: a worker waits at one node, a task is created at another,
// which dies as soon as it has answered. The worker is given the task.
func TestParkedClaim(t *testing.T) {
	url := testenv.Postgres(t).URL
	d := deploy(t, binary, url, url)
	d.load.Stop()
	longest := time.Duration(0)
	defer tellTrials(t, *kills, time.Now())
	for trial := range *kills {
		name := fmt.Sprintf("crash/parked-%d", trial)
		claimed := make(chan time.Time, 1)
		go func() {
			defer close(claimed)
			q := connect(t, d.nodes[1])
			defer q.Close()
			for tries := 0; tries < 3; tries++ {
				got, err := q.ClaimWork(t.Context(), name, &queue.ClaimWorkRequest{WorkerGroup: "g", WorkerID: "w", Tasks: 1})
				if err != nil {
					t.Error(err)
					return
				}
				if len(got.Tasks) > 0 {
					claimed <- time.Now()
					return
				}
			}
			t.Errorf("nobody was given the task of %s", name)
		}()
		// The queue knows the worker as soon as it waits.
		asked := connect(t, d.nodes[1])
		wait(t, d.nodes[1], func() bool {
			_, err := asked.GetWorker(t.Context(), "crash", fmt.Sprintf("parked-%d", trial), "g", "w")
			if err != nil && !client.IsNotFound(err) {
				t.Fatal(err)
			}
			return err == nil
		})
		asked.Close()
		now := time.Now()
		_, err := connect(t, d.nodes[0]).CreateTask(t.Context(), slugid.New().String(), &queue.CreateTaskRequest{
			TaskQueueID: name, Created: client.At(now), Deadline: client.At(now.Add(time.Hour)), Payload: []byte(`{}`),
			Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com/"},
		})
		if err != nil {
			t.Fatal(err)
		}
		created := time.Now()
		d.kill(0)
		if at, ok := <-claimed; ok {
			longest = max(longest, at.Sub(created))
		}
		d.start(0)
	}
	t.Logf("a parked claim was answered at most %v after the node that created the task was killed", longest.Round(time.Millisecond))
	if longest > lease {
		t.Errorf("the lease is %v", lease)
	}
}

// TestStandsStill: a node stands still for so long that the other takes its
// place, and then goes on. What it had begun does not happen twice.
func TestStandsStill(t *testing.T) {
	url := testenv.Postgres(t).URL
	d := deploy(t, binary, url, url)
	defer tellTrials(t, 2, time.Now())
	for i := range 2 {
		d.busy(200)
		d.nodes[i].Signal(syscall.SIGSTOP)
		began := time.Now()
		d.load.SetNodes(d.node(1 - i))
		d.busy(50)
		t.Logf("50 calls took %v beside a node that stands still", time.Since(began).Round(time.Millisecond))
		time.Sleep(*pause - time.Since(began))
		d.nodes[i].Signal(syscall.SIGCONT)
		d.load.SetNodes(d.up()...)
		d.busy(200)
		d.verify(i)
	}
	d.finish()
	d.punctual()
}

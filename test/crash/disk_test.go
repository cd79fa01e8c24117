//go:build linux

package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
	"taskcluster/internal/testenv"
)

// TestDiskFullUnderLoad: the disk of the data directory is full. Calls that
// cannot be stored are answered with 5xx in the published form, so that clients
// try again; what is stored can be read; and when there is space again, all goes
// on, whether the process has lived through it or was killed meanwhile.
func TestDiskFullUnderLoad(t *testing.T) {
	rounds(t, *fills, func(t *testing.T, trials int) {
		disk := smallDisk(t, 384) // a busy database's log alone may have 256
		d := plan(t, binary, []string{disk}, []string{""})
		d.startAll()
		d.work()
		ballast := filepath.Join(disk, "ballast")
		for trial := range trials {
			d.busy(100 + rand.IntN(200))
			d.fill(ballast)
			d.refusesInForm()
			d.verify(0)
			killed := trial%2 == 1
			if killed {
				d.kill(0)
				d.load.SetNodes()
			}
			if err := os.Remove(ballast); err != nil {
				d.fatal("%v", err)
			}
			if killed {
				d.start(0)
				d.load.SetNodes(d.up()...)
			}
			d.busy(50)
			d.verify(0)
		}
		d.busy(200)
		d.finish()
	})
}

// TestPostgresDiskFull is the same for the disks of PostgreSQL: that of its
// tables, so that statements fail, and that of its log, so that it crashes and
// cannot start again before there is space.
func TestPostgresDiskFull(t *testing.T) {
	full := func(t *testing.T, trials int, disk, tables, log string) {
		server, err := testenv.StartPostgresIn(tables, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		d := deploy(t, binary, server.URL, server.URL)
		ballast := filepath.Join(disk, "ballast")
		ended := 0
		for range trials {
			d.busy(100 + rand.IntN(200))
			d.fill(ballast)
			d.refusesInForm()
			if err := os.Remove(ballast); err != nil {
				d.fatal("%v", err)
			}
			if d.revive(server) {
				ended++
			}
			d.recovered()
		}
		d.busy(200)
		d.finish()
		t.Logf("PostgreSQL ended by itself %d times and was started again", ended)
	}
	t.Run("tables", func(t *testing.T) {
		rounds(t, (*fills+1)/2, func(t *testing.T, trials int) { disk := smallDisk(t, 256); full(t, trials, disk, disk, "") })
	})
	t.Run("log", func(t *testing.T) {
		rounds(t, *fills/2, func(t *testing.T, trials int) { disk := smallDisk(t, 64); full(t, trials, disk, "", disk) })
	})
}

// revive waits until calls are acknowledged again, and starts the server, as an
// operator would, if it has ended.
func (d *deployment) revive(server *testenv.PostgresServer) (ended bool) {
	d.t.Helper()
	from := d.ledger.Counts().Acknowledged
	for deadline := time.Now().Add(2 * time.Minute); d.ledger.Counts().Acknowledged < from+50; time.Sleep(50 * time.Millisecond) {
		d.promised()
		if server.Ended() {
			ended = true
			if err := server.Start(); err != nil {
				d.fatal("%v", err)
			}
		}
		if time.Now().After(deadline) {
			d.fatal("there is space again, and hardly a call is acknowledged")
		}
	}
	return ended
}

// smallDisk is a directory on a file system of its own, of so many megabytes.
// Only root may mount one.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "taskcluster-disk-") // a folder of t.TempDir's is closed to PostgreSQL's user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	err = syscall.Mount("taskcluster-test", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, fmt.Sprintf("size=%dm,mode=0755", megabytes))
	if errors.Is(err, syscall.EPERM) {
		fmt.Fprintf(os.Stderr, "NOTE: %s DID NOT RUN: it needs a disk that is really full, and only root may mount a small one.\n", t.Name())
		t.Skip("only root may mount a small disk")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all space that there is, and what is given back, until calls were
// refused for a while.
func (d *deployment) fill(ballast string) {
	d.t.Helper()
	f, err := os.Create(ballast)
	if err != nil {
		d.fatal("%v", err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	from := d.ledger.Counts().Unavailable
	for deadline := time.Now().Add(2 * time.Minute); d.ledger.Counts().Unavailable < from+30; time.Sleep(2 * time.Millisecond) {
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.fatal("%v", err)
		}
		if time.Now().After(deadline) {
			d.fatal("the disk is full, and only %d calls were refused", d.ledger.Counts().Unavailable-from)
		}
	}
}

// refusesInForm creates tasks on a full disk until one is refused, and looks at
// the answer. What was given back may have been enough for some.
func (d *deployment) refusesInForm() {
	d.t.Helper()
	for range 200 {
		status, answer := d.create()
		if status == http.StatusOK {
			continue
		}
		var refusal struct{ Code, Message string }
		if err := json.Unmarshal(answer, &refusal); err != nil || status < 500 || refusal.Code != "InternalServerError" || refusal.Message == "" {
			d.fatal("on a full disk a call is answered with %d: %s", status, answer)
		}
		return
	}
	d.fatal("200 tasks were stored on a full disk")
}

// create makes a task, and returns what was answered.
func (d *deployment) create() (status int, answer []byte) {
	d.t.Helper()
	seen := &recorder{}
	n := d.node(0)
	q, err := queue.New(client.Config{RootURL: n.RootURL, Credentials: n.Credentials, Retries: -1, Transport: seen, Timeout: 2 * time.Minute})
	if err != nil {
		d.t.Fatal(err)
	}
	now := time.Now()
	id := slugid.New().String()
	_, err = q.CreateTask(d.t.Context(), id, &queue.CreateTaskRequest{
		TaskQueueID: "crash/disk", Created: client.At(now), Deadline: client.At(now.Add(time.Hour)), Payload: []byte(`{}`),
		Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com/"},
	})
	d.foreign = append(d.foreign, id)
	if seen.status == 0 {
		d.fatal("%v", err)
	}
	return seen.status, seen.body
}

// recorder keeps the last answer.
type recorder struct {
	status int
	body   []byte
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r.status = resp.StatusCode
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(strings.NewReader(string(r.body)))
	return resp, nil
}

// TestSecondProcess: a second process on the data directory of one that is under
// load refuses to start and disturbs nothing; it may start when the first was
// killed.
func TestSecondProcess(t *testing.T) {
	const trials = 3
	d := deploy(t, binary, "")
	defer tellTrials(t, trials, time.Now())
	for range trials {
		d.busy(100)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		out, err := exec.CommandContext(ctx, d.binary, "serve", "--data-dir", d.dirs[0], "--listen", "127.0.0.1:0").CombinedOutput()
		cancel()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() <= 0 || !strings.Contains(string(out), "in use by another process") {
			d.fatal("a second process: %v\n%s", err, out)
		}
		d.busy(100)
		d.verify(0)
		d.kill(0)
		d.load.SetNodes()
		d.start(0)
		d.load.SetNodes(d.up()...)
		d.verify(0)
	}
	d.finish()
}

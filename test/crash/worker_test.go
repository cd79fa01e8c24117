package crash

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
	"taskcluster/test/harness"
)

// TestKilledWithARunningTask: the local worker dies with the program; started
// again, the program gives the task another run at once, and what was left of
// the first one does not run beside it.
func TestKilledWithARunningTask(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	started, gate := filepath.Join(files, "started"), filepath.Join(files, "gate")
	server := harness.Start(t, binary, dir, "--worker")
	id := slugid.New().String()
	// Each run appends a line when it starts, and waits for the gate.
	script := `echo run $RUN_ID >> ` + started + `; while [ ! -e ` + gate + ` ]; do sleep 0.05; done; echo end $RUN_ID >> ` + started
	payload, err := json.Marshal(map[string]any{"command": [][]string{{"sh", "-c", script}}, "maxRunTime": 600})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	_, err = connect(t, server).CreateTask(t.Context(), id, &queue.CreateTaskRequest{
		TaskQueueID: "local/native", Created: client.At(now), Deadline: client.At(now.Add(time.Hour)), Payload: payload,
		Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com/"},
	})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, server, func() bool { return content(started) == "run 0\n" })
	server.Kill()

	server = harness.Start(t, binary, dir, "--worker")
	q := connect(t, server)
	defer q.Close()
	wait(t, server, func() bool { return content(started) == "run 0\nrun 1\n" })
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var st *queue.TaskStatusResponse
	wait(t, server, func() bool {
		if st, err = q.Status(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return st.Status.State == "completed"
	})
	if got := content(started); got != "run 0\nrun 1\nend 1\n" {
		t.Errorf("the first run went on beside the second: %q", got)
	}
	runs := st.Status.Runs
	if len(runs) != 2 || runs[0].ReasonResolved != "worker-shutdown" || runs[1].ReasonCreated != "retry" {
		t.Errorf("%+v", runs)
	}
	server.Stop()
}

func content(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// wait polls what another process does.
func wait(t *testing.T, s *harness.Server, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen\n%s", s.Log())
		}
	}
}

func connect(t *testing.T, s *harness.Server) *queue.Client {
	t.Helper()
	q, err := queue.New(client.Config{RootURL: s.RootURL, Credentials: credentials(s), Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

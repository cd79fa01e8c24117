package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pipeline is a graph in which one task does as it is told.
func pipeline(end string) string {
	return fmt.Sprintf(`
tasks:
  report: {needs: [test-a, test-b], command: r, env: {LOG: "report\n"}}
  test-a: {needs: [build], command: a, env: {END: %q, LOG: "a1\na2\na3\na4"}}
  test-b: {needs: [build], command: b, env: {LOG: "b1\nb2\n"}}
  build: {command: b, env: {LOG: "building\n"}}
`, end)
}

var slug = regexp.MustCompile(`[A-Za-z0-9_-]{22}`)

// masked replaces identifiers and the server's address.
func (f *fakeQueue) masked(text string) string {
	text = strings.ReplaceAll(text, f.server.URL, "URL")
	return slug.ReplaceAllString(text, "ID")
}

func TestRunCompletes(t *testing.T) {
	f := newFakeQueue(t)
	r := f.command(pipeline(""), "run", "-")
	want := `Task group URL/tasks/groups/ID
report: created as ID
test-a: created as ID
test-b: created as ID
build: created as ID
build: running on group/worker
test-a: waits for build
test-b: waits for build
report: waits for test-a, test-b
build: completed after 3.0s
test-a: pending
test-b: pending
test-a: running on group/worker
test-b: running on group/worker
test-a: completed after 3.0s
test-b: completed after 3.0s
report: pending
report: running on group/worker
report: completed after 3.0s
4 tasks completed in 0.0s.
`
	if diff := cmp.Diff(want, f.masked(r.stdout)); diff != "" {
		t.Error(diff)
	}
	if r.status != 0 || r.stderr != "" {
		t.Errorf("status %d, stderr %q", r.status, r.stderr)
	}
	for _, task := range f.tasks {
		if m := task.def.Metadata; m.Owner != "me@example.com" || m.Source != f.server.URL || task.def.TaskQueueID != "local/native" {
			t.Errorf("%+v", task.def)
		}
	}
}

func TestRunFails(t *testing.T) {
	f := newFakeQueue(t)
	r := f.command(pipeline("exception malformed-payload"), "run", "-")
	if r.status != 1 || !strings.Contains(r.stdout, "report: will not start, because test-a did not complete\n") {
		t.Errorf("%+v", r)
	}
	want := `2 of 4 tasks did not complete:
  report  not started                    waits for test-a: rerun that, or cancel the group
  test-a  exception (malformed-payload)  taskcluster task log ID
`
	if got := f.masked(r.stdout); !strings.HasSuffix(got, want) {
		t.Error(got)
	}
}

func TestRunJSON(t *testing.T) {
	f := newFakeQueue(t)
	r := f.command(pipeline("failed"), "run", "-", "--json")
	var sum summary
	if err := json.Unmarshal([]byte(r.stdout), &sum); err != nil {
		t.Fatal(err, r.stdout)
	}
	for i := range sum.Tasks {
		if f.tasks[sum.Tasks[i].TaskID] == nil {
			t.Errorf("%+v", sum.Tasks[i])
		}
		sum.Tasks[i].TaskID = ""
	}
	want := summary{RootURL: f.server.URL, TaskGroupID: sum.TaskGroupID, Tasks: []outcome{
		{Name: "report", State: "unscheduled", BlockedBy: "test-a"},
		{Name: "test-a", State: "failed", Reason: "failed", Runs: 1},
		{Name: "test-b", State: "completed", Reason: "completed", Runs: 1},
		{Name: "build", State: "completed", Reason: "completed", Runs: 1},
	}}
	if diff := cmp.Diff(want, sum); diff != "" || r.status != 1 {
		t.Error(r.status, diff)
	}
	if !strings.Contains(r.stderr, "build: completed") {
		t.Errorf("progress goes to stderr: %q", r.stderr)
	}
}

func TestRunFollows(t *testing.T) {
	f := newFakeQueue(t)
	f.breakLog["test-a"] = 4
	r := f.command(pipeline(""), "run", "--follow", "-")
	if r.status != 0 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	for _, name := range []string{"build", "test-a", "test-b", "report"} {
		var lines []string
		for line := range strings.Lines(r.stdout) {
			if rest, ok := strings.CutPrefix(line, "["+name+"] "); ok {
				lines = append(lines, rest)
			} else if strings.HasPrefix(line, name+": completed") {
				lines = append(lines, "END\n")
			}
		}
		for id := range f.tasks {
			if task := f.tasks[id]; task.def.Metadata.Name == name {
				want := strings.TrimSuffix(task.env["LOG"], "\n") + "\nEND\n"
				if got := strings.Join(lines, ""); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
		}
	}
}

func TestRunFollowsJSONLines(t *testing.T) {
	f := newFakeQueue(t)
	r := f.command("{command: x, env: {LOG: \"a<b\\nc\"}}", "run", "--follow", "--json", "-")
	var got []string
	for line := range strings.Lines(r.stdout) {
		var e struct{ Type, State, Line string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, strings.TrimSpace(e.Type+" "+e.State+e.Line))
	}
	want := []string{"created", "state running", "log a<b", "log c", "state completed", "result"}
	if diff := cmp.Diff(want, got); diff != "" || r.status != 0 {
		t.Error(diff, r)
	}
}

func TestRunCreationFails(t *testing.T) {
	f := newFakeQueue(t)
	f.refuse = "test-b"
	r := f.command(pipeline(""), "run", "-")
	if r.status != 1 || !strings.Contains(r.stderr, "tasks were submitted: task \"test-b\": queue.createTask: 403") || !strings.Contains(r.stderr, "group cancel") {
		t.Errorf("%+v", r)
	}
	f = newFakeQueue(t)
	f.refuse = "build"
	r = f.command(pipeline(""), "run", "-", "--json")
	var body struct{ Code string }
	if err := json.Unmarshal([]byte(r.stdout), &body); err != nil || body.Code != "InsufficientScopes" {
		t.Errorf("the server's body is printed: %v, %+v", err, r)
	}
	if r.status != 1 || !strings.Contains(r.stderr, "nothing was submitted") || len(f.tasks) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestRunRefusesFiles(t *testing.T) {
	f := newFakeQueue(t)
	bad := filepath.Join(t.TempDir(), "bad.yml")
	if err := os.WriteFile(bad, []byte("command: x\nneedz: [a]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := f.command("", "run", bad); r.status != 1 || !strings.Contains(r.stderr, `bad.yml:2: unknown key "needz"`) {
		t.Errorf("%+v", r)
	}
	if r := f.command("", "run", bad+"x"); r.status != 1 || !strings.Contains(r.stderr, "no such file") {
		t.Errorf("%+v", r)
	}
	if r := f.command("command: x", "run", "-", "--timeout", "soon"); r.status != 2 {
		t.Errorf("%+v", r)
	}
	if r := f.command("command: x", "run", "-", "--group", "nonsense"); r.status != 2 {
		t.Errorf("%+v", r)
	}
	if len(f.tasks) != 0 {
		t.Error(f.names())
	}
}

func TestRunOptions(t *testing.T) {
	f := newFakeQueue(t)
	r := f.command("command: x", "run", "-", "--group", "VQ6EAOKbQdSnFkRmVUQAAA", "--task-queue", "other/queue")
	if r.status != 0 || len(f.tasks) != 1 {
		t.Fatalf("%+v", r)
	}
	for _, task := range f.tasks {
		if task.def.TaskGroupID != "VQ6EAOKbQdSnFkRmVUQAAA" || task.def.TaskQueueID != "other/queue" {
			t.Errorf("%+v", task.def)
		}
	}
}

// TestRunOutlivesTheServer: a server that is away for a while is waited for.
func TestRunOutlivesTheServer(t *testing.T) {
	f := newFakeQueue(t)
	f.failures = 6 // more than the tries of one call
	r := f.command("command: x", "run", "-")
	if r.status != 0 || strings.Count(r.stderr, "Trying again") != 1 {
		t.Errorf("%+v", r)
	}
}

func TestRunTimeout(t *testing.T) {
	f := newFakeQueue(t)
	f.frozen = true
	now := fakeTime
	r := f.session("command: x", func(s *session) {
		s.now = func() time.Time { return now }
		s.sleep = func(ctx context.Context, d time.Duration) error { now = now.Add(d); return ctx.Err() }
	}, "run", "-", "--timeout", "1m")
	if r.status != 1 || !strings.Contains(r.stderr, "the time to watch is over; the tasks go on") || !strings.Contains(r.stderr, "task log --follow") {
		t.Errorf("%+v", r)
	}
	if passed := now.Sub(fakeTime); passed != time.Minute {
		t.Errorf("watched for %v", passed)
	}
}

func TestRunInterrupt(t *testing.T) {
	for _, cancels := range []bool{false, true} {
		f := newFakeQueue(t)
		f.frozen = true
		args := []string{"run", "-"}
		if cancels {
			args = append(args, "--cancel-on-interrupt")
		}
		r := f.session(pipeline(""), func(s *session) {
			ctx, cancel := context.WithCancel(s.ctx)
			t.Cleanup(cancel)
			s.ctx = ctx
			s.sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
		}, args...)
		if r.status != 130 {
			t.Errorf("%+v", r)
		}
		cancelled := 0
		for _, task := range f.tasks {
			if task.status.State == "exception" {
				cancelled++
			}
		}
		if want := map[bool]int{false: 0, true: 4}[cancels]; cancelled != want {
			t.Errorf("%d cancelled, want %d: %s", cancelled, want, r.stderr)
		}
		if hint := strings.Contains(r.stderr, "taskcluster group cancel"); hint == cancels {
			t.Error(r.stderr)
		}
	}
}

// TestRunManyTasks: states are asked for in several calls of several pages.
func TestRunManyTasks(t *testing.T) {
	f := newFakeQueue(t)
	var text strings.Builder
	text.WriteString("tasks:\n")
	for i := range 1500 {
		fmt.Fprintf(&text, "  t%d: {command: x}\n", i)
	}
	r := f.command(text.String(), "run", "-")
	if r.status != 0 || !strings.HasSuffix(r.stdout, "1500 tasks completed in 0.0s.\n") {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
}

package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// logOf is a log as workers write it, of commands that printed out; the last
// one exited with the status.
func logOf(out, status, result string, more ...string) string {
	text := `[taskcluster 2031-02-03T04:05:06.000Z] Worker Type (local/native) settings:
[taskcluster 2031-02-03T04:05:06.000Z]   {
[taskcluster 2031-02-03T04:05:06.000Z]   }
[taskcluster:warn 2031-02-03T04:05:06.000Z] payload.env.RUN_ID is not used
[taskcluster 2031-02-03T04:05:06.000Z] Executing command 0: true
[taskcluster 2031-02-03T04:05:06.000Z]    Exit Code: 0
[taskcluster 2031-02-03T04:05:06.000Z] Executing command 1: sh -ec 'echo a
[taskcluster 2031-02-03T04:05:06.000Z]   echo b'
` + out + `[taskcluster 2031-02-03T04:05:06.000Z]    Exit Code: ` + status + `
[taskcluster 2031-02-03T04:05:06.000Z]       Result: ` + result + "\n"
	return text + strings.Join(append(more, ""), "\n")
}

func TestOutput(t *testing.T) {
	const out = "[taskcluster] mine\n [taskcluster 2] mine\nhello\n"
	const warning = "[taskcluster:warn 2031-02-03T04:05:06.000Z] payload.env.RUN_ID is not used\n"
	for _, c := range []struct{ log, want, why string }{
		{logOf(out, "0", "SUCCEEDED"), warning + out, ""},
		{"hello\n", "hello\n", ""},
		{
			logOf(out, "2", "FAILED", "[taskcluster:error] exit status 2"),
			warning + out + "[taskcluster:error] exit status 2\n", "command 1 exited with 2",
		},
		{
			logOf(out, "-1", "ABORTED", "[taskcluster:error] Task aborted - max run time exceeded", "[taskcluster:error] more"),
			warning + out + "[taskcluster:error] Task aborted - max run time exceeded\n[taskcluster:error] more\n", "Task aborted - max run time exceeded",
		},
	} {
		for _, full := range []bool{false, true} {
			var got strings.Builder
			o := &output{full: full, emit: func(line []byte) { got.Write(line); got.WriteByte('\n') }}
			l := &lines{emit: o.line}
			l.Write([]byte(c.log))
			want := c.want
			if full {
				want = c.log
			}
			if diff := cmp.Diff(want, got.String()); diff != "" {
				t.Error(diff)
			}
			if o.why() != c.why {
				t.Errorf("why: %q, want %q", o.why(), c.why)
			}
		}
	}
}

// failing is a task file whose task fails, and has printed "hello".
func failing(t *testing.T) string {
	t.Helper()
	log := logOf("hello\n", "2", "FAILED", "[taskcluster:error] exit status 2")
	text, err := json.Marshal(map[string]any{"tasks": map[string]any{
		"build": map[string]any{"command": "x", "env": map[string]string{"END": "failed", "LOG": log}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRunFollowsFailure(t *testing.T) {
	f := newFakeQueue(t)
	r := f.command(failing(t), "run", "--follow", "-")
	want := `Task group URL/tasks/groups/ID
build: created as ID
build: running on group/worker
[taskcluster:warn 2031-02-03T04:05:06.000Z] payload.env.RUN_ID is not used
hello
[taskcluster:error] exit status 2
build: failed after 3.0s: command 1 exited with 2
1 of 1 task did not complete:
  build  failed: command 1 exited with 2  taskcluster task log ID
`
	if diff := cmp.Diff(want, f.masked(r.stdout)); diff != "" || r.status != 1 {
		t.Error(r.status, diff)
	}
	r = newFakeQueue(t).command(failing(t), "run", "--follow", "--full-log", "-")
	if !strings.Contains(r.stdout, "settings:\n[taskcluster 2031-02-03T04:05:06.000Z]   {\n") || !strings.Contains(r.stdout, "Exit Code: 2\n") {
		t.Error(r.stdout)
	}
	r = newFakeQueue(t).command(failing(t), "run", "--follow", "--json", "-")
	if strings.Count(r.stdout, `"message":"command 1 exited with 2"`) != 2 || strings.Contains(r.stdout, "Exit Code") {
		t.Error(r.stdout)
	}
	if r := f.command(failing(t), "run", "--full-log", "-"); r.status != 2 || !strings.Contains(r.stderr, "--full-log needs --follow") {
		t.Errorf("%+v", r)
	}
}

// TestRunShowsInOrder: nothing of a task is shown before the ends of those that
// it needs, however long their logs take.
func TestRunShowsInOrder(t *testing.T) {
	f := newFakeQueue(t)
	f.breakLog["build"] = 1
	r := f.session(pipeline(""), func(s *session) {
		s.sleep = func(ctx context.Context, d time.Duration) error {
			if d == logPause { // the log's reader waits, the watch does not
				<-f.ended
			}
			return ctx.Err()
		}
	}, "run", "--follow", "-")
	if r.status != 0 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	for name, needs := range map[string][]string{"test-a": {"build"}, "test-b": {"build"}, "report": {"test-a", "test-b"}} {
		for _, need := range needs {
			_, behind, found := strings.Cut(r.stdout, need+": completed")
			early := strings.TrimSuffix(r.stdout, behind)
			for _, what := range []string{name + ": pending", name + ": running", name + ": completed", "[" + name + "]"} {
				if !found || strings.Contains(early, what) || !strings.Contains(behind, name+": completed") {
					t.Errorf("%q comes before %s has ended:\n%s", what, need, r.stdout)
				}
			}
		}
	}
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"taskcluster/client"
)

const (
	idA   = "AAAAAAAAQACAAAAAAAAAAA"
	idB   = "BBBBBBBBQBCBBBBBBBBBBA"
	idC   = "CCCCCCCCQCCCCCCCCCCCCA"
	idD   = "DDDDDDDDQDCDDDDDDDDDDA"
	group = "VQ6EAOKbQdSnFkRmVUQAAA"
)

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q:\n%s", what, part, text)
		}
	}
}

func TestTaskStatus(t *testing.T) {
	f := newFakeQueue(t)
	f.frozen = true
	f.add(idA, group, "one", "failed").end("exception", "canceled")
	r := f.command("", "task", "status", idA)
	contains(t, "status", r.stdout, "State         exception (canceled)\n", "Group         "+group, "Run 0         exception (canceled) after 7.0s, at 2031-02-03T04:05:10Z on group/worker")
	r = f.command("", "task", "status", idA, "--json")
	var reply struct{ Status struct{ State string } }
	if err := json.Unmarshal([]byte(r.stdout), &reply); err != nil || reply.Status.State != "exception" {
		t.Errorf("%v %+v", err, r)
	}
	r = f.command("", "task", "status", idB)
	if r.status != 1 || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	contains(t, "error", r.stderr, "404 ResourceNotFound: no such task", "Check the identifier")
	r = f.command("", "task", "status", idB, "--json")
	if r.status != 1 || !json.Valid([]byte(r.stdout)) {
		t.Errorf("%+v", r)
	}
	contains(t, "body", r.stdout, `"requestInfo"`, `"ResourceNotFound"`)
}

func TestTaskDefCancelRerun(t *testing.T) {
	f := newFakeQueue(t)
	f.frozen = true
	f.add(idA, group, "one", "running")
	contains(t, "def", f.command("", "task", "def", idA).stdout, `"name": "one"`)
	if r := f.command("", "task", "cancel", idA); r.stdout != idA+" is exception (canceled)\n" || r.status != 0 {
		t.Errorf("%+v", r)
	}
	if r := f.command("", "task", "rerun", idA); r.stdout != idA+" is pending\n" || r.status != 0 {
		t.Errorf("%+v", r)
	}
	contains(t, "JSON", f.command("", "task", "cancel", idA, "--json").stdout, `"reasonResolved": "canceled"`)
	f.add(idB, group, "two", "failed")
	if r := f.command("", "task", "cancel", idB); r.stdout != idB+" is failed: it was resolved before\n" || r.status != 0 {
		t.Errorf("%+v", r)
	}
}

func TestTaskLog(t *testing.T) {
	f := newFakeQueue(t)
	f.frozen = true
	done := f.add(idA, group, "done", "completed")
	done.env["LOG"] = "one\ntwo\nthree"
	f.add(idB, group, "mute", "completed")
	f.add(idC, group, "new", "unscheduled")
	f.add(idD, group, "waits", "pending")
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{[]string{idA}, 0, "one\ntwo\nthree", ""},
		{[]string{idA, "--run", "0"}, 0, "one\ntwo\nthree", ""},
		{[]string{idA, "-f"}, 0, "one\ntwo\nthree", ""},
		{[]string{idA, "--run", "1"}, 1, "", "has no run 1: it has 1"},
		{[]string{idA, "--run", "1", "-f"}, 1, "", "has no run 1: it has 1"},
		{[]string{idA, "--run=-1"}, 2, "", "counted from 0"},
		{[]string{idB}, 1, "", "run 0 of " + idB + " has no log"},
		{[]string{idB, "-f"}, 1, "", "run 0 of " + idB + " has no log"},
		{[]string{idC}, 1, "", "is unscheduled and has no log yet; --follow waits"},
		{[]string{idD}, 1, "", idD + " is pending and has no log yet; --follow waits"},
		{[]string{idD, "--run", "5"}, 1, "", idD + " has no run 5 yet: it has 1; --follow waits"},
		{[]string{idA, "--json"}, 0, `{"type":"log","taskId":"` + idA + `","runId":0,"line":"one"}` + "\n" +
			`{"type":"log","taskId":"` + idA + `","runId":0,"line":"two"}` + "\n" + `{"type":"log","taskId":"` + idA + `","runId":0,"line":"three"}` + "\n", ""},
	} {
		r := f.command("", append([]string{"task", "log"}, c.args...)...)
		if r.status != c.status || r.stdout != c.stdout || !strings.Contains(r.stderr, c.stderr) {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
}

func TestTaskLogFollows(t *testing.T) {
	f := newFakeQueue(t)
	f.add(idA, group, "slow", "pending").env["LOG"] = "one\ntwo\nthree\nfour\n"
	f.breakLog["slow"] = 5
	r := f.command("", "task", "log", "--follow", idA)
	if r.status != 0 || r.stdout != "one\ntwo\nthree\nfour\n" {
		t.Errorf("%+v", r)
	}
}

func TestTaskLogOfRunningTask(t *testing.T) {
	f := newFakeQueue(t)
	f.frozen = true
	f.add(idA, group, "slow", "running").env["LOG"] = "12345678"
	r := f.command("", "task", "log", idA)
	if r.status != 0 || r.stdout != "1234" {
		t.Errorf("%+v", r)
	}
}

// TestTaskLogOfCancelledTask: the worker may not have noticed, so that the live
// log does not end; it is not waited for.
func TestTaskLogOfCancelledTask(t *testing.T) {
	t.Parallel()
	f := newFakeQueue(t)
	f.frozen = true
	for id, env := range map[string]map[string]string{
		idA: {"LOG": "one\ntwo\n", "GROWS": "yes"},
		idB: {"LOG": "one\n", "GROWS": "yes", "KEPT": "one\ntwo\n"},
	} {
		task := f.add(id, group, "cancelled", "running")
		task.env = env
		task.end("exception", "canceled")
		for _, more := range [][]string{nil, {"--follow"}} {
			r := f.command("", append([]string{"task", "log", id}, more...)...)
			if r.status != 0 || r.stdout != "one\ntwo\n" {
				t.Errorf("%s %v: %+v", id, more, r)
			}
			if says := strings.Contains(r.stderr, "has not ended this log yet"); says != (id == idA && more == nil) {
				t.Errorf("%s %v: %s", id, more, r.stderr)
			}
		}
	}
}

func TestTaskArtifacts(t *testing.T) {
	f := newFakeQueue(t)
	f.frozen = true
	f.add(idA, group, "one", "completed").env["LOG"] = "hello world\n"
	t.Chdir(t.TempDir())
	want := "NAME                  STORAGE  BYTES  TYPE        EXPIRES\n" +
		"public/logs/live.log  link     -      text/plain  2031-02-03T04:05:06.000Z\n" +
		"public/data           s3       12     text/plain  2031-02-03T04:05:06.000Z\n"
	for _, extra := range [][]string{{}, {"--run", "0"}} {
		if diff := cmp.Diff(want, f.command("", append([]string{"task", "artifacts", idA}, extra...)...).stdout); diff != "" {
			t.Error(diff)
		}
	}
	if r := f.command("", "task", "artifacts", idA, "--download", "public/data", "-o", "-"); r.stdout != "hello world\n" {
		t.Errorf("%+v", r)
	}
	r := f.command("", "task", "artifacts", idA, "--download", "public/data")
	if text, err := os.ReadFile("data"); err != nil || string(text) != "hello world\n" || r.status != 0 {
		t.Errorf("%v %+v", err, r)
	}
	f.breakLog["one"] = 3
	r = f.command("", "task", "artifacts", idA, "--download", "public/data", "-o", "half")
	left, err := filepath.Glob("*")
	if dot, _ := filepath.Glob(".t*"); err != nil || r.status != 1 || len(left) != 1 || len(dot) != 0 {
		t.Errorf("a broken transfer leaves nothing: %v, %+v", left, r)
	}
	r = f.command("", "task", "artifacts", idA, "--download", "public/broken")
	if r.status != 1 || strings.Contains(r.stderr, "\x1b") {
		t.Errorf("%+v", r)
	}
	contains(t, "error", r.stderr, "file-missing-on-worker")
	if r := f.command("", "task", "artifacts", idA, "-o", "x"); r.status != 2 {
		t.Errorf("%+v", r)
	}
	if r := f.command("", "task", "artifacts", idA, "--download", "public/none"); r.status != 1 {
		t.Errorf("%+v", r)
	}
}

func TestGroup(t *testing.T) {
	f := newFakeQueue(t)
	f.frozen = true
	f.add(idA, group, "one\x1b[2J", "completed")
	f.add(idB, group, "two", "running")
	f.add(idC, group, "three", "unscheduled")
	f.add(idD, idA, "overdue", "pending")
	if r := f.command("", "group", "cancel", "-f", idA); r.status != 0 || r.stdout != "0 tasks cancelled\n" {
		t.Errorf("a task past its deadline is let be: %+v", r)
	}
	want := "TASKID                  STATE        RUNS  NAME\n" +
		idA + "  completed    1     one\uFFFD[2J\n" + idB + "  running      1     two\n" + idC + "  unscheduled  0     three\n"
	if diff := cmp.Diff(want, f.command("", "group", "list", group).stdout); diff != "" {
		t.Error(diff)
	}
	if r := f.command("", "group", "list", group, "--state", "running,failed"); strings.Count(r.stdout, "\n") != 2 {
		t.Errorf("%+v", r)
	}
	var list struct {
		Tasks []struct{ Status struct{ TaskID string } }
	}
	if r := f.command("", "group", "list", group, "--json"); json.Unmarshal([]byte(r.stdout), &list) != nil || len(list.Tasks) != 3 {
		t.Errorf("%+v", r)
	}
	if r := f.command("", "group", "status", group); r.stdout != "unscheduled  1\nrunning      1\ncompleted    1\ntotal        3\n" {
		t.Errorf("%+v", r)
	}
	contains(t, "JSON", f.command("", "group", "status", group, "--json").stdout, `"tasks": 3`, `"failed": 0`, `"running": 1`)
	if r := f.command("", "group", "status", idB); r.status != 1 {
		t.Errorf("%+v", r)
	}

	if r := f.command("", "group", "cancel", group); r.status != 1 || !strings.Contains(r.stderr, "Cancel 2 of the group's tasks? [y/N]") {
		t.Errorf("%+v", r)
	}
	if r := f.command("no\n", "group", "cancel", group); r.status != 1 || f.tasks[idB].status.State != "running" {
		t.Errorf("%+v", r)
	}
	if r := f.command("y\n", "group", "cancel", group); r.status != 0 || r.stdout != "2 tasks cancelled\n" {
		t.Errorf("%+v", r)
	}
	if f.tasks[idA].status.State != "completed" || f.tasks[idB].status.State != "exception" || f.tasks[idC].status.State != "exception" {
		t.Error("cancelled the wrong ones")
	}
	contains(t, "JSON", f.command("", "group", "cancel", group, "--force", "--json").stdout, `"cancelledCount": 0`, `"taskIds": []`)
}

func TestEnv(t *testing.T) {
	f := newFakeQueue(t)
	dir := t.TempDir()
	t.Chdir(dir)
	r := f.command("", "env")
	if r.status != 1 || !strings.Contains(r.stderr, `there is no data/root.env: start a deployment with "taskcluster serve"`) {
		t.Errorf("%+v", r)
	}
	text := "export TASKCLUSTER_ROOT_URL=" + f.server.URL + "\nexport TASKCLUSTER_CLIENT_ID=static/taskcluster/root\nexport TASKCLUSTER_ACCESS_TOKEN=secret-secret-secret-se\n"
	for _, d := range []string{"data", "other"} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d+"/root.env", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"env"}, {"env", "--data-dir", "other"}} {
		if r := f.command("", args...); r.stdout != text || r.status != 0 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	contains(t, "JSON", f.command("", "env", "--json").stdout, `"TASKCLUSTER_CLIENT_ID": "static/taskcluster/root"`)
	r = f.command("", "env", "--check")
	contains(t, "check", r.stdout, "Client    static/taskcluster/root", "Scopes    1", "  *")
	if strings.Contains(r.stdout+r.stderr, "token-token") {
		t.Error("shows the token")
	}

	// With an empty environment root.env is used, and said so, for its own root URL only.
	empty := func(s *session) { s.getenv = func(string) string { return "" } }
	f.add(idA, group, "one", "completed")
	f.frozen = true
	r = f.session("", empty, "task", "status", idA)
	if r.status != 0 || r.stderr != "Using data/root.env ("+f.server.URL+").\n" {
		t.Errorf("%+v", r)
	}
	contains(t, "check", f.session("", empty, "env", "--check", "--root-url", f.server.URL+"/").stdout, "static/taskcluster/root")
	elsewhere := strings.Replace(f.server.URL, "127.0.0.1", "localhost", 1)
	contains(t, "check", f.session("", empty, "env", "--check", "--root-url", elsewhere).stdout, "(anonymous)", "anonymous:only")
	if err := os.WriteFile("data/root.env", []byte("export TASKCLUSTER_ROOT_URL=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := f.session("", empty, "task", "status", idA); r.status != 1 || !strings.Contains(r.stderr, "does not set TASKCLUSTER_CLIENT_ID") {
		t.Errorf("%+v", r)
	}
}

func TestConnection(t *testing.T) {
	f := newFakeQueue(t)
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		env  map[string]string
		want string // client id, or the beginning of an error
	}{
		{map[string]string{}, "no deployment is known"},
		{map[string]string{envRootURL: f.server.URL}, "(anonymous)"},
		{map[string]string{envProxyURL: f.server.URL, envRootURL: "http://never.invalid"}, "(anonymous)"},
		{map[string]string{envProxyURL: "http://never.invalid", envRootURL: f.server.URL, envClientID: "me", envAccessToken: "t"}, "me"},
		{map[string]string{envRootURL: f.server.URL, envClientID: "me"}, "TASKCLUSTER_CLIENT_ID is set, but"},
		{map[string]string{envRootURL: "localhost"}, "client: root URL must be http(s)://"},
	} {
		r := f.session("", func(s *session) { s.getenv = func(name string) string { return c.env[name] } }, "env", "--check")
		if !strings.Contains(r.stdout, "Client    "+c.want) && !strings.HasPrefix(r.stderr, "taskcluster: "+c.want) {
			t.Errorf("%v: %+v", c.env, r)
		}
	}
	r := f.command("", "task", "status", idA, "--root-url", "http://localhost:1")
	contains(t, "error", r.stderr, "connection refused", "Is the deployment running")
}

func TestConfig(t *testing.T) {
	f := newFakeQueue(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "settings.yml")
	if err := os.WriteFile(file, []byte("data-dir: from-file\nlog-level: warn\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TASKCLUSTER_CONFIG": file, "TASKCLUSTER_LOG_LEVEL": "error", "TASKCLUSTER_ROOT_ACCESS_TOKEN": "secret-secret-secret-se"}
	r := f.session("", func(s *session) { s.getenv = func(name string) string { return env[name] } }, "config", "explain", "--listen", "localhost:9", "--only", "queue,auth", "--json")
	var origins []struct{ Name, Value, Source string }
	if err := json.Unmarshal([]byte(r.stdout), &origins); err != nil {
		t.Fatal(err, r)
	}
	got := map[string]string{}
	for _, o := range origins {
		got[o.Name] = o.Value + " | " + o.Source
	}
	for name, want := range map[string]string{
		"listen":            "localhost:9 | flag --listen",
		"only":              "queue,auth | flag --only",
		"data-dir":          "from-file | file " + file,
		"log-level":         "error | environment TASKCLUSTER_LOG_LEVEL",
		"claim-timeout":     "20m0s | default",
		"root-access-token": "[secret] | environment TASKCLUSTER_ROOT_ACCESS_TOKEN",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	r = f.session("", func(s *session) { s.getenv = func(name string) string { return env[name] } }, "config", "show", "--worker")
	contains(t, "show", r.stdout, "data-dir                from-file\n", "worker                  true\n")
	r2 := f.session("", func(s *session) { s.getenv = func(name string) string { return env[name] } }, "config", "explain")
	if strings.Contains(r.stdout+r2.stdout, "secret-secret") {
		t.Error("shows a secret")
	}
	if r := f.command("", "config", "explain", "--config", "/nowhere"); r.status != 1 || !strings.Contains(r.stderr, "does not exist") {
		t.Errorf("%+v", r)
	}
}

func TestVersion(t *testing.T) {
	f := newFakeQueue(t)
	if r := f.command("", "version"); r.status != 0 || !strings.HasPrefix(r.stdout, "taskcluster ") {
		t.Errorf("%+v", r)
	}
	if r := f.command("", "--version"); r.status != 0 || !strings.HasPrefix(r.stdout, "taskcluster ") {
		t.Errorf("%+v", r)
	}
	var v struct{ Version string }
	if r := f.command("", "version", "--json"); json.Unmarshal([]byte(r.stdout), &v) != nil || v.Version == "" {
		t.Errorf("%+v", r)
	}
}

func TestUsage(t *testing.T) {
	f := newFakeQueue(t)
	for _, c := range []struct {
		args   []string
		stderr string
	}{
		{[]string{"nonsense"}, "there is no command nonsense"},
		{[]string{"task", "nonsense"}, "there is no command nonsense"},
		{[]string{"taks"}, `there is no command taks, did you mean "task"?`},
		{[]string{"version", "nonsense"}, "unexpected argument nonsense"},
		{[]string{"task"}, "expected one of"},
		{[]string{"task", "log"}, `Run "taskcluster help task log" for help.`},
		{[]string{"task", "log", "short"}, `"short" is not an identifier`},
		{[]string{"run"}, `expected "<file> ..."`},
		{[]string{"group", "list", group, "--state", "odd"}, "--state must be one of"},
		{[]string{"completion", "tcsh"}, "must be one of"},
		{[]string{"help", "nonsense"}, `there is no command "nonsense"`},
		{[]string{"env", "--root-url", "http://x"}, "--root-url goes with --check"},
		{[]string{"worker"}, "missing flags: --task-queue-id"},
		{[]string{"worker", "--task-queue-id=a/b", "--capacity=0"}, "--capacity must be at least 1"},
		{[]string{"serve", "--unknown"}, "unknown flag --unknown"},
	} {
		r := f.command("", c.args...)
		if r.status != 2 || !strings.Contains(r.stderr, c.stderr) || r.stdout != "" {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
}

func TestInterruptedCall(t *testing.T) {
	f := newFakeQueue(t)
	r := f.session("", func(s *session) {
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		s.ctx = ctx
	}, "task", "status", idA)
	if r.status != 130 || !strings.Contains(r.stderr, "interrupted") {
		t.Errorf("%+v", r)
	}
}

// TestExplain: what a server says must not steer the terminal, and who cannot
// listen does not hear about a deployment that he cannot reach.
func TestExplain(t *testing.T) {
	const hint = "Is the deployment running"
	for _, c := range []struct {
		err           error
		want, wantNot string
	}{
		{&client.Error{StatusCode: 400, Code: "a\x1b[2J", Message: "b\x1b]0;c\a\nd\u202ee\r"}, "b\uFFFD]0;c\uFFFD\nd\uFFFDe\uFFFD", "\x1b"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}, hint, "\x1b"},
		{&net.OpError{Op: "listen", Net: "tcp", Err: errors.New("no such address")}, "no such address", hint},
	} {
		if got := explain(fmt.Errorf("call: %w", c.err)); !strings.Contains(got, c.want) || strings.Contains(got, c.wantNot) {
			t.Errorf("%q", got)
		}
	}
}

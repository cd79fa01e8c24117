package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/internal/clock"
	"taskcluster/internal/testenv"
	"taskcluster/worker"
	"taskcluster/worker/engine"
	"taskcluster/worker/engine/native"
)

// running is a worker under test.
type running struct {
	*worker.Worker
	q    *fakeQueue
	dir  string
	stop context.CancelFunc
	done chan error
	log  *testenv.Buffer
}

// start runs a worker until the test ends.
func start(t *testing.T, q *fakeQueue, change ...func(*worker.Config)) *running {
	t.Helper()
	log := &testenv.Buffer{}
	cfg := worker.Config{
		RootURL: q.url, Credentials: client.Credentials{ClientID: "the-worker", AccessToken: "worker-secret"},
		TaskQueueID: "local/native", WorkerGroup: "group", WorkerID: "worker", TasksDir: filepath.Join(t.TempDir(), "tasks"),
		Engine: &native.Engine{Grace: 10 * time.Millisecond}, Clock: q.clock, Log: slog.New(slog.NewTextHandler(log, nil)),
		Retry: worker.RetryPauses{Claim: time.Millisecond, Upload: time.Millisecond, Call: time.Millisecond},
		Grace: time.Hour,
	}
	for _, f := range change {
		f(&cfg)
	}
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{w, q, cfg.TasksDir, stop, make(chan error, 1), log}
	go func() { r.done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		w.Kill()
		r.wait(t)
		r.clean(t)
	})
	return r
}

// wait waits until Run has returned.
func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(patience):
		t.Fatal("the worker did not end")
		return nil
	}
}

// clean checks that nothing is left of the tasks, and no secret in any log.
func (r *running) clean(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if e.Name() != ".lock" {
			t.Errorf("%s was left behind", e.Name())
		}
	}
	noSecrets(t, r.log.String())
}

func noSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"worker-secret", "task-secret", "task-certificate", "signature="} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in a log:\n%s", secret, text)
		}
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		at := strings.Index(text, part)
		if at < 0 {
			t.Errorf("%q is missing, or out of order, in\n%s", part, text)
			return
		}
		text = text[at+len(part):]
	}
}

func TestSuccess(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(`{"command": [["sh", "-c", "echo first; pwd"], ["echo", "it's", "second"]], "maxRunTime": 60}`)
	q.resolved(task, "completed")
	log := q.log(task)
	stamp := `\[taskcluster \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] `
	pattern := `(?s)^` + stamp + `Worker Type \(local/native\) settings:\n` + stamp + `  {\n.*` +
		stamp + `Task ID: ` + task.id + `\n.*` +
		stamp + `=== Task Starting ===\n` +
		stamp + `Executing command 0: sh -c 'echo first; pwd'\nfirst\n/\S+/task_\S+\n` +
		stamp + `   Exit Code: 0\n` + stamp + `   User Time: \S+s\n` + stamp + ` Kernel Time: \S+s\n` + stamp + `   Wall Time: \S+s\n` + stamp + `      Result: SUCCEEDED\n` +
		stamp + `Executing command 1: echo 'it'\\''s' second\nit's second\n.*` + stamp + `      Result: SUCCEEDED\n` +
		stamp + `=== Task Finished ===\n` + stamp + `Task Duration: \S+s\n` +
		stamp + `Uploading artifact public/logs/live_backing.log .*\n` + stamp + `Uploading link artifact public/logs/live.log .*\n$`
	if !regexp.MustCompile(pattern).MatchString(log) {
		t.Errorf("the log is\n%s", log)
	}
	noSecrets(t, log)
	link := q.artifact(task, "public/logs/live.log")
	if link.StorageType != "link" || link.Artifact != "public/logs/live_backing.log" || !link.Expires.Equal(task.def.Expires.Time) {
		t.Errorf("%+v", link)
	}
	if len(q.names(task)) != 2 {
		t.Error(q.names(task))
	}
}

func TestFailureStopsAtTheFirstCommand(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(`{"command": [["true"], ["sh", "-c", "exit 3"], ["echo", "never"]], "maxRunTime": 60,
		"onExitStatus": {"retry": [4], "purgeCaches": [3]}}`)
	q.resolved(task, "failed")
	log := q.log(task)
	contains(t, log, "Exit Code: 0", "SUCCEEDED", "Exit Code: 3", "Result: FAILED", "=== Task Finished ===", "[taskcluster:error] exit status 3")
	if strings.Contains(log, "never") {
		t.Error("the commands after the one that failed were run")
	}
}

func TestExitStatusThatMeansRetry(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(sh("exit 4", `"onExitStatus": {"retry": [1, 4]}`))
	q.resolved(task, "exception/intermittent-task")
	contains(t, q.log(task), "exit status 4")
}

func TestProgramNotFound(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(`{"command": [["no-such-program"]], "maxRunTime": 60}`)
	q.resolved(task, "failed")
	contains(t, q.log(task), `[taskcluster:error] program "no-such-program" was not found`)
}

func TestEnvironment(t *testing.T) {
	t.Setenv("TASKCLUSTER_ACCESS_TOKEN", "worker-secret")
	t.Setenv("TASKCLUSTER_CERTIFICATE", "worker-secret")
	t.Setenv("SOME_PASSWORD", "worker-secret")
	t.Setenv("HARMLESS", "inherited")
	q := newQueue(t, clock.Real{})
	start(t, q, func(c *worker.Config) { c.InstanceType, c.WorkerLocation = "small", `{"cloud":"none"}` })
	task := q.add(sh("env; test $(pwd) = $TASK_WORKDIR", `"env": {"MINE": "a b", "RUN_ID": "99", "HARMLESS": "changed"}`))
	q.resolved(task, "completed")
	log := q.log(task)
	for _, line := range []string{
		"TASK_ID=" + task.id, "RUN_ID=0", "TASK_GROUP_ID=the-group", "TASKCLUSTER_ROOT_URL=" + q.url, "MINE=a b", "HARMLESS=changed",
		"TASKCLUSTER_INSTANCE_TYPE=small", `TASKCLUSTER_WORKER_LOCATION={"cloud":"none"}`,
	} {
		if !strings.Contains(log, "\n"+line+"\n") {
			t.Errorf("%s is missing in\n%s", line, log)
		}
	}
	contains(t, log, "[taskcluster:warn ", "payload.env.RUN_ID is not used")
	noSecrets(t, log)
}

func TestMalformedPayloads(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q, func(c *worker.Config) { c.Capacity = 4 })
	cases := map[string][]string{
		`{"command": [["true"]]}`:                {"maxRunTime"},
		`{"maxRunTime": 1, "command": ["true"]}`: {"command/0"},
		`"text"`:                                 {"payload"},
		sh("true", `"env": {"A": 1}`):            {"env/A"},
		sh("true", `"mounts": [{"cacheName": "c", "directory": "d"}]`):                                {"mounts"},
		sh("true", `"features": {"taskclusterProxy": true, "interactive": true}`):                     {"features.interactive", "features.taskclusterProxy"},
		sh("true", `"osGroups": ["docker"]`):                                                          {"osGroups"},
		`{"image": "ubuntu", "maxRunTime": 1}`:                                                        {"image"},
		`{"command": [["true"]], "maxRunTime": 86401}`:                                                {"maxRunTime", "86401", "86400"},
		sh("true", `"artifacts": [{"type": "file", "path": "x", "expires": "2020-01-01T00:00:00Z"}]`): {"artifacts[0]", "before the task's deadline"},
		sh("true", `"artifacts": [{"type": "file", "path": "x", "expires": "2099-01-01T00:00:00Z"}]`): {"artifacts[0]", "after the task does"},
		sh("true", `"artifacts": [{"type": "file", "path": "x", "name": "ä"}]`):                       {"artifacts[0]", "printable ASCII"},
		sh("true", `"logs": {"live": "public/logs/live_backing.log"}`):                                {"logs.live", "logs.backing"},
	}
	tasks := map[string]*fakeTask{}
	for payload := range cases {
		tasks[payload] = q.add(payload)
	}
	for payload, words := range cases {
		q.resolved(tasks[payload], "exception/malformed-payload")
		log := q.log(tasks[payload])
		contains(t, log, append([]string{"[taskcluster:error] "}, words...)...)
		if strings.Contains(log, "Task Starting") {
			t.Errorf("%s was started", payload)
		}
	}
}

func TestSupersederIsMentioned(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(sh("true", `"supersederUrl": "https://example.com"`))
	q.resolved(task, "completed")
	contains(t, q.log(task), "supersederUrl is not used")
}

func TestHugeAndBinaryOutput(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(sh(`head -c 30000000 /dev/zero | tr '\0' x; printf '\377\376\000end'`))
	q.resolved(task, "completed")
	log := q.log(task)
	if n := strings.Count(log, "x"); n < 30_000_000 || n > 30_000_100 {
		t.Errorf("%d bytes of 30000000 are in the log", n)
	}
	contains(t, log[30_000_000:], "\xff\xfe\x00end\n[taskcluster ", "Exit Code: 0")
}

func TestLogLimit(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q, func(c *worker.Config) { c.LogLimit = 10_000 })
	task := q.add(sh(`head -c 1000000 /dev/zero | tr '\0' x; exit 5`))
	q.resolved(task, "failed")
	log := q.log(task)
	if len(log) > 12_000 {
		t.Errorf("%d bytes", len(log))
	}
	contains(t, log, "reached its limit of 10000 bytes", "Exit Code: 5", "Task Finished")
}

func TestLogsAsThePayloadWantsThem(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	neither := q.add(sh("true", `"features": {"liveLog": false, "backingLog": false}`))
	backing := q.add(sh("true", `"features": {"liveLog": false}`, `"logs": {"backing": "private/b"}`))
	live := q.add(sh("true", `"features": {"backingLog": false}`, `"logs": {"live": "private/l"}`))
	named := q.add(sh("true", `"logs": {"live": "private/l", "backing": "private/b"}`))
	for task, want := range map[*fakeTask][]string{
		neither: nil, backing: {"private/b s3"}, live: {"private/l reference"}, named: {"private/b s3", "private/l link"},
	} {
		q.resolved(task, "completed")
		got := q.names(task)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", task.def.Payload, got, want)
		}
	}
}

// touch writes a word to a file in the directory of the only task.
func touch(t *testing.T, w *running, name string) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(w.dir, "task_*[0-9]"))
	if err != nil || len(dirs) != 1 {
		t.Fatal(dirs, err)
	}
	if err := os.WriteFile(filepath.Join(dirs[0], name), []byte("word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLiveLogIsFollowedByTwoReaders(t *testing.T) {
	q := newQueue(t, clock.Real{})
	w := start(t, q)
	task := q.add(sh("mkfifo gate; echo one; read line < gate; echo two $line"))
	first := q.follow(task)
	first.until("one\n")
	second := q.follow(task) // late, and from the first byte
	second.until("one\n")
	touch(t, w, "gate")
	q.resolved(task, "completed")
	kept := q.log(task)
	contains(t, kept, "one\ntwo word\n")
	for i, reader := range []*liveLog{first, second} {
		if text := reader.rest(); text != kept {
			t.Errorf("reader %d got\n%s\nkept is\n%s", i, text, kept)
		}
	}
}

func TestCapacity(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q, func(c *worker.Config) { c.Capacity = 3 })
	var tasks []*fakeTask
	for range 12 {
		tasks = append(tasks, q.add(sh("true")))
	}
	for _, task := range tasks {
		q.resolved(task, "completed")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[0].Tasks != 3 || q.claims[0].WorkerGroup != "group" || q.claims[0].WorkerID != "worker" {
		t.Errorf("%+v", q.claims[0])
	}
	if q.busiest != 3 {
		t.Errorf("%d runs under way or asked for, with 3 slots", q.busiest)
	}
}

// A fault of the worker itself resolves the run, and the worker goes on.
func TestPanicEndsOnlyItsRun(t *testing.T) {
	q := newQueue(t, clock.Real{})
	w := start(t, q, func(c *worker.Config) { c.Engine = &faulty{Engine: c.Engine} })
	q.resolved(q.add(sh("true")), "exception/internal-error")
	q.resolved(q.add(sh("true")), "completed")
	contains(t, w.log.String(), "run panicked", "faulty")
}

// faulty is an engine that panics once.
type faulty struct {
	engine.Engine
	once sync.Once
}

func (f *faulty) Prepare(ctx context.Context, dir string) (engine.Sandbox, error) {
	f.once.Do(func() { panic("faulty") })
	return f.Engine.Prepare(ctx, dir)
}

func TestNumberOfTasks(t *testing.T) {
	q := newQueue(t, clock.Real{})
	for range 3 {
		q.add(sh("true"))
	}
	w := start(t, q, func(c *worker.Config) { c.NumberOfTasks, c.Capacity = 2, 5 })
	if err := w.wait(t); err != nil {
		t.Fatal(err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) != 1 {
		t.Errorf("%d tasks are left, want 1", len(q.pending))
	}
}

func TestOneWorkerPerDirectory(t *testing.T) {
	q := newQueue(t, clock.Real{})
	dir := filepath.Join(t.TempDir(), "tasks")
	left := filepath.Join(dir, "task_old", "locked")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(left, "f"), nil, 0o600)
	os.Chmod(left, 0o500)
	use := func(c *worker.Config) { c.TasksDir = dir }
	start(t, q, use)
	q.until("claim", func() bool { return len(q.claims) > 0 })
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Error("what a crashed worker left was not removed")
	}
	cfg := worker.Config{
		RootURL: q.url, TaskQueueID: "local/native", WorkerGroup: "g", WorkerID: "w2", TasksDir: dir, Engine: &native.Engine{},
	}
	second, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another worker") {
		t.Error(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := worker.New(worker.Config{TaskQueueID: "no-slash", WorkerID: strings.Repeat("x", 39), Capacity: -1})
	if err == nil {
		t.Fatal("accepted")
	}
	contains(t, err.Error(), "root URL", "no-slash", "worker id", "engine", "directory", "negative")
	if _, err = worker.New(worker.Config{Engine: absent{&native.Engine{}}}); err == nil || !strings.Contains(err.Error(), "not on this system") {
		t.Errorf("an engine that cannot run here: %v", err)
	}
}

// absent is an engine of another system.
type absent struct{ engine.Engine }

func (absent) Check() error { return errors.New("not on this system") }

// A worker in the same process as the deployment needs no socket, and its live
// logs may be served by that.
func TestInTheProcessOfTheDeployment(t *testing.T) {
	q := newQueue(t, clock.Real{})
	q.server.Close()
	site := httptest.NewUnstartedServer(nil)
	mux := http.NewServeMux()
	site.Config.Handler = mux
	w := start(t, q, func(c *worker.Config) {
		c.Transport = client.InProcess(q.mux)
		c.LiveLogURL = "http://" + site.Listener.Addr().String() + "/livelog"
	})
	mux.Handle("/livelog/", w.LiveLogHandler())
	site.Start()
	t.Cleanup(site.Close)
	task := q.add(withArtifacts("mkfifo gate; echo one > a; echo ready; read line < gate", `{"type": "file", "path": "a"}`))
	live := q.follow(task)
	live.until("ready\n")
	touch(t, w, "gate")
	q.resolved(task, "completed")
	if text := q.log(task); live.rest() != text {
		t.Error(text)
	}
	if content, _ := q.stored(task, "a"); content != "one\n" {
		t.Error(content)
	}
}

package worker_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/blob"
	"taskcluster/internal/blob/fs"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
)

// patience is how long tests wait for what must come.
const patience = 60 * time.Second

// fakeQueue is as much of the queue as a worker needs, with the queue's rules:
// who may call, what an artifact may be replaced by, when artifacts are taken.
type fakeQueue struct {
	t      *testing.T
	url    string
	mux    *http.ServeMux
	server *httptest.Server
	clock  clock.Clock
	claim  time.Duration // length of a claim
	blobs  *fs.Store
	closed chan struct{}

	mu      sync.Mutex
	changed chan struct{}
	pending []*fakeTask
	tasks   map[string]*fakeTask
	claims  []queue.ClaimWorkRequest
	empty   int // claims to answer with nothing
	busiest int // most runs under way and asked for at once
	// fail answers calls with errors, as long as it returns a status that is not 0.
	fail func(method, name string) int
}

type fakeTask struct {
	id        string
	def       queue.Task
	state     string // pending, running, completed, failed, exception
	reason    string
	owner     string // worker id, if it is not that of the worker under test
	reports   int
	asked     int // how often its status was
	reclaims  int // credentials are numbered by it
	artifacts map[string]*queue.PostArtifactRequest
	creates   map[string]int
}

func newQueue(t *testing.T, c clock.Clock) *fakeQueue {
	q := &fakeQueue{
		t: t, clock: c, claim: 20 * time.Minute, closed: make(chan struct{}), changed: make(chan struct{}),
		tasks: map[string]*fakeTask{}, fail: func(string, string) int { return 0 },
	}
	mux := http.NewServeMux()
	api := "/api/queue/v1"
	mux.HandleFunc("POST "+api+"/claim-work/{queue}", q.claimWork)
	mux.HandleFunc("GET "+api+"/task/{task}/status", q.status)
	run := api + "/task/{task}/runs/{run}"
	mux.HandleFunc("POST "+run+"/reclaim", q.own("reclaimTask", q.reclaim))
	mux.HandleFunc("POST "+run+"/completed", q.own("reportCompleted", q.resolve("completed")))
	mux.HandleFunc("POST "+run+"/failed", q.own("reportFailed", q.resolve("failed")))
	mux.HandleFunc("POST "+run+"/exception", q.own("reportException", q.resolve("exception")))
	mux.HandleFunc("POST "+run+"/artifacts/{name...}", q.own("createArtifact", q.createArtifact))
	server := httptest.NewServer(mux)
	q.url, q.mux, q.server = server.URL, mux, server
	blobs, err := fs.New(t.TempDir(), fs.Options{RootURL: q.url, Key: bytes.Repeat([]byte{1}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	q.blobs = blobs
	mux.HandleFunc("/blob/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			if status := q.failing("PUT", r.URL.Path); status != 0 {
				http.Error(w, "the storage is out of order", status)
				return
			}
		}
		blobs.Handler().ServeHTTP(w, r)
	})
	t.Cleanup(func() { close(q.closed); server.Close() })
	return q
}

func (q *fakeQueue) failing(method, name string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fail(method, name)
}

// failWith sets what fails.
func (q *fakeQueue) failWith(f func(method, name string) int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fail = f
}

// wake tells those who wait that something changed. The lock is held.
func (q *fakeQueue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// until waits for a condition on the queue's state.
func (q *fakeQueue) until(what string, condition func() bool) {
	q.t.Helper()
	timeout := time.After(patience)
	for {
		q.mu.Lock()
		met, changed := condition(), q.changed
		q.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			q.t.Fatalf("it did not come to be: %s", what)
		}
	}
}

// answerEmpty ends the wait of one claim with nothing.
func (q *fakeQueue) answerEmpty() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.empty++
	q.wake()
}

// add makes a task pending. The payload is JSON.
func (q *fakeQueue) add(payload string, change ...func(*queue.Task)) *fakeTask {
	q.t.Helper()
	if !json.Valid([]byte(payload)) {
		q.t.Fatalf("not JSON: %s", payload)
	}
	now := q.clock.Now().Truncate().Std()
	task := &fakeTask{
		id: slugid.New().String(), state: "pending",
		def: queue.Task{
			ProvisionerID: "local", WorkerType: "native", TaskQueueID: "local/native", TaskGroupID: "the-group",
			Created: client.At(now), Deadline: client.At(now.Add(24 * time.Hour)), Expires: client.At(now.Add(48 * time.Hour)),
			Payload: json.RawMessage(payload), Scopes: []string{}, Tags: map[string]string{},
		},
		artifacts: map[string]*queue.PostArtifactRequest{}, creates: map[string]int{},
	}
	for _, f := range change {
		f(&task.def)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks[task.id] = task
	q.pending = append(q.pending, task)
	q.wake()
	return task
}

// sh makes the payload of a task that runs a script, with more members.
func sh(script string, more ...string) string {
	text, _ := json.Marshal(script)
	return fmt.Sprintf(`{"command": [["sh", "-c", %s]], "maxRunTime": 3600%s}`, text, strings.Join(append([]string{""}, more...), ", "))
}

// resolved waits until a task is.
func (q *fakeQueue) resolved(task *fakeTask, want string) {
	q.t.Helper()
	q.until("task resolved", func() bool { return task.state != "pending" && task.state != "running" })
	q.mu.Lock()
	defer q.mu.Unlock()
	got := task.state
	if task.reason != "" {
		got += "/" + task.reason
	}
	if got != want {
		q.t.Errorf("the task is %s, want %s", got, want)
	}
}

var hawkID = regexp.MustCompile(`^Hawk id="([^"]+)"`)

func caller(r *http.Request) string {
	if m := hawkID.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		return m[1]
	}
	return ""
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]any{"code": http.StatusText(status), "message": message, "requestInfo": map[string]any{}})
}

func (q *fakeQueue) claimWork(w http.ResponseWriter, r *http.Request) {
	var in queue.ClaimWorkRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Tasks < 1 || in.Tasks > 32 {
		refuse(w, 400, "bad request")
		return
	}
	if caller(r) != "the-worker" || r.PathValue("queue") != "local/native" {
		refuse(w, 403, "not this worker")
		return
	}
	if status := q.failing("claimWork", ""); status != 0 {
		refuse(w, status, "out of order")
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.claims = append(q.claims, in)
	busy := in.Tasks
	for _, task := range q.tasks {
		if task.state == "running" {
			busy++
		}
	}
	q.busiest = max(q.busiest, busy)
	q.wake()
	for len(q.pending) == 0 {
		if q.empty > 0 {
			q.empty--
			reply(w, 200, queue.ClaimWorkResponse{Tasks: []queue.ClaimWorkResponseTask{}})
			return
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
			q.mu.Lock()
			continue
		case <-r.Context().Done():
		case <-q.closed:
		}
		q.mu.Lock()
		return
	}
	out := queue.ClaimWorkResponse{}
	for range min(in.Tasks, len(q.pending)) {
		task := q.pending[0]
		q.pending = q.pending[1:]
		task.state = "running"
		out.Tasks = append(out.Tasks, queue.ClaimWorkResponseTask{
			Credentials: credentials(task), TakenUntil: client.At(q.clock.Now().Add(q.claim).Std()), Task: task.def,
			Status: queue.TaskStatus{TaskID: task.id}, WorkerGroup: in.WorkerGroup, WorkerID: in.WorkerID,
		})
	}
	q.wake()
	reply(w, 200, out)
}

// status answers the worker itself, whose credentials are not those of the run.
func (q *fakeQueue) status(w http.ResponseWriter, r *http.Request) {
	status := q.failing("status", "")
	q.mu.Lock()
	defer q.mu.Unlock()
	task := q.tasks[r.PathValue("task")]
	task.asked++
	defer q.wake()
	switch {
	case status != 0:
		refuse(w, status, "out of order")
	case caller(r) != "the-worker":
		refuse(w, 403, "not the worker's credentials")
	default:
		run := queue.TaskStatusRun{
			State: task.state, ReasonResolved: task.reason, WorkerGroup: "group", WorkerID: cmp.Or(task.owner, "worker"),
		}
		reply(w, 200, queue.TaskStatusResponse{Status: queue.TaskStatus{TaskID: task.id, State: task.state, Runs: []queue.TaskStatusRun{run}}})
	}
}

// credentials have the task's scopes in their certificate, as the queue's have.
func credentials(task *fakeTask) queue.TaskCredentials {
	scopes, err := json.Marshal(append([]string{}, task.def.Scopes...))
	if err != nil {
		panic(err)
	}
	return queue.TaskCredentials{
		ClientID: fmt.Sprintf("task-client/%s/%d", task.id, task.reclaims), AccessToken: "task-secret",
		Certificate: `{"version":1,"scopes":` + string(scopes) + `,"start":1,"expiry":2,"seed":"x","signature":"task-certificate","issuer":"queue"}`,
	}
}

// own lets only the present credentials of the run call a method.
func (q *fakeQueue) own(method string, f func(http.ResponseWriter, *http.Request, *fakeTask)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if status := q.failing(method, r.PathValue("name")); status != 0 {
			refuse(w, status, "out of order")
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		task := q.tasks[r.PathValue("task")]
		if task == nil || r.PathValue("run") != "0" {
			refuse(w, 404, "no such run")
			return
		}
		if caller(r) != credentials(task).ClientID {
			refuse(w, 403, "these are not the credentials of this claim")
			return
		}
		defer q.wake()
		f(w, r, task)
	}
}

func (q *fakeQueue) reclaim(w http.ResponseWriter, _ *http.Request, task *fakeTask) {
	if task.state != "running" {
		refuse(w, 409, "the run is not running")
		return
	}
	task.reclaims++
	reply(w, 200, queue.TaskReclaimResponse{
		Credentials: credentials(task), TakenUntil: client.At(q.clock.Now().Add(q.claim).Std()),
		Status: queue.TaskStatus{TaskID: task.id},
	})
}

func (q *fakeQueue) resolve(state string) func(http.ResponseWriter, *http.Request, *fakeTask) {
	return func(w http.ResponseWriter, r *http.Request, task *fakeTask) {
		if task.state != "running" {
			refuse(w, 409, "the run is not running")
			return
		}
		var in queue.TaskExceptionRequest
		json.NewDecoder(r.Body).Decode(&in)
		task.state, task.reason = state, in.Reason
		task.reports++
		reply(w, 200, queue.TaskStatusResponse{Status: queue.TaskStatus{TaskID: task.id, State: state}})
	}
}

func (q *fakeQueue) createArtifact(w http.ResponseWriter, r *http.Request, task *fakeTask) {
	name := r.PathValue("name")
	var in queue.PostArtifactRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, err.Error())
		return
	}
	old := task.artifacts[name]
	switch {
	case task.state == "completed" || task.state == "failed":
		refuse(w, 409, "the run is resolved")
		return
	case in.Expires.After(task.def.Expires.Time):
		refuse(w, 400, "the artifact expires after the task")
		return
	case old != nil && (old.ContentType != in.ContentType && in.StorageType != "link" || in.Expires.Before(old.Expires.Time) ||
		old.StorageType != in.StorageType && !(old.StorageType == "reference" && in.StorageType == "link")):
		refuse(w, 409, "the artifact exists with other properties")
		return
	}
	task.artifacts[name] = &in
	task.creates[name]++
	out := queue.PostArtifactResponse{StorageType: in.StorageType, ContentType: in.ContentType, Expires: in.Expires}
	if in.StorageType == "s3" {
		var err error
		if out.PutURL, err = q.blobs.PutURL(r.Context(), task.id+"/0/"+name, blob.Upload{ContentType: in.ContentType, Length: blob.AnyLength}, time.Hour); err != nil {
			refuse(w, 500, err.Error())
			return
		}
	}
	reply(w, 200, out)
}

// artifact returns what was declared.
func (q *fakeQueue) artifact(task *fakeTask, name string) *queue.PostArtifactRequest {
	q.mu.Lock()
	defer q.mu.Unlock()
	return task.artifacts[name]
}

// names lists a task's artifacts as "name type".
func (q *fakeQueue) names(task *fakeTask) (names []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, a := range task.artifacts {
		names = append(names, strings.TrimSpace(name+" "+a.StorageType+" "+a.Reason))
	}
	return names
}

// stored returns the decoded bytes of an artifact, and how they were encoded.
func (q *fakeQueue) stored(task *fakeTask, name string) (content, encoding string) {
	q.t.Helper()
	r, info, err := q.blobs.Open(q.t.Context(), task.id+"/0/"+name)
	if err != nil {
		q.t.Fatalf("artifact %s: %v", name, err)
	}
	defer r.Close()
	var in io.Reader = r
	if info.ContentEncoding == "gzip" {
		if in, err = gzip.NewReader(r); err != nil {
			q.t.Fatal(err)
		}
	}
	b, err := io.ReadAll(in)
	if err != nil {
		q.t.Fatal(err)
	}
	if a := q.artifact(task, name); a == nil || a.ContentLength == nil || strconv.Itoa(*a.ContentLength) != strconv.Itoa(len(b)) {
		q.t.Errorf("artifact %s was declared as %+v, it has %d bytes", name, a, len(b))
	}
	return string(b), info.ContentEncoding
}

// log returns the log that was kept.
func (q *fakeQueue) log(task *fakeTask) string {
	q.t.Helper()
	q.until("live log linked to the log that is kept", func() bool {
		a := task.artifacts["public/logs/live.log"]
		return a != nil && a.StorageType == "link"
	})
	text, encoding := q.stored(task, "public/logs/live_backing.log")
	if encoding != "gzip" {
		q.t.Errorf("the log is stored as %q", encoding)
	}
	return text
}

// follow reads the live log while the task runs.
func (q *fakeQueue) follow(task *fakeTask) *liveLog {
	q.t.Helper()
	q.until("live log", func() bool { return task.artifacts["public/logs/live.log"] != nil })
	a := q.artifact(task, "public/logs/live.log")
	u, err := url.Parse(a.URL)
	if a.StorageType != "reference" || err != nil {
		q.t.Fatalf("the live log is %+v", a)
	}
	resp, err := http.Get(u.String())
	if err != nil {
		q.t.Fatal(err)
	}
	q.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		q.t.Fatal(resp.Status, resp.Header)
	}
	return &liveLog{q.t, resp.Body, ""}
}

type liveLog struct {
	t    *testing.T
	body io.Reader
	text string
}

// until reads until the text has come.
func (l *liveLog) until(part string) { l.t.Helper(); l.count(part, 1) }

// count reads until the text has come so often.
func (l *liveLog) count(part string, want int) {
	l.t.Helper()
	buf := make([]byte, 4096)
	for strings.Count(l.text, part) < want {
		n, err := l.body.Read(buf)
		l.text += string(buf[:n])
		if err != nil {
			l.t.Fatalf("the live log ended (%v) without %q:\n%s", err, part, l.text)
		}
	}
}

// rest reads to the end and returns all.
func (l *liveLog) rest() string {
	l.t.Helper()
	b, err := io.ReadAll(l.body)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.text + string(b)
}

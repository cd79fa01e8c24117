package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
)

// fakeQueue answers the calls that the commands make, and has a worker of its
// own: at each time that a client asks for states, every task takes a step.
// What a task does stands in its environment: END is the state it ends in
// (default completed), LOG its log, KEPT the log that its worker has uploaded
// already; with GROWS, its live log does not end.
type fakeQueue struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	tasks    map[string]*fakeTask
	order    []string
	refuse   string         // name of a task whose creation is refused
	frozen   bool           // tasks do not step
	failures int            // how many polls to refuse with 500
	ended    chan struct{}  // closed when a step finds that all tasks have ended
	breakLog map[string]int // by task name: bytes after which a connection breaks, once
}

type fakeTask struct {
	def    queue.Task
	status queue.TaskStatus
	env    map[string]string
}

func newFakeQueue(t *testing.T) *fakeQueue {
	f := &fakeQueue{t: t, tasks: map[string]*fakeTask{}, breakLog: map[string]int{}, ended: make(chan struct{})}
	mux := http.NewServeMux()
	handle := func(pattern string, h func(w http.ResponseWriter, r *http.Request) any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if reply := h(w, r); reply != nil {
				w.Header().Set("Content-Type", "application/json")
				json.NewEncoder(w).Encode(reply)
			}
		})
	}
	const v1 = "/api/queue/v1"
	handle("PUT "+v1+"/task/{id}", f.create)
	handle("GET "+v1+"/task/{id}", func(w http.ResponseWriter, r *http.Request) any {
		if t := f.find(w, r); t != nil {
			return t.def
		}
		return nil
	})
	handle("GET "+v1+"/task/{id}/status", func(w http.ResponseWriter, r *http.Request) any {
		t := f.find(w, r)
		if t == nil {
			return nil
		}
		f.step()
		return queue.TaskStatusResponse{Status: t.status}
	})
	handle("POST "+v1+"/tasks/status", f.statuses)
	handle("POST "+v1+"/task/{id}/cancel", f.cancel)
	handle("POST "+v1+"/task/{id}/rerun", func(w http.ResponseWriter, r *http.Request) any {
		t := f.find(w, r)
		if t == nil {
			return nil
		}
		t.start("rerun")
		return queue.TaskStatusResponse{Status: t.status}
	})
	handle("GET "+v1+"/task-group/{id}/list", f.list)
	handle("GET "+v1+"/task/{id}/runs/{run}/artifact-content/{name...}", f.artifact)
	handle("GET "+v1+"/task/{id}/artifact-content/{name...}", f.artifact)
	handle("GET "+v1+"/task/{id}/artifacts", f.artifacts)
	handle("GET "+v1+"/task/{id}/runs/{run}/artifacts", f.artifacts)
	handle("GET /storage/{id}/{name...}", f.storage)
	mux.HandleFunc("GET /growing/{id}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		log := f.tasks[r.PathValue("id")].env["LOG"]
		f.mu.Unlock()
		io.WriteString(w, log)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	handle("GET /api/auth/v1/scopes/current", func(w http.ResponseWriter, r *http.Request) any {
		if !strings.HasPrefix(r.Header.Get("Authorization"), `Hawk id="static/taskcluster/root"`) {
			return map[string][]string{"scopes": {"anonymous:only"}}
		}
		return map[string][]string{"scopes": {"*"}}
	})
	f.server = httptest.NewServer(mux)
	t.Cleanup(f.server.Close)
	return f
}

func fail(w http.ResponseWriter, status int, code, message string) any {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"code": code, "message": message, "requestInfo": map[string]any{}})
	return nil
}

func (f *fakeQueue) find(w http.ResponseWriter, r *http.Request) *fakeTask {
	t := f.tasks[r.PathValue("id")]
	if t == nil {
		fail(w, 404, "ResourceNotFound", "no such task")
	}
	return t
}

func (f *fakeQueue) create(w http.ResponseWriter, r *http.Request) any {
	id := r.PathValue("id")
	t := &fakeTask{}
	if err := json.NewDecoder(r.Body).Decode(&t.def); err != nil {
		return fail(w, 400, "MalformedPayload", err.Error())
	}
	if t.def.Metadata.Name == f.refuse {
		return fail(w, 403, "InsufficientScopes", "scopes are missing")
	}
	var payload struct{ Env map[string]string }
	if err := json.Unmarshal(t.def.Payload, &payload); err != nil {
		f.t.Error(err)
	}
	t.env = payload.Env
	for _, d := range t.def.Dependencies {
		if f.tasks[d] == nil {
			return fail(w, 400, "InputError", "dependency "+d+" does not exist")
		}
	}
	t.status = queue.TaskStatus{
		TaskID: id, TaskGroupID: t.def.TaskGroupID, TaskQueueID: t.def.TaskQueueID, State: "unscheduled",
		Deadline: t.def.Deadline, RetriesLeft: 5, Runs: []queue.TaskStatusRun{},
	}
	f.tasks[id] = t
	f.order = append(f.order, id)
	f.step0(t)
	return queue.TaskStatusResponse{Status: t.status}
}

var fakeTime = time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)

func (t *fakeTask) start(reason string) {
	t.status.State = "pending"
	t.status.Runs = append(t.status.Runs, queue.TaskStatusRun{
		RunID: len(t.status.Runs), State: "pending", ReasonCreated: reason, Scheduled: client.At(fakeTime),
	})
}

// step0 schedules a task when its dependencies have completed.
func (f *fakeQueue) step0(t *fakeTask) {
	for _, d := range t.def.Dependencies {
		if f.tasks[d].status.State != "completed" {
			return
		}
	}
	t.start("scheduled")
}

// step moves every task on by one state.
func (f *fakeQueue) step() {
	if f.frozen {
		return
	}
	before := map[string]string{}
	for _, id := range f.order {
		before[id] = f.tasks[id].status.State
	}
	var unscheduled []*fakeTask
	defer func() {
		for _, t := range unscheduled {
			f.step0(t)
		}
		if f.over() {
			select {
			case <-f.ended:
			default:
				close(f.ended)
			}
		}
	}()
	for _, id := range f.order {
		t := f.tasks[id]
		switch before[id] {
		case "unscheduled":
			unscheduled = append(unscheduled, t)
		case "pending":
			run := latest(&t.status)
			t.status.State, run.State, run.Started = "running", "running", client.At(fakeTime.Add(time.Second))
			run.WorkerGroup, run.WorkerID = "group", "worker"
		case "running":
			state, reason := "completed", "completed"
			if end := t.env["END"]; end != "" {
				state, reason, _ = strings.Cut(end, " ")
			}
			t.end(state, reason)
		}
	}
}

func (f *fakeQueue) over() bool {
	for _, t := range f.tasks {
		if !resolved(t.status.State) {
			return false
		}
	}
	return true
}

func (t *fakeTask) end(state, reason string) {
	if reason == "" {
		reason = state
	}
	if len(t.status.Runs) == 0 {
		t.start("exception")
	}
	run := latest(&t.status)
	t.status.State, run.State, run.ReasonResolved, run.Resolved = state, state, reason, client.At(fakeTime.Add(4*time.Second))
}

func (f *fakeQueue) statuses(w http.ResponseWriter, r *http.Request) any {
	if f.failures > 0 {
		f.failures--
		return fail(w, 500, "InternalServerError", "the fake is ill")
	}
	var in queue.TasksRequest
	json.NewDecoder(r.Body).Decode(&in)
	if len(in.TaskIDs) == 0 || len(in.TaskIDs) > 1000 {
		return fail(w, 400, "InputValidationError", "between 1 and 1000 taskIds")
	}
	page := 2
	if len(in.TaskIDs) > 100 {
		page = 400
	}
	at, _ := strconv.Atoi(r.URL.Query().Get("continuationToken"))
	if at == 0 {
		f.step()
	}
	var out queue.TasksStatusesResponse
	for _, id := range in.TaskIDs[at:min(at+page, len(in.TaskIDs))] {
		if t := f.tasks[id]; t != nil {
			out.Statuses = append(out.Statuses, queue.TasksStatusesResponseStatus{TaskID: id, Status: t.status})
		}
	}
	if at+page < len(in.TaskIDs) {
		out.ContinuationToken = strconv.Itoa(at + page)
	}
	return out
}

func (f *fakeQueue) cancel(w http.ResponseWriter, r *http.Request) any {
	t := f.find(w, r)
	if t == nil {
		return nil
	}
	if t.def.Metadata.Name == "overdue" {
		return fail(w, 409, "RequestConflict", "the deadline is past")
	}
	if !resolved(t.status.State) {
		t.end("exception", "canceled")
	}
	return queue.TaskStatusResponse{Status: t.status}
}

func (f *fakeQueue) list(w http.ResponseWriter, r *http.Request) any {
	at, _ := strconv.Atoi(r.URL.Query().Get("continuationToken"))
	out := queue.ListTaskGroupResponse{TaskGroupID: r.PathValue("id"), Tasks: []queue.TaskDefinitionAndStatus{}}
	var members []string
	for _, id := range f.order {
		if f.tasks[id].status.TaskGroupID == r.PathValue("id") {
			members = append(members, id)
		}
	}
	if len(members) == 0 {
		return fail(w, 404, "ResourceNotFound", "no such group")
	}
	for _, id := range members[at:min(at+2, len(members))] {
		out.Tasks = append(out.Tasks, queue.TaskDefinitionAndStatus{Status: f.tasks[id].status, Task: f.tasks[id].def})
	}
	if at+2 < len(members) {
		out.ContinuationToken = strconv.Itoa(at + 2)
	}
	return out
}

func (f *fakeQueue) artifact(w http.ResponseWriter, r *http.Request) any {
	t := f.find(w, r)
	if t == nil {
		return nil
	}
	name := r.PathValue("name")
	switch _, has := t.env["LOG"]; {
	case name == "public/broken":
		return queue.ArtifactContentResponse{StorageType: "error", Name: name, Reason: "file-missing-on-worker", Message: "no such\x1b[2J file"}
	case name == "public/data" && has:
		return queue.ArtifactContentResponse{StorageType: "s3", Name: name, URL: f.server.URL + "/storage/" + t.status.TaskID + "/data"}
	case name == backingLog && t.env["KEPT"] != "":
		return queue.ArtifactContentResponse{StorageType: "s3", Name: name, URL: f.server.URL + "/storage/" + t.status.TaskID + "/kept"}
	case name == liveLog && t.env["GROWS"] != "":
		return queue.ArtifactContentResponse{StorageType: "reference", Name: name, URL: f.server.URL + "/growing/" + t.status.TaskID}
	case name == liveLog && has && t.status.State != "pending" && t.status.State != "unscheduled":
		return queue.ArtifactContentResponse{StorageType: "reference", Name: name, URL: f.server.URL + "/storage/" + t.status.TaskID + "/log"}
	}
	return fail(w, 404, "ResourceNotFound", "no such artifact")
}

func (f *fakeQueue) artifacts(w http.ResponseWriter, r *http.Request) any {
	if f.find(w, r) == nil {
		return nil
	}
	size := 12
	all := []queue.ArtifactResponse{
		{Name: liveLog, StorageType: "link", ContentType: "text/plain", Expires: client.At(fakeTime)},
		{Name: "public/data", StorageType: "s3", ContentType: "text/plain", ContentLength: &size, Expires: client.At(fakeTime)},
	}
	if r.URL.Query().Get("continuationToken") == "" {
		return queue.ListArtifactsResponse{Artifacts: all[:1], ContinuationToken: "more"}
	}
	return queue.ListArtifactsResponse{Artifacts: all[1:]}
}

// storage serves logs: of a running task the first half, after which it ends.
func (f *fakeQueue) storage(w http.ResponseWriter, r *http.Request) any {
	t := f.tasks[r.PathValue("id")]
	log := t.env["LOG"]
	if t.status.State == "running" {
		log = log[:len(log)/2]
	}
	if r.PathValue("name") == "kept" {
		io.WriteString(w, t.env["KEPT"])
		return nil
	}
	name := t.def.Metadata.Name
	if n, ok := f.breakLog[name]; ok && n < len(log) {
		delete(f.breakLog, name)
		w.Header().Set("Content-Length", fmt.Sprint(len(log)))
		io.WriteString(w, log[:n]) // the server closes the connection: bytes are missing
		return nil
	}
	io.WriteString(w, log)
	return nil
}

// result is what a command left.
type result struct {
	status         int
	stdout, stderr string
}

// command runs a command against the fake.
func (f *fakeQueue) command(stdin string, args ...string) result {
	return f.session(stdin, nil, args...)
}

// session is command in a session that change has its way with.
func (f *fakeQueue) session(stdin string, change func(*session), args ...string) result {
	f.t.Helper()
	env := map[string]string{
		envRootURL: f.server.URL, envClientID: "static/taskcluster/root", envAccessToken: "token-token-token-token",
		"USER": "me", "EMAIL": "me@example.com",
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	var stdout, stderr bytes.Buffer
	s := &session{
		ctx: ctx, stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &locked{w: &stderr},
		getenv: func(name string) string { return env[name] },
		now:    func() time.Time { return fakeTime },
		sleep:  func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	if change != nil {
		change(s)
	}
	status := run(args, s)
	return result{status, stdout.String(), stderr.String()}
}

// add makes a task of a group, in a state.
func (f *fakeQueue) add(id, group, name, state string) *fakeTask {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &fakeTask{env: map[string]string{}}
	t.def = queue.Task{TaskGroupID: group, TaskQueueID: "a/b", Metadata: queue.TaskMetadata{Name: name}, Payload: json.RawMessage(`{}`), Extra: json.RawMessage(`{}`)}
	t.status = queue.TaskStatus{TaskID: id, TaskGroupID: group, TaskQueueID: "a/b", State: "unscheduled", Runs: []queue.TaskStatusRun{}, Deadline: client.At(fakeTime)}
	if state != "unscheduled" {
		t.start("scheduled")
	}
	if state != "unscheduled" && state != "pending" {
		run := latest(&t.status)
		t.status.State, run.State, run.Started = "running", "running", client.At(fakeTime.Add(-3*time.Second))
		run.WorkerGroup, run.WorkerID = "group", "worker"
	}
	if resolved(state) {
		t.end(state, "")
	}
	f.tasks[id] = t
	f.order = append(f.order, id)
	return t
}

func (f *fakeQueue) names() []string {
	var names []string
	for _, id := range f.order {
		names = append(names, f.tasks[id].def.Metadata.Name)
	}
	slices.Sort(names)
	return names
}

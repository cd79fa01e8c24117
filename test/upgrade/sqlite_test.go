package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"taskcluster/client"
	objects "taskcluster/client/object"
	"taskcluster/internal/events"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
	"taskcluster/test/crash/workload"
	"taskcluster/test/harness"
)

// TestSQLite: a data directory that the previous version made is opened by the
// present one: all that could be read can be read, what was begun goes on, and
// what a load was told stays true. The previous version refuses what the
// present one has made of it, or would.
func TestSQLite(t *testing.T) {
	old, present := build(t, previous(t, "sqlite")), harness.Binary(t)
	dir := t.TempDir()
	server := harness.Start(t, old, dir, "--log-level", "error", "--claim-timeout", "5s")
	ledger, history := workload.NewLedger(), workload.NewHistory()
	load := workload.Start(ledger, "before", 4, node(server))
	defer load.Stop()
	busy(t, ledger, 400)

	p := &past{t: t, server: server}
	p.make()
	before := p.read()
	load.Stop()
	server.Kill() // whatever is under way
	broken(t, ledger.Problems())

	server = harness.Start(t, present, dir, "--log-level", "error", "--claim-timeout", "5s")
	p.server = server
	p.compare(before, p.read())
	p.goOn()
	verify(t, ledger, server)
	load = workload.Start(ledger, "after", 4, node(server))
	defer load.Stop()
	busy(t, ledger, 400)
	load.Stop()
	if err := ledger.Settle(t.Context(), node(server)); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if err := history.ReadSQLite(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	history.Forget(p.tasks...)
	server = harness.Start(t, present, dir, "--log-level", "error")
	problems, err := ledger.Check(t.Context(), node(server), history)
	if err != nil {
		t.Fatal(err)
	}
	broken(t, problems)
	server.Stop()
	t.Logf("%s, under both versions; nothing was lost", ledger.Counts())
	refuses(t, old, dir)
}

func node(s *harness.Server) workload.Node {
	return workload.Node{RootURL: s.RootURL, Credentials: client.Credentials{ClientID: s.ClientID, AccessToken: s.AccessToken}}
}

func broken(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
	if len(problems) > 0 {
		t.FailNow()
	}
}

func verify(t *testing.T, l *workload.Ledger, s *harness.Server) {
	t.Helper()
	if err := l.Verify(t.Context(), node(s)); err != nil {
		t.Fatal(err)
	}
	broken(t, l.Problems())
}

// busy waits until so many more calls were acknowledged.
func busy(t *testing.T, l *workload.Ledger, calls int) {
	t.Helper()
	for from, deadline := l.Counts().Acknowledged, time.Now().Add(time.Minute); l.Counts().Acknowledged < from+calls; time.Sleep(5 * time.Millisecond) {
		broken(t, l.Problems())
		if time.Now().After(deadline) {
			t.Fatalf("hardly anything was acknowledged within a minute: %s", l.Counts())
		}
	}
}

// refuses has the previous version meet a database that is newer than it knows,
// now or after some later step.
func refuses(t *testing.T, old, dir string) {
	t.Helper()
	later := fstest.MapFS{}
	err := fs.WalkDir(events.Migrations.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(events.Migrations.FS, path)
		later[path] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := events.Migrations.Load(store.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	for _, dialect := range []string{store.SQLite, store.Postgres} {
		later[fmt.Sprintf("migrations/%s/%04d_later.sql", dialect, len(steps)+1)] = &fstest.MapFile{Data: []byte("CREATE TABLE later (a INTEGER)")}
	}
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "taskcluster.db"), store.Options{Migrations: []store.Migrations{{Component: "events", FS: later}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, old, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0").CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(out), "start the newer program") {
		t.Errorf("the previous version on a newer database: %v\n%s", err, out)
	}
}

// past is what the previous version left behind.
type past struct {
	t      *testing.T
	server *harness.Server
	tasks  []string
	paths  []string // "service path" of what can be read

	client client.Credentials // that was made
}

// call makes a call as root, or as somebody.
func (p *past) call(as *client.Credentials, service, verb, path string, in any) (out map[string]any) {
	p.t.Helper()
	if as == nil {
		as = &client.Credentials{ClientID: p.server.ClientID, AccessToken: p.server.AccessToken}
	}
	s, err := client.NewService(client.Config{RootURL: p.server.RootURL, Credentials: *as}, service, "v1")
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	if err := s.Do(p.t.Context(), client.Call{Name: path, Verb: verb, Path: path, In: in, Out: &out}); err != nil {
		p.t.Fatal(err)
	}
	return out
}

type object = map[string]any

// task creates a task of a queue of its own, so that the worker which asks next
// is given it.
func (p *past) task(more object) (id string) {
	id = slugid.New().String()
	p.tasks = append(p.tasks, id)
	now := time.Now()
	in := object{
		"taskQueueId": "past/" + p.queue(id), "created": client.At(now), "deadline": client.At(now.Add(time.Hour)), "payload": object{"a": 1.5},
		"metadata": object{"name": "ü", "description": "d", "owner": "o@example.com", "source": "https://example.com/"},
		"routes":   []string{"index.past"}, "tags": object{"kind": "past"}, "extra": object{"x": []int{1}}, "priority": "high", "retries": 2,
	}
	for k, v := range more {
		in[k] = v
	}
	p.call(nil, "queue", "PUT", "/task/"+id, in)
	p.see("queue", "/task/"+id, "/task/"+id+"/status", "/task/"+id+"/dependents")
	return id
}

// queue names the task queue of a task.
func (p *past) queue(id string) string { return fmt.Sprintf("q%d", slices.Index(p.tasks, id)) }

func (p *past) see(service string, paths ...string) {
	for _, path := range paths {
		p.paths = append(p.paths, service+" "+path)
	}
}

// claim gives a worker the task's run, and returns the run's credentials.
func (p *past) claim(id string) *client.Credentials {
	p.t.Helper()
	got := p.call(nil, "queue", "POST", "/claim-work/past/"+p.queue(id), object{"workerGroup": "g", "workerId": "w", "tasks": 1})
	c := got["tasks"].([]any)[0].(object)["credentials"].(object)
	p.see("queue", "/task/"+id+"/runs/0/artifacts", "/provisioners/past/worker-types/"+p.queue(id)+"/workers/g/w", "/task-queues/past%2F"+p.queue(id))
	return &client.Credentials{ClientID: c["clientId"].(string), AccessToken: c["accessToken"].(string), Certificate: c["certificate"].(string)}
}

// make leaves tasks in every state, artifacts of every type, clients, roles and
// what else is kept.
func (p *past) make() {
	expires := client.At(time.Now().Add(24 * time.Hour))
	group := slugid.New().String()
	pending := p.task(object{"taskGroupId": group})
	p.task(object{"taskGroupId": group, "dependencies": []string{pending}})
	p.call(nil, "queue", "POST", "/task-group/"+group+"/seal", nil)
	p.see("queue", "/task-group/"+group, "/task-group/"+group+"/list", "/task-queues/past/"+p.queue(pending)+"/counts", "/task-queues/past/"+p.queue(pending)+"/pending")

	completed := p.task(nil)
	worker := p.claim(completed)
	run := "/task/" + completed + "/runs/0"
	p.call(worker, "queue", "POST", run+"/artifacts/public%2Ferror.txt", object{"storageType": "error", "reason": "file-missing-on-worker", "message": "no", "expires": expires})
	p.call(worker, "queue", "POST", run+"/artifacts/public%2Flink.txt", object{"storageType": "link", "artifact": "public/data.txt", "contentType": "text/plain", "expires": expires})
	p.call(worker, "queue", "POST", run+"/artifacts/public%2Felsewhere.txt", object{"storageType": "reference", "url": "https://example.com/x", "contentType": "text/plain", "expires": expires})
	put := p.call(worker, "queue", "POST", run+"/artifacts/public%2Fdata.txt", object{"storageType": "s3", "contentType": "text/plain", "expires": expires})
	p.put(put["putUrl"].(string), "text/plain", "what was uploaded")
	p.call(worker, "queue", "POST", run+"/completed", nil)

	failed := p.task(nil)
	p.call(p.claim(failed), "queue", "POST", "/task/"+failed+"/runs/0/failed", nil)
	again := p.task(nil)
	p.call(p.claim(again), "queue", "POST", "/task/"+again+"/runs/0/exception", object{"reason": "intermittent-task"})
	canceled := p.task(nil)
	p.call(nil, "queue", "POST", "/task/"+canceled+"/cancel", nil)
	p.call(nil, "queue", "PUT", "/provisioners/past/worker-types/"+p.queue(failed)+"/workers/g/w", object{"quarantineUntil": expires, "quarantineInfo": "because"})

	made := p.call(nil, "auth", "PUT", "/clients/past", object{"expires": expires, "description": "d", "scopes": []string{"assume:past:x"}})
	p.client = client.Credentials{ClientID: "past", AccessToken: made["accessToken"].(string)}
	p.call(nil, "auth", "PUT", "/roles/past:*", object{"description": "d", "scopes": []string{"past:<..>"}})
	p.see("auth", "/clients/past", "/roles/past:*")
	p.call(nil, "purge-cache", "POST", "/purge-cache/past%2Fpool", object{"cacheName": "c"})
	p.see("purge-cache", "/purge-cache/past%2Fpool")
	upload := slugid.New().String()
	p.call(nil, "object", "PUT", "/upload/public%2Fpast", object{"expires": expires, "projectId": "p", "uploadId": upload,
		"proposedUploadMethods": object{"dataInline": object{"contentType": "text/plain", "objectData": "aGVsbG8="}}})
	p.call(nil, "object", "POST", "/finish-upload/public%2Fpast", object{"projectId": "p", "uploadId": upload})
}

// put uploads an artifact.
func (p *past) put(url, contentType, text string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), "PUT", url, strings.NewReader(text))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		p.t.Fatalf("PUT: %s", resp.Status)
	}
}

// read reads all of it; the data of artifacts too.
func (p *past) read() map[string]any {
	p.t.Helper()
	out := map[string]any{}
	for _, path := range p.paths {
		service, path, _ := strings.Cut(path, " ")
		out[service+" "+path] = p.call(nil, service, "GET", path, nil)
	}
	out["what the client may do"] = p.call(&p.client, "auth", "GET", "/scopes/current", nil)
	out["an artifact"] = p.get(p.server.RootURL + "/api/queue/v1/task/" + p.tasks[2] + "/artifacts/public/link.txt")
	return out
}

func (p *past) get(url string) string {
	p.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		p.t.Fatalf("%s %v\n%s", resp.Status, err, text)
	}
	return string(text)
}

// compare tells what the present version answers otherwise. It may say more.
func (p *past) compare(before, after map[string]any) {
	p.t.Helper()
	for what, was := range before {
		if problem := lacks(was, after[what]); problem != "" {
			text, _ := json.Marshal(after[what])
			p.t.Errorf("%s: %s\nnow %s", what, problem, text)
		}
	}
}

// lacks tells what of was is missing in is, or different.
func lacks(was, is any) string {
	switch was := was.(type) {
	case map[string]any:
		now, ok := is.(map[string]any)
		if !ok {
			return fmt.Sprintf("was %v", was)
		}
		for k, v := range was {
			if problem := lacks(v, now[k]); problem != "" {
				return k + ": " + problem
			}
		}
		return ""
	case []any:
		now, ok := is.([]any)
		if !ok || len(now) != len(was) {
			return fmt.Sprintf("was %v", was)
		}
		for i, v := range was {
			if problem := lacks(v, now[i]); problem != "" {
				return fmt.Sprintf("%d: %s", i, problem)
			}
		}
		return ""
	}
	if !reflect.DeepEqual(was, is) {
		return fmt.Sprintf("was %v", was)
	}
	return ""
}

// goOn does what was left open: the pending task is worked on, and releases the
// one behind it; what was tried once is tried again.
func (p *past) goOn() {
	p.t.Helper()
	for _, id := range p.tasks[:2] {
		p.call(p.claim(id), "queue", "POST", "/task/"+id+"/runs/0/completed", nil)
	}
	again := p.tasks[4]
	p.call(p.claim(again), "queue", "POST", "/task/"+again+"/runs/1/completed", nil)
	p.call(nil, "queue", "POST", "/task/"+p.tasks[5]+"/rerun", nil)
	o, err := objects.New(client.Config{RootURL: p.server.RootURL, Credentials: node(p.server).Credentials})
	if err != nil {
		p.t.Fatal(err)
	}
	defer o.Close()
	url, err := o.SignedDownloadURL(p.t.Context(), "public/past", time.Minute)
	if err != nil {
		p.t.Fatal(err)
	}
	if got := p.get(url); got != "hello" {
		p.t.Errorf("an object: %q", got)
	}
}

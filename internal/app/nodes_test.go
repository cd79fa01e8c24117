package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
	"taskcluster/internal/testenv"
)

// join gives a new data directory what nodes share.
func join(t *testing.T, first, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(first, "keys"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "keys"), text, 0o600)
	}
	if err == nil {
		err = os.Symlink(filepath.Join(first, artifactsName), filepath.Join(dir, artifactsName))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestJoin: a node that could not read what the others write does not start, and
// says what to do.
func TestJoin(t *testing.T) {
	env := onPostgres(t, testenv.Postgres(t).URL)
	first, second := t.TempDir(), t.TempDir()
	a := started(t, settings(t, first, env))
	refused := func(dir string, env map[string]string, says ...string) {
		t.Helper()
		b, err := open(t, settings(t, dir, env))
		if err == nil {
			b.close()
			t.Fatal("it was opened")
		}
		for _, text := range says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q is not in: %v", text, err)
			}
		}
		if strings.Contains(err.Error(), string(a.token)) {
			t.Errorf("a secret is in: %v", err)
		}
	}
	with := func(name, value string) map[string]string {
		changed := maps.Clone(env)
		changed[name] = value
		return changed
	}
	refused(second, env, "has keys already", filepath.Join(second, "keys"), "copy the file keys")
	if _, err := os.Stat(filepath.Join(second, "keys")); err == nil {
		t.Error("keys were made that fit nothing")
	}
	started(t, settings(t, t.TempDir(), nil)) // another deployment has other keys
	other := t.TempDir()
	stop(t, func() *App { b, _ := open(t, settings(t, other, nil)); return b }())
	refused(second, with("TASKCLUSTER_KEYS", "file:"+filepath.Join(other, "keys")), "key number 1", "copy the file keys")
	refused(second, with("TASKCLUSTER_KEYS", "1 nonsense"), "setting keys", "32 bytes")
	given := with("TASKCLUSTER_KEYS", "file:"+filepath.Join(first, "keys"))
	refused(second, given, "artifact store is fs", "mount", "artifact-store s3")
	if err := os.RemoveAll(filepath.Join(second, artifactsName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(first, artifactsName), filepath.Join(second, artifactsName)); err != nil {
		t.Fatal(err)
	}
	b := started(t, settings(t, second, given))
	if a.token != b.token {
		t.Error("the nodes have different tokens for root")
	}
	for _, node := range []*App{a, b} {
		if got := asRoot(t, node); len(got) != 1 || got[0] != "*" {
			t.Errorf("root's scopes: %v", got)
		}
	}

	// What one changes holds on the other.
	clients, err := auth.New(rootConfig(t, a))
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Close()
	made, err := clients.CreateClient(t.Context(), "user", &auth.CreateClientRequest{
		Description: "d", Expires: client.At(time.Now().Add(time.Hour)), Scopes: []string{"auth:current-scopes"},
	})
	if err != nil {
		t.Fatal(err)
	}
	user, err := auth.New(client.Config{RootURL: b.RootURL(), Credentials: client.Credentials{ClientID: "user", AccessToken: made.AccessToken}, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	if _, err := user.CurrentScopes(t.Context()); err != nil {
		t.Fatalf("a client that another node made: %v", err)
	}
	if _, err := clients.DisableClient(t.Context(), "user"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		if _, err := user.CurrentScopes(t.Context()); err != nil {
			if !strings.Contains(err.Error(), "disabled") {
				t.Error(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a client that another node disabled is let in")
		}
	}
}

// balancer is a load balancer in front of nodes: it sends requests to those that
// are ready by turns, and tries another when a connection is refused.
type balancer struct {
	url   string
	mu    sync.Mutex
	nodes map[string]bool // by URL: ready
	turn  int
}

func newBalancer(t *testing.T) *balancer {
	b := &balancer{nodes: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host },
		Transport: b,
	}
	server := httptest.NewServer(proxy)
	b.url = server.URL
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			for _, node := range b.all() {
				ready := false
				if resp, err := http.Get(node + "/readyz"); err == nil {
					ready = resp.StatusCode == 200
					resp.Body.Close()
				}
				b.mu.Lock()
				b.nodes[node] = ready
				b.mu.Unlock()
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); asking.Wait(); server.Close() })
	return b
}

func (b *balancer) add(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes[node] = false
}

func (b *balancer) all() (nodes []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for node := range b.nodes {
		nodes = append(nodes, node)
	}
	return nodes
}

// next are the nodes in the order in which they are to be tried.
func (b *balancer) next() (nodes []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn++
	var rest []string
	for node, ready := range b.nodes {
		if ready {
			nodes = append(nodes, node)
		} else {
			rest = append(rest, node)
		}
	}
	if len(nodes) > 1 && (b.turn%2 == 0) == (nodes[0] < nodes[1]) {
		nodes[0], nodes[1] = nodes[1], nodes[0]
	}
	return append(nodes, rest...)
}

func (b *balancer) waitReady(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		ready := 0
		b.mu.Lock()
		for _, is := range b.nodes {
			if is {
				ready++
			}
		}
		b.mu.Unlock()
		if ready == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d nodes are ready, not %d", ready, n)
		}
	}
}

func (b *balancer) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	var body []byte
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	for _, node := range b.next() {
		to, _ := url.Parse(node)
		r.URL.Scheme, r.URL.Host = to.Scheme, to.Host
		if r.Body != nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		resp, err = http.DefaultTransport.RoundTrip(r)
		var refused *net.OpError
		if err == nil || !errors.As(err, &refused) || refused.Op != "dial" {
			return resp, err
		}
	}
	return nil, fmt.Errorf("no node answers: %w", err)
}

// TestRollingRestart: two nodes are restarted in turn while clients, which try
// nothing again, create, claim and resolve tasks through a load balancer.
func TestRollingRestart(t *testing.T) {
	env := onPostgres(t, testenv.Postgres(t).URL)
	b := newBalancer(t)
	env["TASKCLUSTER_ROOT_URL"] = b.url
	env["TASKCLUSTER_DRAIN_DELAY"] = "4s" // many times as long as the balancer needs
	dirs := [2]string{t.TempDir(), t.TempDir()}
	var nodes [2]*App
	start := func(i int) {
		t.Helper()
		s := settings(t, dirs[i], env)
		if nodes[i] != nil {
			addr := nodes[i].listener.Addr().String()
			s.Listen = &addr
		}
		a, err := open(t, s)
		if err == nil {
			err = a.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = a
		b.add("http://" + a.listener.Addr().String())
	}
	start(0)
	join(t, dirs[0], dirs[1])
	start(1)
	defer func() {
		for _, a := range nodes {
			stop(t, a)
		}
	}()
	b.waitReady(t, 2)

	cfg := rootConfig(t, nodes[0])
	cfg.Retries = -1
	q, err := queue.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var created, resolved, failures atomic.Int64
	var claimed sync.Map
	ending := make(chan struct{})
	ended := func() bool {
		select {
		case <-ending:
			return true
		default:
			return false
		}
	}
	fail := func(what string, err error) {
		if failures.Add(1) < 5 {
			t.Errorf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	var creators, workers sync.WaitGroup
	for range 3 {
		creators.Go(func() {
			for !ended() {
				now := time.Now()
				_, err := q.CreateTask(t.Context(), slugid.New().String(), &queue.CreateTaskRequest{
					TaskQueueID: "prov/type", ProjectID: "prj", Created: client.At(now), Deadline: client.At(now.Add(time.Hour)),
					Payload:  []byte("{}"),
					Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com"},
				})
				if err != nil {
					fail("createTask", err)
					continue
				}
				created.Add(1)
			}
		})
	}
	for w := range 3 {
		workers.Go(func() {
			for !ended() || resolved.Load() < created.Load() && failures.Load() == 0 {
				got, err := q.ClaimWork(t.Context(), "prov/type", &queue.ClaimWorkRequest{Tasks: 4, WorkerGroup: "g", WorkerID: fmt.Sprint("w", w)})
				if err != nil {
					fail("claimWork", err)
					continue
				}
				for _, task := range got.Tasks {
					if _, twice := claimed.LoadOrStore(task.Status.TaskID, w); twice {
						fail("claimWork", fmt.Errorf("the task %s was claimed twice", task.Status.TaskID))
					}
					mine := cfg
					mine.Credentials = client.Credentials{ClientID: task.Credentials.ClientID, AccessToken: task.Credentials.AccessToken, Certificate: task.Credentials.Certificate}
					mine.Transport = http.DefaultTransport
					own, err := queue.New(mine)
					if err == nil {
						_, err = own.ReportCompleted(t.Context(), task.Status.TaskID, fmt.Sprint(task.RunID))
					}
					if err != nil {
						fail("reportCompleted", err)
						continue
					}
					resolved.Add(1)
				}
			}
		})
	}
	more := func() {
		t.Helper()
		for from, deadline := resolved.Load(), time.Now().Add(60*time.Second); resolved.Load() < from+50; time.Sleep(5 * time.Millisecond) {
			if failures.Load() > 0 || time.Now().After(deadline) {
				break
			}
		}
	}
	for _, i := range []int{0, 1, 0} {
		more()
		stop(t, nodes[i])
		b.waitReady(t, 1)
		more()
		start(i)
		b.waitReady(t, 2)
	}
	more()
	close(ending)
	creators.Wait()
	workers.Wait()
	if created.Load() != resolved.Load() {
		t.Errorf("%d tasks were created, %d resolved", created.Load(), resolved.Load())
	}
	told := map[string]int64{}
	seen := map[string]bool{}
	for at := nodes[0].events.Head() * 0; ; {
		messages, err := nodes[0].events.Read(t.Context(), at, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) == 0 {
			break
		}
		for _, m := range messages {
			at = m.Position
			told[m.Exchange[strings.LastIndex(m.Exchange, "/")+1:]]++
			if id := m.Exchange + string(m.Payload); seen[id] {
				t.Errorf("%s was told twice", m.Exchange)
			} else {
				seen[id] = true
			}
		}
	}
	for _, name := range []string{"task-defined", "task-pending", "task-running", "task-completed"} {
		if told[name] != created.Load() {
			t.Errorf("%d events %s of %d tasks", told[name], name, created.Load())
		}
	}
	t.Logf("%d tasks through three restarts", created.Load())
}

// TestDraining: while a node drains it serves, tells the load balancer, and
// closes connections with their answers.
func TestDraining(t *testing.T) {
	a, err := open(t, settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_DRAIN_DELAY": "30s"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	get := func(path string) *http.Response {
		t.Helper()
		resp, err := http.Get(a.RootURL() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if resp := get("/readyz"); resp.StatusCode != 200 || resp.Close {
		t.Errorf("ready: %d, closes %v", resp.StatusCode, resp.Close)
	}
	stopping, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Stop(stopping)
	}()
	for deadline := time.Now().Add(20 * time.Second); get("/readyz").StatusCode != 503; {
		if time.Now().After(deadline) {
			t.Fatal("it is ready while it drains")
		}
	}
	if resp := get("/api/queue/v1/ping"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("while it drains: %d, closes %v", resp.StatusCode, resp.Close)
	}
	cancel()
	<-ended
}

// TestDatabaseAway: requests are answered with an error that clients try again,
// soon, and all goes on when the database is back. The log has one incident.
func TestDatabaseAway(t *testing.T) {
	server := testenv.Postgres(t)
	log := new(testenv.Buffer)
	a, err := New(t.Context(), settings(t, t.TempDir(), onPostgres(t, server.URL)), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer stop(t, a)
	cfg := rootConfig(t, a)
	cfg.Retries, cfg.Timeout = -1, 25*time.Second
	q, err := queue.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	id := newTask(t, q)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"a read":  func() error { _, err := q.Status(t.Context(), id); return err },
		"a write": func() error { _, err := q.CancelTask(t.Context(), id); return err },
	}
	for name, call := range calls {
		var e *client.Error
		if err := call(); !errors.As(err, &e) || e.StatusCode < 500 || e.Code != "InternalServerError" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := status(a, "/readyz"); got != 503 {
		t.Errorf("readyz answers %d", got)
	}
	if text := log.String(); strings.Count(text, "msg=incident ") != 1 || strings.Contains(text, "monitor.apiMethod") {
		t.Errorf("two calls were refused for one reason:\n%s", text)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			err := call()
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s afterwards: %v", name, err)
			}
		}
	}
}

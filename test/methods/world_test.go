package methods

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/hawk"
	"taskcluster/internal/slugid"
	"taskcluster/test/harness"
)

// world is a deployment in which nobody may do anything without credentials.
type world struct {
	t      testing.TB
	server *harness.Server
	root   hawk.Credentials
	http   *http.Client
	// patience is how long an answer is waited for; as long as it takes when zero.
	patience time.Duration
}

func newWorld(t testing.TB, server *harness.Server) *world {
	t.Helper()
	w := &world{
		t: t, server: server, root: hawk.Credentials{ClientID: server.ClientID, AccessToken: server.AccessToken},
		http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	w.must("DELETE", "/api/auth/v1/roles/anonymous", nil)
	return w
}

// in is the world for a subtest.
func (w *world) in(t testing.TB) *world {
	mine := *w
	mine.t = t
	return &mine
}

// only is root restricted to some scopes.
func (w *world) only(scopes ...string) hawk.Credentials {
	c := w.root
	c.AuthorizedScopes = append([]string{}, scopes...)
	return c
}

// temporary is temporary credentials with just these scopes.
func (w *world) temporary(scopes ...string) hawk.Credentials {
	now := time.Now()
	c, err := w.root.Temporary(hawk.TemporaryOptions{
		Name: "matrix/temporary", Scopes: scopes, Start: now.Add(-time.Minute), Expiry: now.Add(time.Hour),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// client makes a client.
func (w *world) client(id string, expires time.Time, scopes ...string) hawk.Credentials {
	w.t.Helper()
	a := w.must("PUT", "/api/auth/v1/clients/"+url.PathEscape(id), object{"expires": stamp(expires), "description": "", "scopes": scopes})
	var got struct{ AccessToken string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		w.t.Fatal(err)
	}
	return hawk.Credentials{ClientID: id, AccessToken: got.AccessToken}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// must makes a call as root that has to succeed.
func (w *world) must(verb, path string, body any) answer {
	w.t.Helper()
	a := w.send(verb, path, body, w.root)
	if a.status >= 400 {
		w.t.Fatalf("%s %s: %v", verb, path, a)
	}
	return a
}

// raw is a body as it is sent.
type raw []byte

// send sends one request, as JSON unless there is no body.
func (w *world) send(verb, path string, body any, as hawk.Credentials) answer {
	w.t.Helper()
	var payload []byte
	switch body := body.(type) {
	case nil:
	case raw:
		payload = body
	default:
		var err error
		if payload, err = json.Marshal(body); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx := w.t.Context()
	if w.patience > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, w.patience)
		defer cancel()
	}
	r, err := http.NewRequestWithContext(ctx, verb, w.server.RootURL+path, bytes.NewReader(payload))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if as.ClientID != "" {
		host, port, err := hawk.HostPort(r.URL.Host, false)
		if err != nil {
			w.t.Fatal(err)
		}
		header, err := as.Header(hawk.Request{Method: verb, Resource: r.URL.RequestURI(), Host: host, Port: port}, "", time.Now())
		if err != nil {
			w.t.Fatal(err)
		}
		r.Header.Set("Authorization", header)
	}
	resp, err := w.http.Do(r)
	if ctx.Err() != nil && w.t.Context().Err() == nil {
		return answer{body: "none in time"}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var e struct{ Code string }
	if resp.StatusCode >= 400 {
		nowhere := resp.StatusCode == http.StatusNotFound && strings.Contains(string(text), `{"error": "Not found"}`)
		if err := json.Unmarshal(text, &e); err != nil || e.Code == "" && !nowhere {
			w.t.Fatalf("%s %s: %d with an error that is none: %s", verb, path, resp.StatusCode, text)
		}
	}
	return answer{resp.StatusCode, e.Code, string(text)}
}

type object = map[string]any

// fixture is what a method is called with.
type fixture struct {
	url      map[string]string // values of the route's arguments
	query    string            // encoded
	values   map[string]any    // and of the scope expression's
	body     any
	or       []int               // what a good call may be answered with besides success
	succeeds bool                // a good call is answered with success, though its URL alone decides who may make it
	verdict  func(answer) answer // the answer for the one that an answer is about
}

// fixture makes what a method is called with. It is an error if nobody knows.
func (w *world) fixture(m method) fixture {
	w.t.Helper()
	if make, ok := fixtures[m.String()]; ok {
		f := make(w)
		for name, value := range f.url {
			if f.values == nil {
				f.values = object{}
			}
			if _, ok := f.values[name]; !ok {
				f.values[name] = value
			}
		}
		return f
	}
	if m.Scopes != nil && m.deferred() {
		w.t.Fatalf("%s has no fixture: its scope expression needs %v, which its URL does not have; add it to fixtures_test.go", m, m.Scopes.params())
	}
	f := fixture{url: arguments, values: object{}}
	for name, value := range arguments {
		f.values[name] = value
	}
	if m.Input != "" {
		f.body = object{}
	}
	return f
}

// task makes a task and returns its id and its task queue, which nobody else uses.
func (w *world) task(changes object) (id, queue string) {
	w.t.Helper()
	id, queue = slugid.New().String(), freshQueue()
	w.must("PUT", "/api/queue/v1/task/"+id, w.definition(queue, changes))
	return id, queue
}

func freshQueue() string {
	return "matrix/q" + strings.NewReplacer("-", "0", "_", "0").Replace(strings.ToLower(slugid.New().String()))
}

func (w *world) definition(queue string, changes object) object {
	now := time.Now()
	d := object{
		"taskQueueId": queue, "created": stamp(now), "deadline": stamp(now.Add(time.Hour)), "payload": object{},
		"metadata": object{"name": "n", "description": "", "owner": "o@example.com", "source": "https://example.com/"},
	}
	for k, v := range changes {
		d[k] = v
	}
	return d
}

// running makes a task that a worker has claimed.
func (w *world) running() string {
	w.t.Helper()
	id, queue := w.task(nil)
	a := w.must("POST", "/api/queue/v1/claim-work/"+queue, object{"workerGroup": "wg", "workerId": "wi", "tasks": 1})
	if !strings.Contains(a.body, id) {
		w.t.Fatalf("the task %s was not claimed: %v", id, a)
	}
	return id
}

// artifact makes a task with an artifact that links to another one.
func (w *world) artifact() (id, name, target string) {
	w.t.Helper()
	id, name, target = w.running(), "private/link", "private/target"
	expires := stamp(time.Now().Add(30 * time.Minute))
	at := fmt.Sprintf("/api/queue/v1/task/%s/runs/0/artifacts/", id)
	w.must("POST", at+url.PathEscape(target), object{"storageType": "reference", "url": "https://example.com/", "contentType": "text/plain", "expires": expires})
	w.must("POST", at+url.PathEscape(name), object{"storageType": "link", "artifact": target, "contentType": "text/plain", "expires": expires})
	return id, name, target
}

// object makes an object and returns its name.
func (w *world) object() string {
	w.t.Helper()
	upload := slugid.Nice().String()
	w.must("PUT", "/api/object/v1/upload/matrix%2F"+upload, object{
		"uploadId": upload, "projectId": "some-project", "expires": later(),
		"proposedUploadMethods": object{"dataInline": object{"contentType": "text/plain", "objectData": "aGVsbG8="}},
	})
	w.must("POST", "/api/object/v1/finish-upload/matrix%2F"+upload, object{"uploadId": upload, "projectId": "some-project"})
	return "matrix/" + upload
}

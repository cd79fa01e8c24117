package queue

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/hawk"
	"taskcluster/internal/slugid"
)

func (d *deployment) artifact(id string, run int, name string, body with) answer {
	d.t.Helper()
	b := with{"expires": d.clock.Now().Add(24 * time.Hour).String()}
	for k, v := range body {
		b[k] = v
	}
	return d.call(root, "POST", fmt.Sprintf("/task/%s/runs/%d/artifacts/%s", id, run, name), b)
}

// blob sends a plain request, without credentials, to a URL of the blob store.
func (d *deployment) blob(verb, url, contentType, body string) *http.Response {
	d.t.Helper()
	resource := strings.TrimPrefix(url, testRoot)
	r := httptest.NewRequest(verb, resource, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	d.blobs.Handler().ServeHTTP(w, r)
	return w.Result()
}

// C51, C54, C59
func TestS3Artifact(t *testing.T) {
	d := deploy(t)
	id, claim := d.run()
	c := claim.credentials("tasks", 0)
	d.kinds()
	expires := d.clock.Now().Add(time.Hour).String()
	path := "/task/" + id + "/runs/0/artifacts/public/a%20b.txt"
	a := d.call(c, "POST", path, with{"storageType": "s3", "expires": expires, "contentType": "text/plain", "contentLength": 5}).want(200)
	if a.string("expires") != d.clock.Now().Add(45*time.Minute).String() || a.string("contentType") != "text/plain" {
		t.Error(a.body)
	}
	d.wantEvents()
	if res := d.blob("PUT", a.string("putUrl"), "text/plain", "hello"); res.StatusCode != 200 {
		t.Fatalf("PUT: %d", res.StatusCode)
	}
	if res := d.blob("PUT", a.string("putUrl"), "text/html", "hello"); res.StatusCode < 400 {
		t.Errorf("PUT with another content type: %d", res.StatusCode)
	}
	g := d.call(nobody, "GET", path, nil).want(303)
	if g.header.Get("Location") != g.string("url") || g.header.Get("x-taskcluster-artifact-storage-type") != "s3" {
		t.Errorf("%v %s", g.header, g.body)
	}
	res := d.blob("GET", g.string("url"), "", "")
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != 200 || string(text) != "hello" || res.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("GET: %d %q %v", res.StatusCode, text, res.Header)
	}
	info := d.call(root, "GET", "/task/"+id+"/runs/0/artifact-info/public/a%20b.txt", nil).want(200, `"contentLength":5`, `"name":"public/a b.txt"`)
	if l := d.call(root, "GET", "/task/"+id+"/artifacts", nil).want(200); fmt.Sprint(l.at("artifacts", 0)) != fmt.Sprint(info.at()) {
		t.Errorf("%s\n%s", l.body, info.body)
	}
	d.call(nobody, "GET", "/task/"+id+"/artifacts/public/a%20b.txt", nil).want(303)
	d.call(nobody, "GET", "/task/"+id+"/artifact-content/public/a%20b.txt", nil).want(200, `"url"`)

	// private
	d.artifact(id, 0, "secret/x", with{"storageType": "s3", "contentType": "text/plain"}).want(200)
	d.call(nobody, "GET", "/task/"+id+"/runs/0/artifacts/secret/x", nil).want(403, "queue:get-artifact:secret/x")
	d.call(d.client("queue:get-artifact:secret/*"), "GET", "/task/"+id+"/runs/0/artifacts/secret/x", nil).want(303)
	d.call(c, "POST", "/task/"+id+"/runs/1/artifacts/x", with{"storageType": "s3", "expires": expires, "contentType": "x"}).want(403)
	d.artifact(id, 0, "bad", with{"storageType": "s3", "contentType": "text/pläin"}).want(400, "InputError")
}

func TestOtherArtifacts(t *testing.T) {
	d := deploy(t)
	id, _ := d.run()
	d.kinds()
	d.artifact(id, 0, "public/ref", with{"storageType": "reference", "url": "https://example.com/x", "contentType": "text/html"}).want(200, `{"storageType":"reference"}`)
	d.artifact(id, 0, "public/err", with{"storageType": "error", "reason": "too-large-file-on-worker", "message": "no \"room\""}).want(200)
	d.artifact(id, 0, "public/link", with{"storageType": "link", "artifact": "public/ref"}).want(200)
	d.wantEvents("artifact-created", "artifact-created", "artifact-created")
	if g := d.call(nobody, "GET", "/task/"+id+"/runs/0/artifacts/public/link", nil).want(303); g.header.Get("Location") != "https://example.com/x" {
		t.Error(g.header)
	}
	// C55
	e := d.call(nobody, "GET", "/task/"+id+"/runs/0/artifacts/public/err", nil).want(424)
	if e.string("reason") != "too-large-file-on-worker" || e.string("message") != `no "room"` || len(e.object()) != 2 ||
		e.header.Get("x-taskcluster-artifact-storage-type") != "error" {
		t.Error(e.body)
	}
	d.call(nobody, "GET", "/task/"+id+"/runs/0/artifact-content/public/err", nil).want(200, `"storageType":"error"`, "too-large")
	d.call(root, "GET", "/task/"+id+"/artifact-info/public/link", nil).want(200, `"storageType":"link"`, `"contentType":"application/binary"`)

	// C56: both names are needed, and both are told.
	d.artifact(id, 0, "private", with{"storageType": "link", "artifact": "public/ref"}).want(200)
	d.artifact(id, 0, "public/leak", with{"storageType": "link", "artifact": "private"}).want(200)
	d.call(nobody, "GET", "/task/"+id+"/runs/0/artifacts/public/leak", nil).want(403, "queue:get-artifact:public/leak", "queue:get-artifact:private")
	for i := range 30 {
		d.artifact(id, 0, fmt.Sprint("chain/", i), with{"storageType": "link", "artifact": fmt.Sprint("chain/", i+1)}).want(200)
	}
	d.artifact(id, 0, "chain/30", with{"storageType": "reference", "url": "https://example.com/end", "contentType": "x"}).want(200)
	d.call(root, "GET", "/task/"+id+"/artifacts/chain/0", nil).want(303, "https://example.com/end")
	for i := range maxLinks {
		d.artifact(id, 0, fmt.Sprint("long/", i), with{"storageType": "link", "artifact": fmt.Sprint("long/", i+1)}).want(200)
	}
	d.call(root, "GET", "/task/"+id+"/artifacts/long/0", nil).want(400, "more than 100 links")
	d.artifact(id, 0, "loop/a", with{"storageType": "link", "artifact": "loop/b"}).want(200)
	d.artifact(id, 0, "loop/b", with{"storageType": "link", "artifact": "loop/a"}).want(200)
	d.call(root, "GET", "/task/"+id+"/artifacts/loop/a", nil).want(400, "Artifact leads to a link cycle")
	d.artifact(id, 0, "loop/none", with{"storageType": "link", "artifact": "nowhere"}).want(200)
	d.call(root, "GET", "/task/"+id+"/artifacts/loop/none", nil).want(404, "Artifact not found")

	d.call(root, "PUT", "/task/"+id+"/runs/0/artifacts/public/ref", "{}").want(400, "InputValidationError")
	upload := with{"uploadId": slugid.New().String()}
	d.call(root, "PUT", "/task/"+id+"/runs/0/artifacts/public/ref", upload).want(400, "Only object artifacts can be finished")
	d.call(root, "PUT", "/task/"+id+"/runs/0/artifacts/none", upload).want(404)

	d.clock.Advance(25 * time.Hour)
	d.call(nobody, "GET", "/task/"+id+"/runs/0/artifacts/public/ref", nil).want(410, "ResourceExpired", "Artifact expired")
	d.call(root, "GET", "/task/"+id+"/artifact-info/public/ref", nil).want(200)
}

// C57
func TestArtifactAgain(t *testing.T) {
	d := deploy(t)
	id, _ := d.run()
	at := func(h int) string { return d.clock.Now().Add(time.Duration(h) * time.Hour).String() }
	ref := with{"storageType": "reference", "url": "https://a/", "contentType": "text/html", "expires": at(2)}
	alter := func(changes with) with { return d.definitionOf(ref, changes) }
	d.artifact(id, 0, "a", ref).want(200)
	d.artifact(id, 0, "a", ref).want(200)
	d.artifact(id, 0, "a", alter(with{"url": "https://b/"})).want(200)
	d.artifact(id, 0, "a", alter(with{"expires": at(3)})).want(200)
	d.artifact(id, 0, "a", alter(with{"expires": at(1)})).want(409, "Artifact already exists with different properties")
	d.artifact(id, 0, "a", alter(with{"contentType": "text/plain", "expires": at(3)})).want(409)
	d.artifact(id, 0, "a", with{"storageType": "s3", "contentType": "text/html", "expires": at(3)}).want(409)
	d.artifact(id, 0, "a", with{"storageType": "link", "artifact": "b", "expires": at(3)}).want(200)
	d.call(root, "GET", "/task/"+id+"/artifact-info/a", nil).want(200, `"storageType":"link"`, `"contentType":"text/html"`)
	d.artifact(id, 0, "a", with{"storageType": "link", "artifact": "c", "expires": at(3)}).want(409)
	s3 := with{"storageType": "s3", "contentType": "x", "expires": at(1)}
	d.artifact(id, 0, "s", s3).want(200)
	d.artifact(id, 0, "s", s3).want(200)
	e := with{"storageType": "error", "reason": "file-missing-on-worker", "message": "m", "expires": at(1)}
	d.artifact(id, 0, "e", e).want(200)
	d.artifact(id, 0, "e", d.definitionOf(e, with{"message": "other"})).want(409)
}

func (d *deployment) definitionOf(base, changes with) with {
	m := with{}
	for _, from := range []with{base, changes} {
		for k, v := range from {
			m[k] = v
		}
	}
	return m
}

// C58, C60 and the order of the checks.
func TestArtifactRefusals(t *testing.T) {
	d := deploy(t)
	ref := with{"storageType": "reference", "url": "https://a/", "contentType": "x"}
	none := slugid.New().String()
	d.artifact(none, 0, "a", with{"storageType": "reference", "url": "https://a/", "contentType": "x", "expires": d.clock.Now().Add(-16 * time.Minute).String()}).
		want(400, "Expires must be in the future")
	d.artifact(none, 0, "a", ref).want(400, "Task not found")
	id := d.create(with{"expires": d.clock.Now().Add(30 * time.Hour).String()})
	d.artifact(id, 0, "a", ref).want(400, "Run was not claimed")
	d.artifact(id, 1, "a", ref).want(400, "Run not found")
	d.claim("w", 1)
	d.artifact(id, 0, "a", d.definitionOf(ref, with{"expires": d.clock.Now().Add(31 * time.Hour).String()})).want(400, "after the task expiration")
	d.artifact(id, 0, strings.Repeat("n", 1025), ref).want(400, "InputError")
	d.artifact(id, 0, "%00", ref).want(400, "InvalidRequestArguments")
	d.artifact(id, 0, "a", with{"storageType": "reference", "contentType": "x"}).want(400, "InputValidationError")
	d.artifact(id, 0, "a", ref).want(200)
	d.report(id, 0, "completed", nil).want(200)
	d.artifact(id, 0, "a", ref).want(409, "Artifacts cannot be created for a task after it is resolved")
	id, _ = d.run()
	d.exception(id, 0, "internal-error").want(200)
	d.clock.Advance(25*time.Minute - time.Second)
	d.artifact(id, 0, "late", ref).want(200)
	d.clock.Advance(time.Second)
	d.artifact(id, 0, "later", ref).want(409)

	d.call(root, "GET", "/task/"+id+"/runs/0/artifacts/none", nil).want(404, "Artifact not found")
	d.call(root, "GET", "/task/"+none+"/runs/0/artifacts/none", nil).want(404, "Artifact not found")
	d.call(nobody, "GET", "/task/"+none+"/artifacts/none", nil).want(403) // the scopes come first
	d.call(root, "GET", "/task/"+none+"/artifacts/none", nil).want(404, "Task not found")
	d.call(nobody, "GET", "/task/"+none+"/artifact-content/none", nil).want(404, "Task not found")
	d.call(root, "GET", "/task/"+none+"/artifact-info/none", nil).want(404)
	d.call(root, "GET", "/task/"+none+"/artifacts", nil).want(404, "Task not found")
	d.call(root, "GET", "/task/"+id+"/artifacts/", nil).want(400, "InvalidRequestArguments") // an empty name, no listing
	blocked := d.create(with{"dependencies": []string{id}})
	d.call(root, "GET", "/task/"+blocked+"/artifacts", nil).want(404, "Task doesn't have any runs")
	d.call(root, "GET", "/task/"+id+"/runs/1/artifacts", nil).want(404, "has no run with runId: 1")
	var anonymous hawk.Credentials
	d.call(anonymous, "GET", "/task/"+id+"/runs/0/artifacts", nil).want(403, "queue:list-artifacts:"+id+":0")
}

func TestListArtifactsPages(t *testing.T) {
	d := deploy(t)
	id, _ := d.run()
	for i := range 7 {
		d.artifact(id, 0, fmt.Sprintf("x/%d", 6-i), with{"storageType": "reference", "url": "https://a/", "contentType": "x"}).want(200)
	}
	var names []string
	token := ""
	for {
		a := d.call(root, "GET", "/task/"+id+"/runs/0/artifacts?limit=3"+token, nil).want(200)
		for i := range a.len("artifacts") {
			names = append(names, a.string("artifacts", i, "name"))
		}
		if a.string("continuationToken") == "" {
			break
		}
		token = "&continuationToken=" + a.string("continuationToken")
	}
	if got := strings.Join(names, " "); got != "x/0 x/1 x/2 x/3 x/4 x/5 x/6" {
		t.Error(got)
	}
	d.call(root, "GET", "/task/"+id+"/artifacts?limit=0", nil).want(200, `{"artifacts":[]}`)
	d.call(root, "GET", "/task/"+id+"/artifacts?continuationToken=garbage", nil).want(200, "x/0")
	d.call(root, "GET", "/task/"+id+"/artifacts?continuationToken=%FF", nil).want(400, "InvalidRequestArguments")
}

package queue

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/hawk"
	"taskcluster/internal/slugid"
)

// fakeObjects is as much of the object service as the queue calls, with its
// rules; internal/app tests the queue with the real one.
type fakeObjects struct {
	t  testing.TB
	mu sync.Mutex

	uploads map[string]string // uploadId and expiration by name
	done    map[string]bool
	refuse  string // a code to answer with
	scopes  []string
}

func newFakeObjects(t testing.TB) *fakeObjects {
	return &fakeObjects{t: t, uploads: map[string]string{}, done: map[string]bool{}}
}

func (f *fakeObjects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, err := hawk.ParseHeader(r.Header.Get("Authorization"))
	if err != nil {
		f.t.Error(err)
	}
	ext, err := hawk.ParseExt(h.Ext)
	if err != nil || h.ID != queueSelf.ClientID {
		f.t.Error(err, h.ID)
	}
	if f.scopes, err = hawk.ParseAuthorizedScopes(ext.AuthorizedScopes); err != nil {
		f.t.Error(err)
	}
	answer := func(status int, code, body string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if code != "" {
			body = fmt.Sprintf(`{"code":%q,"message":"said the object service"}`, code)
		}
		w.Write([]byte(body))
	}
	path, _ := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/api/object/v1/"))
	method, name, _ := strings.Cut(path, "/")
	switch {
	case f.refuse != "":
		answer(map[string]int{"NoMatchingBackend": 400, "NoMatchingMethod": 406, "InternalServerError": 500}[f.refuse], f.refuse, "")
	case method == "upload":
		var in struct {
			UploadID, Expires, ProjectID string
			ProposedUploadMethods        map[string]any
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.ProposedUploadMethods == nil || len(in.ProposedUploadMethods) > 0 {
			f.t.Error(in, err)
		}
		this := in.UploadID + in.Expires + in.ProjectID
		if old, ok := f.uploads[name]; ok && old != this || f.done[name] {
			answer(409, "RequestConflict", "")
			return
		}
		f.uploads[name] = this
		answer(200, "", `{"projectId":"`+in.ProjectID+`","uploadId":"`+in.UploadID+`","expires":"`+in.Expires+`","uploadMethod":{}}`)
	case !f.done[name]:
		answer(404, "ResourceNotFound", "")
	case method == "metadata":
		answer(200, "", `{"projectId":"p","expires":"2030-01-01T00:00:00.000Z","hashes":{}}`)
	case method == "start-download":
		answer(200, "", `{"method":"simple","url":"https://objects.example.com/`+url.PathEscape(name)+`"}`)
	default:
		answer(404, "ResourceNotFound", "")
	}
}

func (f *fakeObjects) finish(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uploads[name] == "" {
		f.t.Fatalf("no upload of %s", name)
	}
	f.done[name] = true
}

// C52, C53
func TestObjectArtifact(t *testing.T) {
	d := deploy(t)
	id := d.create(with{"projectId": "prj"})
	d.claim("w", 1)
	d.kinds()
	object := with{"storageType": "object", "contentType": "text/plain", "contentLength": 5}
	path := "/task/" + id + "/runs/0/artifacts/public/a%20b"
	name := "t/" + id + "/0/public/a b"
	expires := d.clock.Now().Add(24 * time.Hour)
	a := d.artifact(id, 0, "public/a%20b", object).want(200)
	upload := with{"uploadId": a.string("uploadId")}
	if a.string("name") != name || a.string("projectId") != "prj" || a.string("expires") != expires.String() {
		t.Error(a.body)
	}
	if !slices.Equal(d.objects.scopes, []string{"object:upload:prj:" + name}) {
		t.Error(d.objects.scopes)
	}
	cert, err := hawk.ParseCertificate([]byte(a.string("credentials", "certificate")))
	if err != nil || !slices.Equal(cert.Scopes, []string{"object:upload:prj:" + name}) || cert.Expiry != expires.Millis() {
		t.Errorf("%+v %v", cert, err)
	}
	if want := "artifact-upload/" + id + "/0/on/wg/w"; a.string("credentials", "clientId") != want {
		t.Errorf("%s, want %s", a.string("credentials", "clientId"), want)
	}

	// Nobody sees it.
	for _, p := range []string{"/runs/0/artifacts/public/a%20b", "/runs/0/artifact-info/public/a%20b", "/runs/0/artifact-content/public/a%20b",
		"/artifacts/public/a%20b", "/artifact-info/public/a%20b", "/artifact-content/public/a%20b"} {
		d.call(root, "GET", "/task/"+id+p, nil).want(404, "Artifact not found")
	}
	d.call(root, "GET", "/task/"+id+"/artifacts", nil).want(200, `{"artifacts":[]}`)

	d.call(root, "PUT", path, "{}").want(400, "InputValidationError")
	d.call(root, "PUT", path, with{"uploadId": slugid.New().String()}).want(400, "given uploadId does not match")
	d.call(root, "PUT", path, upload).want(400, "Object storing artifact data does not exist")
	d.call(d.client("queue:create-artifact:"+id+"/1"), "PUT", path, upload).want(403)
	d.wantEvents()
	d.objects.finish(name)
	d.call(root, "PUT", path, upload).want(204)
	d.wantEvents("artifact-created")
	d.call(root, "PUT", path, upload).want(204)
	d.wantEvents("artifact-created")

	g := d.call(nobody, "GET", path, nil).want(303, `"storageType":"object"`)
	if g.header.Get("Location") != "https://objects.example.com/"+url.PathEscape(name) || g.header.Get("x-taskcluster-artifact-storage-type") != "object" {
		t.Error(g.header)
	}
	if !slices.Equal(d.objects.scopes, []string{"object:download:" + name}) {
		t.Error(d.objects.scopes)
	}
	d.call(root, "GET", "/task/"+id+"/runs/0/artifact-info/public/a%20b", nil).want(200, `"storageType":"object"`, `"contentLength":5`)
	d.call(root, "GET", "/task/"+id+"/artifacts", nil).want(200, `"name":"public/a b"`)
	c := d.call(nobody, "GET", "/task/"+id+"/runs/0/artifact-content/public/a%20b", nil).want(200, `"name":"`+name+`"`)
	cert, err = hawk.ParseCertificate([]byte(c.string("credentials", "certificate")))
	if err != nil || !slices.Equal(cert.Scopes, []string{"object:download:" + name}) || cert.Expiry != d.clock.Now().Add(time.Hour).Millis() {
		t.Errorf("%+v %v", cert, err)
	}
	if got := c.string("credentials", "clientId"); got != "artifact-download/"+id+"/0/public/a_b" {
		t.Error(got)
	}
	d.objects.refuse = "NoMatchingMethod"
	d.call(nobody, "GET", path, nil).want(404, "Object does not support simple downloads.")
	d.objects.refuse = ""
	d.objects.done = map[string]bool{}
	d.call(nobody, "GET", path, nil).want(404, "Object does not exist.")

	// No client may have such a name.
	odd := d.artifact(id, 0, "public/%22%5C", object).want(200).string("uploadId")
	d.objects.finish("t/" + id + `/0/public/"\`)
	d.call(root, "PUT", "/task/"+id+"/runs/0/artifacts/public/%22%5C", with{"uploadId": odd}).want(204)
	d.call(nobody, "GET", "/task/"+id+"/runs/0/artifact-content/public/%22%5C", nil).want(200, `/0/public/__"`)
}

// F11: who does not know whether his call succeeded calls again.
func TestObjectArtifactAgain(t *testing.T) {
	d := deploy(t)
	id, _ := d.run()
	object := with{"storageType": "object", "contentType": "text/plain", "expires": d.clock.Now().Add(time.Hour).String()}
	alter := func(changes with) with { return d.definitionOf(object, changes) }
	d.objects.refuse = "InternalServerError"
	d.artifact(id, 0, "x", object).want(500)
	d.objects.refuse = "NoMatchingBackend"
	d.artifact(id, 0, "x", object).want(400, "InputError", "Use the storageType `s3`")
	d.objects.refuse = ""
	first := d.artifact(id, 0, "x", object).want(200).string("uploadId")
	if again := d.artifact(id, 0, "x", object).want(200).string("uploadId"); again != first {
		t.Error(first, again)
	}
	d.artifact(id, 0, "x", alter(with{"contentType": "text/html"})).want(409)
	d.artifact(id, 0, "x", alter(with{"expires": d.clock.Now().Add(2 * time.Hour).String()})).want(409)
	d.artifact(id, 0, "x", with{"storageType": "s3", "contentType": "text/plain"}).want(409)
	d.objects.finish("t/" + id + "/0/x")
	d.call(root, "PUT", "/task/"+id+"/runs/0/artifacts/x", with{"uploadId": first}).want(204)
	d.artifact(id, 0, "x", object).want(409, "Artifact already exists")

	// The object's name is taken by something else.
	d.objects.uploads["t/"+id+"/0/y"] = "of somebody else"
	d.artifact(id, 0, "y", object).want(409, "RequestConflict", "Use another name")
	// An artifact may expire at once.
	d.artifact(id, 0, "z", alter(with{"expires": d.clock.Now().Add(-time.Minute).String()})).want(200)
}

// Without an object service the type is refused by name.
func TestNoObjects(t *testing.T) {
	d := deploy(t)
	d.queue.objects = nil
	id, _ := d.run()
	d.artifact(id, 0, "obj", with{"storageType": "object", "contentType": "x"}).want(400, "InputError", "`object` are not supported")
	d.call(root, "GET", "/task/"+id+"/artifacts", nil).want(200, `{"artifacts":[]}`)
}

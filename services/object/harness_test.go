package object

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/blob"
	"taskcluster/internal/blob/fs"
	"taskcluster/internal/clock"
	"taskcluster/internal/schema"
	"taskcluster/internal/scopes"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

const testRoot = "https://tc.example.com"

// testAuth believes the Authorization header, which lists scopes.
type testAuth struct{}

func (testAuth) Authenticate(_ context.Context, r api.AuthRequest) *api.AuthResult {
	if r.Authorization == "" {
		return &api.AuthResult{Status: api.NoAuth, Scopes: scopes.NewSet()}
	}
	return &api.AuthResult{Status: api.AuthSuccess, ClientID: "tester", Scopes: scopes.NewSet(strings.Fields(r.Authorization)...)}
}

// deployment is the service on a real store and the file system, behind the
// HTTP API.
type deployment struct {
	t       *testing.T
	clock   *clock.Fake
	store   *store.Store
	blobs   *fs.Store
	service *Service
	schemas *schema.Set
	handler http.Handler
	outputs map[string]string
}

func testClock() *clock.Fake {
	return clock.NewFake(clock.Of(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)))
}

var testMigrations = []store.Migrations{api.Migrations(), Migrations()}

func deploy(t *testing.T, change ...func(*Config)) *deployment {
	t.Helper()
	c := testClock()
	return deployOn(t, storetest.Open(t, store.Options{Clock: c, Migrations: testMigrations}), c, change...)
}

func deployOn(t *testing.T, s *store.Store, c *clock.Fake, change ...func(*Config)) *deployment {
	t.Helper()
	d := &deployment{t: t, clock: c, store: s}
	var err error
	d.blobs, err = fs.New(filepath.Join(t.TempDir(), "blobs"), fs.Options{RootURL: testRoot, Key: bytes.Repeat([]byte{7}, 32), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	d.serve(change...)
	return d
}

// serve makes the service, as after a restart.
func (d *deployment) serve(change ...func(*Config)) {
	d.t.Helper()
	cfg := Config{
		Store: d.store, Clock: d.clock, Logger: slog.New(slog.DiscardHandler),
		Backends: map[string]Backend{"main": {Blob: d.blobs, Prefix: "object/"}},
		Map:      []Rule{{BackendID: "main"}},
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if d.service, err = New(cfg); err != nil {
		d.t.Fatal(err)
	}
	definition := d.service.API()
	if d.schemas, err = schema.Load(definition.Schemas); err != nil {
		d.t.Fatal(err)
	}
	d.outputs = map[string]string{}
	for i := range definition.Methods {
		m := &definition.Methods[i]
		d.outputs[m.Name] = m.Output
		handle, name := m.Handle, m.Name
		m.Handle = func(c *api.Call) (any, error) {
			*c.Request.Context().Value(methodName{}).(*string) = name
			return handle(c)
		}
	}
	server, err := api.New(api.Options{RootURL: testRoot, Schemas: d.schemas, Auth: testAuth{}, Clock: d.clock,
		Log: slog.New(slog.DiscardHandler)}, definition)
	if err != nil {
		d.t.Fatal(err)
	}
	d.handler = server
}

type methodName struct{}

type with = map[string]any

// answer is what came back.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	body   string
}

// call sends a request with these scopes.
func (d *deployment) call(scopes, verb, path string, body any) *answer {
	d.t.Helper()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	default:
		var err error
		if text, err = json.Marshal(b); err != nil {
			d.t.Fatal(err)
		}
	}
	method := ""
	r := httptest.NewRequest(verb, testRoot+"/api/object/v1"+path, bytes.NewReader(text))
	r = r.WithContext(context.WithValue(d.t.Context(), methodName{}, &method))
	r.RequestURI = "/api/object/v1" + path
	if scopes != "" {
		r.Header.Set("Authorization", scopes)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	a := &answer{d.t, verb + " " + path, w.Code, w.Header(), w.Body.String()}
	if output := d.outputs[method]; output != "" && w.Code == 200 {
		sc, err := d.schemas.Schema("object", output)
		if err != nil {
			d.t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			d.t.Fatalf("%s: %v in %s", a.what, err, a.body)
		}
		if problems := sc.Validate(v); len(problems) > 0 {
			d.t.Errorf("%s: the answer does not fit %s: %v\n%s", a.what, output, problems, a.body)
		}
	}
	return a
}

// want checks the status, and that the body has all these texts.
func (a *answer) want(status int, texts ...string) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d: %s", a.what, a.status, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			a.t.Fatalf("%s: no %q in %s", a.what, text, a.body)
		}
	}
	return a
}

// at walks into the JSON of the answer.
func (a *answer) at(path ...string) any {
	a.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%s: %v in %s", a.what, err, a.body)
	}
	for _, step := range path {
		m, _ := v.(map[string]any)
		v = m[step]
	}
	return v
}

func (a *answer) string(path ...string) string {
	a.t.Helper()
	s, ok := a.at(path...).(string)
	if !ok {
		a.t.Fatalf("%s: no string at %v in %s", a.what, path, a.body)
	}
	return s
}

// upload is one upload, with what its calls have in common.
type upload struct {
	d    *deployment
	path string // the name, escaped
	with with
}

func (d *deployment) upload(path string) *upload {
	return &upload{d, path, with{
		"projectId": "prj", "uploadId": slugid.Nice().String(),
		"expires": d.clock.Now().Add(48 * time.Hour).String(), "proposedUploadMethods": with{},
	}}
}

// but is the upload's body with changes; nil leaves a member out.
func (u *upload) but(changes with) with {
	m := over(u.with, changes)
	for k, v := range m {
		if v == nil {
			delete(m, k)
		}
	}
	return m
}

// over lays changes over base.
func over(base, changes with) with {
	m := maps.Clone(base)
	maps.Copy(m, changes)
	return m
}

const all = "object:upload:* object:download:*"

func (u *upload) create(changes with) *answer {
	u.d.t.Helper()
	return u.d.call(all, "PUT", "/upload/"+u.path, u.but(changes))
}

func (u *upload) finish(changes with) *answer {
	u.d.t.Helper()
	return u.d.call(all, "POST", "/finish-upload/"+u.path, u.but(over(with{"expires": nil, "proposedUploadMethods": nil}, changes)))
}

// inline uploads and finishes an object.
func (u *upload) inline(data, contentType string) *upload {
	u.d.t.Helper()
	u.create(with{"proposedUploadMethods": inline(data, contentType)}).want(200)
	u.finish(nil).want(200)
	return u
}

// plain sends a request without credentials to a URL of the blob store.
func (d *deployment) plain(verb, url, body string, headers ...string) *http.Response {
	d.t.Helper()
	resource, ok := strings.CutPrefix(url, testRoot)
	if !ok {
		d.t.Fatalf("%s is not of this deployment", url)
	}
	r := httptest.NewRequest(verb, resource, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.blobs.Handler().ServeHTTP(w, r)
	return w.Result()
}

// content reads an object as a client does that accepts this method.
func (d *deployment) content(path, method string) string {
	d.t.Helper()
	url := d.call(all, "PUT", "/start-download/"+path, with{"acceptDownloadMethods": with{method: true}}).want(200).string("url")
	res := d.plain("GET", url, "")
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		d.t.Fatalf("GET %s: %d %s %v", url, res.StatusCode, text, err)
	}
	return string(text)
}

// stored tells whether the blob store has the data of an object.
func (d *deployment) stored(name string) bool {
	d.t.Helper()
	_, err := d.blobs.Stat(d.t.Context(), "object/"+name)
	if err != nil && err != blob.ErrNotFound {
		d.t.Fatal(err)
	}
	return err == nil
}

func (d *deployment) rows() (n int) {
	d.t.Helper()
	err := d.store.Read(d.t.Context(), func(tx *store.Tx) error {
		rows := tx.Query(stmt.expired, 0, 0, int64(1)<<62, 1<<30)
		defer rows.Close()
		for rows.Next() {
			n++
		}
		return rows.Err()
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

func (d *deployment) expire() string {
	d.t.Helper()
	done, err := d.service.expiry().Once(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return fmt.Sprintf("%d removed, %d kept", done.Removed["objects"], done.Kept)
}

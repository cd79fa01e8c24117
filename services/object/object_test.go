package object

import (
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/slugid"
)

func inline(data, contentType string) with {
	return with{"dataInline": with{"contentType": contentType, "objectData": base64.StdEncoding.EncodeToString([]byte(data))}}
}

func byPut(length int, contentType string) with {
	return with{"putUrl": with{"contentType": contentType, "contentLength": length}}
}

func TestDataInline(t *testing.T) {
	d := deploy(t)
	u := d.upload("public%2Fa%20b.txt")
	// verbatim, though nobody else writes it so
	expires := "2026-05-06T03:02:01.25+00:00"
	u.with["expires"] = expires
	a := u.create(with{"proposedUploadMethods": with{"dataInline": inline("hello", "text/plain")["dataInline"], "putUrl": byPut(5, "text/plain")["putUrl"]}}).want(200)
	if a.string("expires") != expires || a.string("projectId") != "prj" || a.string("uploadId") != u.with["uploadId"] ||
		a.at("uploadMethod", "dataInline") != true || a.at("uploadMethod", "putUrl") != nil {
		t.Error(a.body)
	}
	d.call(all, "GET", "/metadata/public/a%20b.txt", nil).want(404, "ResourceNotFound")
	d.call(all, "GET", "/download/public/a%20b.txt", nil).want(404)
	d.call(all, "PUT", "/start-download/public/a%20b.txt", with{"acceptDownloadMethods": with{"simple": true}}).want(404)
	hash := strings.Repeat("a", 64)
	if a := u.finish(with{"hashes": with{"sha256": hash, "crc": 7}}).want(200); a.body != "{}" {
		t.Error(a.body)
	}
	for _, path := range []string{"public/a%20b.txt", "public%2Fa%20b.txt"} {
		m := d.call(all, "GET", "/metadata/"+path, nil).want(200, `"expires":"2026-05-06T03:02:01.250Z"`)
		if m.string("hashes", "sha256") != hash || m.at("hashes", "crc") != 7.0 || m.string("projectId") != "prj" {
			t.Error(m.body)
		}
	}
	if got := d.content("public/a%20b.txt", "simple"); got != "hello" {
		t.Errorf("%q", got)
	}
	g := d.call(all, "PUT", "/start-download/public/a%20b.txt", with{"acceptDownloadMethods": with{"simple": true, "getUrl": true}}).want(200)
	if g.string("method") != "getUrl" || g.string("hashes", "sha256") != hash || g.string("expires") != d.clock.Now().Add(time.Minute).String() {
		t.Error(g.body)
	}
	d.clock.Advance(119 * time.Second)
	if res := d.plain("GET", g.string("url"), "", "Range", "bytes=1-2"); res.StatusCode != 206 || res.Header.Get("Content-Type") != "text/plain" {
		t.Error(res.StatusCode, res.Header)
	}
	d.clock.Advance(time.Second)
	if res := d.plain("GET", g.string("url"), ""); res.StatusCode != 403 {
		t.Error(res.StatusCode)
	}
	r := d.call(all, "GET", "/download/public/a%20b.txt", nil).want(303, "See Other")
	if ct := r.header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Error(ct)
	}
	d.clock.Advance(29 * time.Minute)
	if res := d.plain("GET", r.header.Get("Location"), ""); res.StatusCode != 200 {
		t.Error(res.StatusCode)
	}
}

func TestPutURL(t *testing.T) {
	d := deploy(t)
	u := d.upload("page")
	a := u.create(with{"proposedUploadMethods": byPut(5, "text/html; charset=utf-8")}).want(200)
	headers, _ := a.at("uploadMethod", "putUrl", "headers").(with)
	for k, v := range (with{"Content-Type": "text/html; charset=utf-8", "Content-Length": "5", "Content-Encoding": "identity", "Content-Disposition": "attachment"}) {
		if headers[k] != v {
			t.Errorf("%s: %v", k, headers[k])
		}
	}
	url := a.string("uploadMethod", "putUrl", "url")
	if a.string("uploadMethod", "putUrl", "expires") != d.clock.Now().Add(45*time.Minute).String() {
		t.Error(a.body)
	}
	good := []string{"Content-Type", "text/html; charset=utf-8", "Content-Encoding", "identity", "Content-Disposition", "attachment"}
	for name, res := range map[string]int{
		"other type":        d.plain("PUT", url, "hello", append(good[2:], "Content-Type", "text/plain")...).StatusCode,
		"no disposition":    d.plain("PUT", url, "hello", good[:4]...).StatusCode,
		"too long":          d.plain("PUT", url, "hello!", good...).StatusCode,
		"too short":         d.plain("PUT", url, "hell", good...).StatusCode,
		"promise withdrawn": d.plain("PUT", strings.Replace(url, "length=5", "length=6", 1), "hello!", good...).StatusCode,
	} {
		if res != 403 {
			t.Errorf("%s: %d", name, res)
		}
	}
	if res := d.plain("PUT", url, "hello", good...); res.StatusCode != 200 {
		t.Fatal(res.StatusCode)
	}
	u.finish(nil).want(200)
	simple := d.call(all, "PUT", "/start-download/page", with{"acceptDownloadMethods": with{"simple": true}}).want(200, `"simple"`)
	res := d.plain("GET", simple.string("url"), "")
	text, _ := io.ReadAll(res.Body)
	if string(text) != "hello" || res.Header.Get("Content-Disposition") != "attachment" || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%q %v", text, res.Header)
	}
	d.call(all, "GET", "/metadata/page", nil).want(200, `"hashes":{}`)
	d.upload("negative").create(with{"proposedUploadMethods": byPut(-1, "a/b")}).want(400, "contentLength")
	d.upload("header").create(with{"proposedUploadMethods": byPut(1, "a/b\r\nx: y")}).want(400, "InputError")
	d.upload("header2").create(with{"proposedUploadMethods": inline("x", "a/b\r\nx: y")}).want(400, "InputError")
}

func TestCreateAgain(t *testing.T) {
	d := deploy(t)
	u := d.upload("x")
	if a := u.create(nil).want(200); len(a.at("uploadMethod").(with)) != 0 {
		t.Error(a.body)
	}
	sha := func(c string) string { return strings.Repeat(c, 64) }
	u.create(with{"proposedUploadMethods": inline("x", "a/b")}).want(200, `"dataInline":true`)
	u.create(with{"hashes": with{"sha256": sha("a")}}).want(200)
	u.create(with{"hashes": with{"sha256": sha("a"), "md5": "x"}}).want(200)
	u.create(with{"hashes": with{"sha256": sha("b")}}).want(409, "Content hash already exists with a different value")
	u.create(with{"uploadId": slugid.Nice().String()}).want(409, "Object already exists")
	u.create(with{"expires": d.clock.Now().Add(time.Hour).String()}).want(409, "Object already exists")
	u.create(with{"projectId": "other"}).want(409, "Object already exists")
	other := d.upload("y")
	other.create(with{"uploadId": u.with["uploadId"]}).want(409, "uploadId belongs to another")
	// Changing the map makes a repetition conflict.
	d.serve(func(c *Config) {
		c.Backends["second"] = Backend{Blob: d.blobs, Prefix: "second/"}
		c.Map = []Rule{{BackendID: "second"}}
	})
	u.create(nil).want(409, "Object already exists")
	d.serve()
	u.finish(with{"hashes": with{"sha256": sha("b")}}).want(409, "Content hash already exists")
	u.finish(nil).want(200)
	u.create(nil).want(409, "Object already exists", "finished")
	d.call(all, "GET", "/metadata/x", nil).want(200, sha("a"), `"md5":"x"`)

	late := d.upload("late")
	late.create(nil).want(200)
	d.clock.Advance(24 * time.Hour)
	late.create(nil).want(409, "not finished in time")
}

func TestFinish(t *testing.T) {
	d := deploy(t)
	u := d.upload("x")
	u.finish(nil).want(404, "not found")
	h := with{"sha256": strings.Repeat("a", 64), "sha512": strings.Repeat("b", 128)}
	u.create(with{"proposedUploadMethods": inline("x", "a/b")}).want(200)
	u.finish(with{"projectId": "other"}).want(400, "InputError", "does not belong")
	u.finish(with{"uploadId": slugid.Nice().String()}).want(409, "RequestConflict", "uploadId")
	u.finish(with{"hashes": h}).want(200)
	u.finish(with{"projectId": "other"}).want(400)
	u.finish(with{"hashes": h}).want(200)
	u.finish(with{"hashes": with{"sha256": h["sha256"]}}).want(200)
	u.finish(nil).want(200)
	u.finish(with{"uploadId": slugid.Nice().String()}).want(200)
	u.finish(with{"hashes": with{"md5": "x"}}).want(409, "already finished, but without hash algorithm")
	u.finish(with{"hashes": with{"sha256": strings.Repeat("c", 64)}}).want(409, "already finished, but with a different hash for algorithm")

	many := with{}
	for i := range maxHashes + 1 {
		many[strings.Repeat("x", i+1)] = "y"
	}
	d.upload("many").create(with{"hashes": many}).want(400, "32 hashes")
	d.upload("long").create(with{"hashes": with{"a": strings.Repeat("y", 2000)}}).want(400, "characters")
	d.upload("bad").create(with{"hashes": with{"sha256": "y"}}).want(400, "InputValidationError")
}

func TestDownloadMethods(t *testing.T) {
	d := deploy(t)
	d.upload("x").inline("data", "text/plain")
	d.call(all, "PUT", "/start-download/x", with{"acceptDownloadMethods": with{}}).want(406, "NoMatchingMethod", "simple, getUrl")
	d.call(all, "PUT", "/start-download/x", with{"acceptDownloadMethods": with{"simple": false}}).want(400, "InputValidationError")
	d.call(all, "PUT", "/start-download/x", with{"acceptDownloadMethods": with{"other": true}}).want(400)
	for _, path := range []string{"/metadata/none", "/download/none"} {
		d.call(all, "GET", path, nil).want(404, "ResourceNotFound", "not found")
	}
	// Its backend is gone.
	d.serve(func(c *Config) {
		c.Backends = map[string]Backend{"new": {Blob: d.blobs, Prefix: "new/"}}
		c.Map = []Rule{{BackendID: "new"}}
	})
	d.call(all, "PUT", "/start-download/x", with{"acceptDownloadMethods": with{"simple": true}}).want(400, "NoMatchingBackend")
	d.call(all, "GET", "/download/x", nil).want(400, "NoMatchingBackend")
	d.call(all, "GET", "/metadata/x", nil).want(200)
	d.clock.Advance(72 * time.Hour)
	if got := d.expire(); got != "0 removed, 1 kept" {
		t.Error(got)
	}
	d.call(all, "GET", "/metadata/x", nil).want(200)
}

func TestScopes(t *testing.T) {
	d := deploy(t)
	u := d.upload("a%2Fb")
	u.inline("data", "text/plain")
	for _, c := range []struct {
		scopes, verb, path string
		body               any
		need               string
	}{
		{"object:upload:prj:a/b/*", "PUT", "/upload/a%2Fb", u.with, "object:upload:prj:a/b"},
		{"object:upload:other:a/b", "POST", "/finish-upload/a%2Fb", u.but(with{"expires": nil, "proposedUploadMethods": nil}), "object:upload:prj:a/b"},
		{"object:download:a", "GET", "/metadata/a/b", nil, "object:download:a/b"},
		{"object:upload:*", "GET", "/download/a/b", nil, "object:download:a/b"},
		{"object:download:a/b/*", "PUT", "/start-download/a/b", with{"acceptDownloadMethods": with{"simple": true}}, "object:download:a/b"},
	} {
		d.call(c.scopes, c.verb, c.path, c.body).want(403, "InsufficientScopes", c.need)
		d.call("", c.verb, c.path, c.body).want(403, "InsufficientScopes", c.need)
	}
	d.call("object:download:a/b", "GET", "/metadata/a/b", nil).want(200)
	d.call(all, "PUT", "/upload/a/b", u.with).want(404) // slashes are to be escaped there
	d.call(all, "GET", "/metadata/", nil).want(400, "InvalidRequestArguments")
	d.call(all, "GET", "/metadata/%00", nil).want(400, "InvalidRequestArguments")
}

func TestBackendFails(t *testing.T) {
	d := deploy(t)
	failing := &brokenStore{Store: d.blobs, err: errors.New("the password of the bucket is hunter2")}
	d.serve(func(c *Config) { c.Backends["main"] = Backend{Blob: failing, Prefix: "object/"} })
	u := d.upload("x")
	if a := u.create(with{"proposedUploadMethods": inline("data", "text/plain")}).want(500, "InternalServerError"); strings.Contains(a.body, "hunter2") {
		t.Error(a.body)
	}
	failing.err = nil
	u.inline("data", "text/plain")
	if got := d.content("x", "getUrl"); got != "data" {
		t.Errorf("%q", got)
	}
}

// Node.js decodes leniently, and clients may count on it.
func TestDecode(t *testing.T) {
	for in, want := range map[string]string{
		"aGVsbG8=": "hello", "aGVsbG8": "hello", "aGVs\nbG8=": "hello", "a-_8": "k\xef\xfc", "a+/8": "k\xef\xfc",
		"": "", "a": "", "aGVsbG8==aGVsbG8=": "hello", "äaGVsbG8": "hello", "aGV": "he",
	} {
		if got := string(decode(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestFinishWithoutBackend(t *testing.T) {
	d := deploy(t)
	u := d.upload("x")
	u.create(nil).want(200)
	d.serve(func(c *Config) {
		c.Backends = map[string]Backend{"new": {Blob: d.blobs, Prefix: "new/"}}
		c.Map = []Rule{{BackendID: "new"}}
	})
	u.finish(with{"uploadId": slugid.Nice().String()}).want(409)
	u.finish(nil).want(400, "NoMatchingBackend")
}

// As published, finishing does not look at the data.
func TestFinishWithoutData(t *testing.T) {
	d := deploy(t)
	u := d.upload("empty")
	u.create(nil).want(200, `"uploadMethod":{}`)
	u.finish(nil).want(200)
	d.call(all, "GET", "/metadata/empty", nil).want(200)
	a := d.call(all, "PUT", "/start-download/empty", with{"acceptDownloadMethods": with{"simple": true}}).want(200)
	if res := d.plain("GET", a.string("url"), ""); res.StatusCode != 404 {
		t.Error(res.StatusCode)
	}
}

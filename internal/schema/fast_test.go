package schema

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// bundles loads what the services have, without importing them.
func bundles(t testing.TB) *Set {
	t.Helper()
	set, err := Load(
		Source{Service: "queue", FS: os.DirFS("../../services/queue/schemas")},
		Source{Service: "auth", FS: os.DirFS("../../services/auth/schemas")})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func get(t testing.TB, set *Set, service, ref string) *Schema {
	t.Helper()
	sc, err := set.Schema(service, ref)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

// typical is a task such as workers get by the thousand, about 1 KB.
const typical = `{
  "taskQueueId": "local/native", "schedulerId": "gecko-level-1", "projectId": "none",
  "taskGroupId": "fN1SbArXTPSVFNUvaOlinQ",
  "dependencies": ["fN1SbArXTPSVFNUvaOlinQ", "OWZ4sG8bQOO1aYVSJSBpGw"],
  "routes": ["index.project.test.latest", "notify.email.someone@example.com.on-failed"],
  "priority": "low", "retries": 3,
  "created": "2026-01-01T00:00:00.000Z", "deadline": "2026-01-02T00:00:00.000Z", "expires": "2026-03-01T00:00:00.000Z",
  "scopes": ["docker-worker:cache:tooltool", "queue:get-artifact:private/*"],
  "payload": {
    "command": [["/bin/bash", "-c", "set -e\necho \"hello\" && make -j4 all check"]],
    "env": {"A": "1", "GECKO_HEAD_REPOSITORY": "https://example.com/repo", "MOZ_BUILD_DATE": "20260101000000"},
    "maxRunTime": 3600, "artifacts": [{"name": "public/build", "path": "out", "type": "directory"}], "features": {"taskclusterProxy": true}
  },
  "metadata": {"name": "build", "description": "Builds it\nall", "owner": "someone@example.com", "source": "https://example.com/repo/file.yml"},
  "tags": {"kind": "build", "os": "linux"}
}`

const minimal = `{"provisionerId":"p","workerType":"w","created":"2026-01-01T00:00:00Z","deadline":"2026-01-01T01:00:00Z","payload":{},
	"metadata":{"name":"n","description":"","owner":"o","source":"git@example.com:x"}}`

// What is frequent must not go the long way.
func TestQuick(t *testing.T) {
	set := bundles(t)
	for _, c := range []struct{ service, ref, doc string }{
		{"queue", "v1/create-task-request.json#", typical},
		{"queue", "v1/create-task-request.json#", minimal},
		{"queue", "v1/claim-work-request.json#", `{"workerGroup":"g","workerId":"i-0","tasks":4}`},
		{"queue", "v1/claim-work-request.json#", `{"workerGroup":"g","workerId":"i-0"}`},
		{"queue", "v1/task-exception-request.json#", `{"reason":"worker-shutdown"}`},
		{"queue", "v1/tasks-request.json#", `{"taskIds":["fN1SbArXTPSVFNUvaOlinQ"]}`},
		{"queue", "v1/post-artifact-request.json#", `{"storageType":"s3","expires":"2026-01-01T00:00:00Z","contentType":"text/plain","contentLength":3}`},
		{"queue", "v1/post-artifact-request.json#", `{"storageType":"error","expires":"2026-01-01T00:00:00Z","reason":"file-missing-on-worker","message":"no"}`},
		{"auth", "v1/create-client-request.json#", `{"expires":"2026-01-01T00:00:00Z","description":"x","scopes":["a:*","b"]}`},
		{"auth", "v1/scopeset.json#", `{"scopes":["a","b"]}`},
	} {
		sc := get(t, set, c.service, c.ref)
		quick, ok := sc.quick([]byte(c.doc))
		if !ok {
			t.Errorf("%s goes the long way: %s", c.ref, c.doc)
			continue
		}
		agree(t, sc, []byte(c.doc), quick)
	}
}

// agree checks that the long way comes to the same result.
func agree(t *testing.T, sc *Schema, body, quick []byte) {
	t.Helper()
	doc, _, problems, err := sc.Decode(body)
	if err != nil || problems != nil {
		t.Fatalf("%s was accepted, but: %v %q", body, err, problems)
	}
	var a, b bytes.Buffer
	if json.Compact(&a, doc) != nil || json.Compact(&b, quick) != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Fatalf("%s:\nquick %s\nlong  %s", body, &b, &a)
	}
}

func FuzzFastAgrees(f *testing.F) {
	set := bundles(f)
	refs := []string{"v1/create-task-request.json#", "v1/post-artifact-request.json#", "v1/claim-work-request.json#",
		"v1/task-status-response.json#", "v1/worker-response.json#", "v1/task-claim-response.json#"}
	for i := range refs {
		f.Add(uint8(i), []byte(typical))
	}
	f.Add(uint8(0), []byte(minimal))
	f.Add(uint8(0), []byte(strings.Replace(minimal, "{}", `{"a":1,"a":2,"\u0000":1e5,"b":[1.5,-0,01]}`, 1)))
	f.Add(uint8(1), []byte(`{"storageType":"link","expires":"2026-01-01T00:00:00Z","artifact":"public/x","contentType":"a"}`))
	f.Add(uint8(2), []byte(`{"workerGroup":"g","workerId":"\u0061","tasks":1.0}`))
	f.Add(uint8(3), []byte(`{"status":{"taskId":"fN1SbArXTPSVFNUvaOlinQ","provisionerId":"p","workerType":"w","taskQueueId":"p/w","schedulerId":"-","projectId":"none","taskGroupId":"fN1SbArXTPSVFNUvaOlinQ","deadline":"2026-01-01T00:00:00Z","expires":"2026-01-01T00:00:00Z","retriesLeft":5,"state":"running","runs":[{"runId":0,"state":"running","reasonCreated":"scheduled","scheduled":"2026-01-01T00:00:00Z"}]}}`))
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		sc := get(t, set, "queue", refs[int(which)%len(refs)])
		if quick, ok := sc.quick(body); ok {
			agree(t, sc, body, quick)
		}
		firstAgrees(t, sc, body)
	})
}

// FuzzDecode reads any bytes without a panic, and reads what encoding/json
// reads, with the same value.
func FuzzDecode(f *testing.F) {
	set := bundles(f)
	for _, s := range []string{typical, minimal, `[1e400,"\ud800\udc00","\ud800"]`, `{"a":{"b":[]},"a":1}`, `"\u0000"`, "\xff", `1e-5`} {
		f.Add([]byte(s))
	}
	sc := get(f, set, "queue", "v1/create-task-request.json#")
	free := get(f, set, "common", "metaschema.json#")
	f.Fuzz(func(t *testing.T, body []byte) {
		doc, value, _, err := sc.Decode(body)
		if err == nil {
			again, value2, _, err := sc.Decode(doc)
			if err != nil || !reflect.DeepEqual(value, value2) || !bytes.Equal(doc, again) {
				t.Fatalf("not stable: %s, %s: %v", doc, again, err)
			}
		}
		_, value, _, err = free.Decode(body)
		var want any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		refused := d.Decode(&want) != nil || d.More()
		if err == nil && (refused || !reflect.DeepEqual(value, want)) {
			t.Fatalf("%q is %v, encoding/json says %v", body, value, want)
		}
	})
}

func TestMatcher(t *testing.T) {
	for pattern, simple := range map[string]bool{
		`^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$`: true,
		`^([a-zA-Z0-9-_]*)$`: true, `^[ -~]*$`: true, `^[a-z]{1,3}$`: true, `^[a-z]+$`: true,
		`^[a-z]{1,3}[a-z]$`: false, `^[^a]$`: false, `^[\x20-\x7e]*$`: false, `^a$`: false, `[a]`: false, `^[a]{2,}$`: false,
		`^[a]*?$`: false, `^([a])([a])$`: false, `^[a]|[b]$`: false, `^[-a-c]$`: true,
	} {
		if got := parseSteps(pattern) != nil; got != simple {
			t.Errorf("%s: simple is %v", pattern, got)
		}
		m, err := matcher(pattern)
		if err != nil {
			t.Fatal(err)
		}
		re, err := CompilePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"", "a", "b", "-", "_", "aa", "abc", "abcd", "é", "a\n", "\n", "fN1SbArXTPSVFNUvaOlinQ", "fN1SbArXTPSVFNUvaOlinx", "Ab-_9"} {
			if m(s) != re.MatchString(s) {
				t.Errorf("%s on %q: %v", pattern, s, m(s))
			}
		}
	}
	if _, err := CompilePattern(`^(?!.*[-]{2})[a-z]$`); err == nil {
		t.Error("lookahead was taken")
	}
}

func TestAcceptAllocates(t *testing.T) {
	sc := get(t, bundles(t), "queue", "v1/create-task-request.json#")
	body := []byte(typical)
	if n := testing.AllocsPerRun(100, func() { sc.Accept(body) }); n > 8 { // 4, and some with the race detector
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAccept(b *testing.B) {
	sc := get(b, bundles(b), "queue", "v1/create-task-request.json#")
	body := []byte(typical)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, problems, err := sc.Accept(body); err != nil || problems != nil {
			b.Fatal(problems, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	sc := get(b, bundles(b), "queue", "v1/create-task-request.json#")
	body := []byte(typical)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, problems, err := sc.Decode(body); err != nil || problems != nil {
			b.Fatal(problems, err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		bundles(b)
	}
}

// Every value of valid documents is replaced by a lot of others, and every
// member left out, renamed or doubled: what the quick pass then still accepts
// must be right.
func TestQuickAgreesOnVariants(t *testing.T) {
	set := bundles(t)
	values := []string{
		`null`, `true`, `0`, `-0`, `-1`, `1`, `1.0`, `5e0`, `1e400`, `49`, `50`, `1000`, `1001`, `12345678901234567890`, `""`, `"a"`, `"-"`, `"\u0061"`,
		`"\u0000"`, `"\ud800"`, `"é"`, `"A/b"`, `"a/b"`, `"a b"`, `"lowest"`, `"all-resolved"`, `"s3"`, `"link"`, `"http://x/y"`, `"ssh://"`, `"fN1SbArXTPSVFNUvaOlinQ"`,
		`"2026-01-01T00:00:00Z"`, `"2026-02-30T00:00:00Z"`, `"2026-01-01 00:00:00+0100"`, `[]`, `{}`, `[[]]`, `["a","a"]`, `["a","\u0061"]`, `["fN1SbArXTPSVFNUvaOlinQ"]`,
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":"x"}`, `[1,1.0]`, `"` + strings.Repeat("x", 39) + `"`, `"` + strings.Repeat("é", 249) + `"`,
		`"` + strings.Repeat("x", 250) + `"`, `"` + strings.Repeat(`\n`, 200) + `"`, `"` + strings.Repeat("x", 5000) + `"`,
		`["` + strings.Join(strings.Split(strings.Repeat("a", 65), ""), `","`) + `"]`,
	}
	accepted, refused := 0, 0
	for _, c := range []struct{ ref, doc string }{
		{"v1/create-task-request.json#", typical},
		{"v1/create-task-request.json#", minimal},
		{"v1/claim-work-request.json#", `{"workerGroup":"g","workerId":"i-0","tasks":4}`},
		{"v1/post-artifact-request.json#", `{"storageType":"s3","expires":"2026-01-01T00:00:00Z","contentType":"text/plain","contentLength":3}`},
		{"v1/quarantine-worker-request.json#", `{"quarantineUntil":"2026-01-01T00:00:00Z","quarantineInfo":"x"}`},
	} {
		sc := get(t, set, "queue", c.ref)
		try := func(doc []byte) {
			if quick, ok := sc.quick(doc); ok {
				accepted++
				agree(t, sc, doc, quick)
			} else if firstAgrees(t, sc, doc) {
				refused++
			}
		}
		root, _, err := parse([]byte(c.doc))
		if err != nil {
			t.Fatal(err)
		}
		var walk func(n *node)
		walk = func(n *node) {
			for i := range n.members {
				m := n.members[i]
				for _, v := range values {
					n.members[i].value = &node{raw: []byte(v)}
					try(root.appendJSON(nil))
					n.members[i] = m
					n.members = append(n.members, member{raw: m.raw, value: &node{raw: []byte(v)}})
					try(root.appendJSON(nil))
					n.members = n.members[:len(n.members)-1]
				}
				n.members[i].raw = []byte(`"other"`)
				try(root.appendJSON(nil))
				n.members[i] = m
				rest := n.members
				n.members = append(append([]member(nil), rest[:i]...), rest[i+1:]...)
				try(root.appendJSON(nil))
				n.members = rest
				walk(m.value)
			}
			for i, e := range n.items {
				for _, v := range values {
					n.items[i] = &node{raw: []byte(v)}
					try(root.appendJSON(nil))
				}
				n.items[i] = e
				walk(e)
			}
		}
		walk(root)
	}
	if accepted < 500 || refused < 500 {
		t.Errorf("only %d documents were accepted and %d refused, so this test says little", accepted, refused)
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
}

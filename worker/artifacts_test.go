package worker_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"taskcluster/internal/clock"
)

// withArtifacts makes a payload of a script and a list of artifacts.
func withArtifacts(script string, artifacts ...string) string {
	return sh(script, `"artifacts": [`+strings.Join(artifacts, ", ")+`]`)
}

// kept lists a task's artifacts without the logs.
func (q *fakeQueue) kept(task *fakeTask) (names []string) {
	for _, name := range q.names(task) {
		if !strings.HasPrefix(name, "public/logs/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (q *fakeQueue) wantKept(task *fakeTask, want ...string) {
	q.t.Helper()
	if got := q.kept(task); !slices.Equal(got, want) {
		q.t.Errorf("artifacts are %q, want %q", got, want)
	}
}

func TestArtifacts(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(withArtifacts(`
		mkdir -p out/sub/empty; echo text > out/a.txt; printf '\211PNG' > out/sub/b.png; : > out/sub/none; echo x > 'out/with space?#%'
		echo page > page.html; echo abs > abs.json; ln -s page.html link; ln -s ../page.html out/link; ln -s . out/loop`,
		`{"type": "file", "path": "page.html", "name": "public/page.html"}`,
		`{"type": "file", "path": "./out/../page.html", "name": "public/typed", "contentType": "text/x-mine", "contentEncoding": "identity"}`,
		`{"type": "file", "path": "link", "name": "public/link"}`,
		`{"type": "directory", "path": "out", "name": "public/dir/"}`,
		`{"type": "directory", "path": "out/sub/empty", "name": "public/empty"}`,
		`{"type": "file", "path": "not there", "name": "public/optional", "optional": true}`,
		`{"type": "file", "path": "abs.json"}`,
	))
	q.resolved(task, "completed")
	q.wantKept(task, "abs.json s3", "public/dir/a.txt s3", "public/dir/link s3", "public/dir/sub/b.png s3", "public/dir/sub/none s3",
		"public/dir/with space?#% s3", "public/link s3", "public/page.html s3", "public/typed s3")
	for name, want := range map[string]struct{ content, encoding, contentType string }{
		"public/page.html":         {"page\n", "gzip", "text/html; charset=utf-8"},
		"public/typed":             {"page\n", "", "text/x-mine"},
		"public/link":              {"page\n", "gzip", "application/octet-stream"},
		"public/dir/link":          {"page\n", "gzip", "application/octet-stream"},
		"public/dir/a.txt":         {"text\n", "gzip", "text/plain; charset=utf-8"},
		"public/dir/sub/b.png":     {"\x89PNG", "", "image/png"},
		"public/dir/sub/none":      {"", "gzip", "application/octet-stream"},
		"public/dir/with space?#%": {"x\n", "gzip", "application/octet-stream"},
		"abs.json":                 {"abs\n", "gzip", "application/json"},
	} {
		content, encoding := q.stored(task, name)
		if a := q.artifact(task, name); content != want.content || encoding != want.encoding || a.ContentType != want.contentType ||
			!a.Expires.Equal(task.def.Expires.Time) {
			t.Errorf("%s: %q %q %+v", name, content, encoding, a)
		}
	}
	log := q.log(task)
	contains(t, log, "=== Task Finished ===", "Optional artifact public/optional is left out")
	if !strings.Contains(log, `Uploading artifact public/page.html from file page.html with content encoding "gzip", mime type "text/html; charset=utf-8" and expiry `) {
		t.Error(log)
	}
	noSecrets(t, log)
}

func TestArtifactsThatAreNotThere(t *testing.T) {
	for name, c := range map[string]struct {
		script, artifact string
		want             []string
		says             string
	}{
		"missing":         {"true", `{"type": "file", "path": "a"}`, []string{"a error file-missing-on-worker"}, "There is no file"},
		"missing, nested": {"true", `{"type": "directory", "path": "a/b/c"}`, []string{"a/b/c error file-missing-on-worker"}, "no directory"},
		"directory":       {"mkdir a", `{"type": "file", "path": "a"}`, []string{"a error invalid-resource-on-worker"}, "is not a file but a directory"},
		"file":            {"echo > a", `{"type": "directory", "path": "a"}`, []string{"a error invalid-resource-on-worker"}, "is not a directory but a file"},
		"pipe":            {"mkfifo a", `{"type": "file", "path": "a"}`, []string{"a error invalid-resource-on-worker"}, "special"},
		"link outside":    {"ln -s /etc/passwd a", `{"type": "file", "path": "a"}`, []string{"a error file-not-readable-on-worker"}, "cannot be read"},
		"path outside":    {"true", `{"type": "file", "path": "../x", "name": "a"}`, []string{"a error file-not-readable-on-worker"}, "leads out"},
		"absolute":        {"true", `{"type": "file", "path": "/etc/passwd", "name": "a"}`, []string{"a error file-not-readable-on-worker"}, "leads out"},
		"directory with all sorts": {"mkdir a; ln -s /etc/passwd a/out; ln -s nowhere a/dangling; mkfifo a/pipe; echo x > a/good",
			`{"type": "directory", "path": "a"}`,
			[]string{"a/dangling error file-not-readable-on-worker", "a/good s3", "a/out error file-not-readable-on-worker", "a/pipe error invalid-resource-on-worker"}, "special"},
		"bad name":          {"mkdir a; echo x > a/ü; echo x > a/z", `{"type": "directory", "path": "a"}`, []string{"a/z s3"}, "printable ASCII"},
		"directory removed": {`cd /; rm -rf "$TASK_WORKDIR"`, `{"type": "file", "path": "a"}`, nil, "directory is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(t, clock.Real{})
			start(t, q)
			task := q.add(withArtifacts(c.script, c.artifact))
			q.resolved(task, "failed")
			q.wantKept(task, c.want...)
			log := q.log(task)
			contains(t, log, "[taskcluster:error] ")
			if !strings.Contains(log, c.says) {
				t.Errorf("%q is missing in\n%s", c.says, log)
			}
		})
	}
}

func TestArtifactThatCannotBeRead(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("NOTE: root may read everything, so this is tested only as another user")
	}
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(withArtifacts("mkdir d e; echo x > d/a; echo x > b; chmod 0 d/a b e",
		`{"type": "file", "path": "b"}`, `{"type": "directory", "path": "d"}`, `{"type": "directory", "path": "e"}`))
	q.resolved(task, "failed")
	q.wantKept(task, "b error file-not-readable-on-worker", "d/a error file-not-readable-on-worker", "e error file-not-readable-on-worker")
	contains(t, q.log(task), "permission denied")
}

func TestArtifactsOfATaskThatFailed(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(withArtifacts("echo why > report; exit 1", `{"type": "file", "path": "report"}`, `{"type": "file", "path": "missing"}`))
	q.resolved(task, "failed")
	q.wantKept(task, "missing error file-missing-on-worker", "report s3")
}

func TestArtifactNamesThatClash(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(withArtifacts("mkdir -p d/logs; echo forged > d/logs/live_backing.log; echo 1 > d/x; echo 2 > x",
		`{"type": "directory", "path": "d", "name": "public"}`, `{"type": "file", "path": "x", "name": "public/x"}`))
	q.resolved(task, "exception/malformed-payload")
	log := q.log(task)
	contains(t, log, `two artifacts have the name "public/logs/live_backing.log"`)
	contains(t, log, `two artifacts have the name "public/x"`)
}

func TestManyArtifacts(t *testing.T) {
	q := newQueue(t, clock.Real{})
	start(t, q)
	task := q.add(withArtifacts("mkdir d; for i in $(seq 100); do echo $i > d/$i; done", `{"type": "directory", "path": "d"}`))
	q.resolved(task, "completed")
	if n := len(q.kept(task)); n != 100 {
		t.Errorf("%d artifacts", n)
	}
}

func TestUploadIsRepeatedWithANewURL(t *testing.T) {
	q := newQueue(t, clock.Real{})
	var failures atomic.Int32
	q.failWith(func(method, name string) int {
		if method == "PUT" && strings.HasSuffix(name, "/a") && failures.Add(1) <= 3 {
			return []int{500, 503, 403}[failures.Load()-1]
		}
		return 0
	})
	start(t, q)
	task := q.add(withArtifacts("echo content > a", `{"type": "file", "path": "a"}`))
	q.resolved(task, "completed")
	if content, _ := q.stored(task, "a"); content != "content\n" {
		t.Error(content)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if task.creates["a"] != 4 {
		t.Errorf("createArtifact was called %d times for 4 tries", task.creates["a"])
	}
}

func TestUploadsThatDoNotSucceed(t *testing.T) {
	for name, c := range map[string]struct {
		method     string
		status     int
		resolution string
	}{
		"storage away":    {"PUT", 503, "exception/resource-unavailable"},
		"storage refuses": {"PUT", 400, "exception/internal-error"},
		"queue away":      {"createArtifact", 502, "exception/resource-unavailable"},
		"conflict":        {"createArtifact", 409, "exception/malformed-payload"},
		"refused":         {"createArtifact", 400, "exception/malformed-payload"},
		"scopes":          {"createArtifact", 403, "exception/internal-error"},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(t, clock.Real{})
			q.failWith(func(method, name string) int {
				if method == c.method && (name == "a" || strings.HasSuffix(name, "/a")) {
					return c.status
				}
				return 0
			})
			start(t, q)
			task := q.add(withArtifacts("echo content > a; echo content > b", `{"type": "file", "path": "a"}`, `{"type": "file", "path": "b"}`))
			q.resolved(task, c.resolution)
			if content, _ := q.stored(task, "b"); content != "content\n" {
				t.Error("the other artifact was not kept")
			}
			log := q.log(task)
			contains(t, log, `[taskcluster:error] artifact "a" could not be`)
			noSecrets(t, log)
		})
	}
}

func TestLogThatCannotBeKept(t *testing.T) {
	q := newQueue(t, clock.Real{})
	q.failWith(func(method, name string) int {
		if method == "PUT" {
			return http.StatusInsufficientStorage
		}
		return 0
	})
	start(t, q)
	q.resolved(q.add(sh("true")), "exception/resource-unavailable")
	q.resolved(q.add(sh("exit 1")), "failed")
}

func TestNoLiveLogIsNoReasonToFail(t *testing.T) {
	q := newQueue(t, clock.Real{})
	q.failWith(func(method, name string) int {
		if method == "createArtifact" && name == "public/logs/live.log" {
			return http.StatusInternalServerError
		}
		return 0
	})
	start(t, q)
	task := q.add(sh("true", `"features": {"backingLog": false}`))
	q.resolved(task, "completed")
}

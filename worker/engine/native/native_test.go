package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/worker/engine"
	"taskcluster/worker/task"
)

// output collects what a command prints, and tells when it holds a text.
type output struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// grown waits until there is more than n bytes.
func (o *output) grown(t *testing.T, n int) {
	t.Helper()
	o.mu.Lock()
	if o.b.Len() > n {
		o.mu.Unlock()
		return
	}
	changed := make(chan struct{})
	o.changed = changed
	o.mu.Unlock()
	select {
	case <-changed:
	case <-time.After(30 * time.Second):
		t.Fatalf("no more output after %q", o)
	}
}

func (o *output) wait(t *testing.T, part string) {
	t.Helper()
	for text := o.String(); !strings.Contains(text, part); text = o.String() {
		o.grown(t, len(text))
	}
}

func prepare(t *testing.T, grace time.Duration) *sandbox {
	t.Helper()
	s, err := (&Engine{Grace: grace}).Prepare(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*sandbox)
}

var path = []string{"PATH=" + os.Getenv("PATH")}

func sh(t *testing.T, s engine.Sandbox, script string, out io.Writer) engine.Result {
	t.Helper()
	r, err := s.Execute(t.Context(), []string{"sh", "-c", script}, path, out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestExecute(t *testing.T) {
	s := prepare(t, 0)
	var out output
	if r := sh(t, s, `echo out; echo err >&2; pwd; cat; printf '\377\000'`, &out); r.ExitCode != 0 || r.Wall <= 0 {
		t.Fatal(r)
	}
	if want := "out\nerr\n" + s.dir + "\n\xff\x00"; out.String() != want {
		t.Fatalf("%q, want %q", out.String(), want)
	}
	if r := sh(t, s, "exit 7", io.Discard); r.ExitCode != 7 {
		t.Fatal(r)
	}
	var killed output
	if r := sh(t, s, "kill -9 $$", &killed); r.ExitCode != -1 || !strings.Contains(killed.String(), "killed") {
		t.Fatal(r, killed.String())
	}
	if r := sh(t, s, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", io.Discard); r.User+r.Kernel <= 0 {
		t.Fatal(r)
	}
}

func TestWhatCannotBeStarted(t *testing.T) {
	s := prepare(t, 0)
	os.WriteFile(filepath.Join(s.dir, "plain"), []byte("x"), 0o600)
	for _, command := range [][]string{{"no-such-program"}, {"./missing"}, {"./plain"}, {""}, {"plain"}, {"sh", "a\x00b"}, {"sh", strings.Repeat("x", 8<<20)}} {
		_, err := s.Execute(t.Context(), command, path, io.Discard)
		if task.ResolutionOf(err) != task.Failed {
			t.Errorf("%.40q: %v", command, err)
		}
	}
}

func TestLookPathUsesTheTasksEnvironment(t *testing.T) {
	s := prepare(t, 0)
	os.MkdirAll(filepath.Join(s.dir, "bin"), 0o700)
	os.WriteFile(filepath.Join(s.dir, "bin", "mine"), []byte("#!/bin/sh\necho found $1\n"), 0o700)
	var out output
	for _, c := range []struct{ name, path string }{{"mine", "PATH=/nowhere:bin"}, {"bin/mine", "PATH="}, {"mine", "PATH=" + s.dir + "/bin"}} {
		if _, err := s.Execute(t.Context(), []string{c.name, "it"}, []string{"PATH=/usr/bin:/bin", c.path}, &out); err != nil {
			t.Fatal(c, err)
		}
	}
	if out.String() != "found it\nfound it\nfound it\n" {
		t.Fatal(out.String())
	}
}

// All that a command wrote is there when it ended, though a process that it
// left behind keeps the pipe open; what that one writes later is not lost.
func TestBackgroundProcess(t *testing.T) {
	s := prepare(t, 0)
	var out output
	for range 20 {
		sh(t, s, "sleep 1000 & head -c 60000 /dev/zero | tr '\\0' x; echo; echo end", &out)
		if !strings.HasSuffix(out.String(), "end\n") {
			t.Fatalf("output is missing: %.40q...", out.String())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = prepare(t, 0)
	sh(t, s, "mkfifo fifo; (read line < fifo; echo late $line) & ", &out)
	sh(t, s, "echo word > fifo", &out)
	out.wait(t, "late word")
}

func TestGraceLetsACommandEndByItself(t *testing.T) {
	s := prepare(t, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Execute(ctx, []string{"sh", "-c", "trap 'echo cleaned up; exit 3' TERM; echo ready; sleep 1000 & wait"}, path, &out)
	}()
	out.wait(t, "ready")
	cancel()
	<-done
	if !strings.Contains(out.String(), "cleaned up") {
		t.Fatal(out.String())
	}
}

func TestHugeOutput(t *testing.T) {
	s := prepare(t, 0)
	var n counter
	sh(t, s, "head -c 50000000 /dev/zero", &n)
	if n != 50_000_000 {
		t.Fatal(n)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

func TestDirectoryGone(t *testing.T) {
	s := prepare(t, 0)
	os.RemoveAll(s.dir)
	_, err := s.Execute(t.Context(), []string{"/bin/sh", "-c", "true"}, path, io.Discard)
	var f *task.Failure
	if !errors.As(err, &f) {
		t.Fatal(fmt.Sprint(err))
	}
}

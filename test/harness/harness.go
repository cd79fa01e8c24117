// Package harness builds the program once per test run and starts it as a
// process of its own, as a user would, on a free port with a data directory
// that goes away.
package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"taskcluster/internal/testenv"
)

// Binary builds the program (the build cache makes repetitions cheap), with
// further flags of go build if there are any, and returns its path.
func Binary(t testing.TB, flags ...string) string {
	t.Helper()
	path, err := Build(testenv.Root(t), t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Build builds the program of a checkout into a directory, and returns its path.
func Build(root, dir string, flags ...string) (string, error) {
	path := filepath.Join(dir, "taskcluster")
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", path}, flags, []string{"./cmd/taskcluster"})...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
}

// Server is one running process.
type Server struct {
	RootURL, ClientID, AccessToken string
	DataDir                        string

	t      testing.TB
	cmd    *exec.Cmd
	stderr *tail
	once   sync.Once
	ended  chan struct{}
	err    error
}

// Start runs "taskcluster serve" with the given binary, data directory and
// further arguments, and waits until it answers.
func Start(t testing.TB, binary, dataDir string, args ...string) *Server {
	t.Helper()
	began := time.Now()
	s := &Server{t: t, DataDir: dataDir, stderr: &tail{}, ended: make(chan struct{})}
	s.cmd = exec.Command(binary, append([]string{"serve", "--data-dir", dataDir, "--listen", "127.0.0.1:0", "--log-format", "text"}, args...)...)
	s.cmd.Env = cleanEnv()
	s.cmd.Stderr = s.stderr
	endWithParent(s.cmd)
	env := filepath.Join(dataDir, "root.env")
	before, _ := os.Stat(env)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(s.Kill)
	deadline := time.Now().Add(30 * time.Second)
	for {
		if time.Now().After(deadline) {
			t.Fatalf("the server is not up after %v\n%s", time.Since(began), s.Log())
		}
		select {
		case <-s.ended:
			t.Fatalf("the server ended: %v\n%s", s.err, s.Log())
		case <-time.After(5 * time.Millisecond):
		}
		if now, err := os.Stat(env); err != nil || before != nil && now.ModTime().Equal(before.ModTime()) {
			continue // root.env of the process before names its port
		}
		s.readEnv(env)
		if s.up() {
			return s
		}
	}
}

// Join gives the empty data directory of a further node what nodes share: the
// keys, the root's credentials, and the directory of artifacts.
func Join(t testing.TB, first, dataDir string) {
	t.Helper()
	for _, name := range []string{"keys", "root.env"} {
		text, err := os.ReadFile(filepath.Join(first, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dataDir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(first, "artifacts"), filepath.Join(dataDir, "artifacts")); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) readEnv(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		switch name {
		case "TASKCLUSTER_ROOT_URL":
			s.RootURL = value
		case "TASKCLUSTER_CLIENT_ID":
			s.ClientID = value
		case "TASKCLUSTER_ACCESS_TOKEN":
			s.AccessToken = value
		}
	}
}

func (s *Server) up() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.RootURL+"/api/queue/v1/ping", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == 200
}

// Env is the environment by which clients find and use the server.
func (s *Server) Env() []string {
	return append(cleanEnv(), "TASKCLUSTER_ROOT_URL="+s.RootURL, "TASKCLUSTER_CLIENT_ID="+s.ClientID, "TASKCLUSTER_ACCESS_TOKEN="+s.AccessToken)
}

// Log is the end of what the server wrote to standard error.
func (s *Server) Log() string { return s.stderr.String() }

// Signal sends the process a signal: SIGSTOP and SIGCONT, say.
func (s *Server) Signal(signal os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Error(err)
	}
}

// Kill ends the process at once, as kill -9 does.
func (s *Server) Kill() {
	s.once.Do(func() {
		s.cmd.Process.Kill()
		<-s.ended
	})
}

// Stop asks the process to end and waits; it fails the test if the exit status
// is not 0.
func (s *Server) Stop() {
	s.t.Helper()
	s.once.Do(func() {
		s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
		case <-time.After(30 * time.Second):
			s.cmd.Process.Kill()
			s.t.Errorf("the server did not stop\n%s", s.Log())
			return
		}
		var exit *exec.ExitError
		if errors.As(s.err, &exit) {
			s.t.Errorf("exit status %d\n%s", exit.ExitCode(), s.Log())
		}
	})
}

// Run runs a command of the program to its end and returns what it wrote and
// its exit status.
func Run(t testing.TB, binary string, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), 0
}

// Passthrough runs a foreign command, a test runner say, and shows its output in
// the test's log line by line.
func Passthrough(t testing.TB, dir string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s %s: %v", name, strings.Join(args, " "), err)
	}
}

// cleanEnv is this process's environment without settings of a deployment.
func cleanEnv() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TASKCLUSTER_") {
			out = append(out, kv)
		}
	}
	return out
}

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 64 << 10

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > tailSize {
		l.b = l.b[len(l.b)-tailSize:]
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

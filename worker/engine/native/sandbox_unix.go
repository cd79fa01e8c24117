//go:build unix

package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"taskcluster/worker/engine"
	"taskcluster/worker/task"
)

// Check implements engine.Engine.
func (*Engine) Check() error { return nil }

// Prepare implements engine.Engine.
func (e *Engine) Prepare(_ context.Context, dir string) (engine.Sandbox, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &sandbox{dir: abs, grace: e.Grace, tree: newTree(abs)}, nil
}

type sandbox struct {
	dir    string
	grace  time.Duration
	tree   *tree
	copies sync.WaitGroup // of output that outlives its command

	mu    sync.Mutex
	pipes []*os.File
}

// marker names the run in the environment of everything that it starts.
const marker = "TASK_WORKDIR="

// Execute implements engine.Sandbox.
func (s *sandbox) Execute(ctx context.Context, command, env []string, out io.Writer) (engine.Result, error) {
	env = append(env[:len(env):len(env)], marker+s.dir)
	program, err := lookPath(command[0], env, s.dir)
	if err != nil {
		return engine.Result{}, task.Fail(task.Failed, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return engine.Result{}, err
	}
	cmd := &exec.Cmd{Path: program, Args: command, Env: env, Dir: s.dir, Stdout: w, Stderr: w}
	ownGroup(cmd)
	start := time.Now()
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return engine.Result{}, task.Fail(task.Failed, fmt.Errorf("the command could not be started: %w", err))
	}
	s.tree.add(cmd.Process.Pid)

	copied := make(chan struct{})
	go func() {
		io.Copy(out, onlyReader{r}) // until the end, or until drain sets a deadline
		close(copied)
	}()
	ended := make(chan struct{})
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		select {
		case <-ended:
		case <-ctx.Done():
			s.tree.terminate()
			select {
			case <-ended:
			case <-time.After(s.grace):
			}
			s.tree.kill()
		}
	}()
	err = cmd.Wait()
	wall := time.Since(start)
	close(ended)
	<-killed
	s.tree.forget(cmd.Process.Pid)
	s.drain(r, out, copied)

	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return engine.Result{}, err
	} else if ok && ctx.Err() == nil && exit.ExitCode() < 0 {
		fmt.Fprintf(out, "The command was ended by %s.\n", exit.ProcessState)
	}
	return engine.Result{
		ExitCode: cmd.ProcessState.ExitCode(),
		User:     cmd.ProcessState.UserTime(),
		Kernel:   cmd.ProcessState.SystemTime(),
		Wall:     wall,
	}, nil
}

// drain copies what the command wrote before it ended. Others that it started
// may hold the pipe open: what they write goes on being copied until Close.
func (s *sandbox) drain(r *os.File, out io.Writer, copied chan struct{}) {
	r.SetReadDeadline(time.Unix(1, 0)) // wakes the copier
	<-copied
	r.SetReadDeadline(time.Time{})
	if !readAvailable(r, out) {
		r.Close() // everybody has closed it
		return
	}
	s.mu.Lock()
	s.pipes = append(s.pipes, r)
	s.mu.Unlock()
	s.copies.Go(func() { io.Copy(out, onlyReader{r}) })
}

// Close implements engine.Sandbox.
func (s *sandbox) Close() error {
	s.tree.kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.pipes {
		r.SetReadDeadline(time.Unix(1, 0))
	}
	s.copies.Wait()
	for _, r := range s.pipes {
		r.Close()
	}
	s.pipes = nil
	return nil
}

// onlyReader hides the file's other methods, so that io.Copy uses a buffer of
// its own and stops at the file's deadline.
type onlyReader struct{ io.Reader }

// lookPath finds a program as a shell in dir would with the environment given.
func lookPath(name string, env []string, dir string) (string, error) {
	if name == "" {
		return "", errors.New("the command has no program: its first word is empty")
	}
	if strings.Contains(name, "/") {
		return name, nil // relative to dir, which is where it is started
	}
	search := "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			search = p
		}
	}
	for _, d := range filepath.SplitList(search) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		path := filepath.Join(d, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %q was not found in PATH (%s)", name, search)
}

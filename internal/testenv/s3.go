//go:build unix

package testenv

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// S3Server is a running server of the S3 protocol.
type S3Server struct {
	Endpoint        string // http://127.0.0.1:PORT
	Region          string
	Bucket          string // exists, and is empty
	AccessKeyID     string
	SecretAccessKey string

	server *s3Process
}

// s3Process is the server's process, which can be ended and begun again.
type s3Process struct {
	cmd   *exec.Cmd  // how to start it
	ended chan error // of the one that runs
	log   string
	ready string // URL
}

// S3Program is the server that S3 starts, and its version.
// scripts/install-test-deps builds it: it is no dependency of this module.
const S3Program = "versitygw-v1.8.0"

// S3 starts an S3 server for this test, which checks signatures as Amazon does.
// It listens on a free port of 127.0.0.1 and keeps its data in a temporary
// directory. A missing installation fails the test.
func S3(t testing.TB) S3Server {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache")
	}
	program := filepath.Join(cache, "taskcluster-tests", S3Program)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("this test needs the S3 server %s, which is not installed: `make test` installs it (%v)", S3Program, err)
	}
	dir := t.TempDir()
	s := S3Server{Region: "us-east-1", Bucket: "artifacts", AccessKeyID: "test-access-key", SecretAccessKey: "test-secret-key"}
	for _, d := range []string{"data/" + s.Bucket, "meta"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	s.Endpoint = "http://" + address
	// Attributes go into files, as not every file system has room for them.
	cmd := exec.Command(program, "--port", address, "--region", s.Region, "--keep-alive", "--quiet", "--health", "/health",
		"posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKeyID, "ROOT_SECRET_KEY="+s.SecretAccessKey)
	s.server = &s3Process{cmd: cmd, log: filepath.Join(dir, "log"), ready: s.Endpoint + "/health"}
	t.Cleanup(func() { s.server.end(syscall.SIGTERM) })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Kill ends the server at once, as a crash does.
func (s S3Server) Kill() { s.server.end(syscall.SIGKILL) }

// Start starts a server that has ended, on the same port and data.
func (s S3Server) Start() error {
	p := s.server
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the server has it open for itself
	cmd := &exec.Cmd{Path: p.cmd.Path, Args: p.cmd.Args, Env: p.cmd.Env, Stdout: log, Stderr: log}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.ended = cmd, make(chan error, 1)
	go func() { p.ended <- cmd.Wait() }()
	if err := answering(context.Background(), p.ready, p.ended); err != nil {
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("the S3 server did not start: %w\n%s", err, strings.TrimSpace(string(text)))
	}
	return nil
}

// end signals the server and waits for its end.
func (p *s3Process) end(signal os.Signal) {
	if p.ended == nil {
		return
	}
	p.cmd.Process.Signal(signal) // its error is that it has ended
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
	p.ended = nil
}

// answering waits until a URL answers.
func answering(ctx context.Context, url string, ended chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(r); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case exit := <-ended:
			ended <- exit
			return fmt.Errorf("the server ended: %v", exit)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

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
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the server has it open for itself
	// Attributes go into files, as not every file system has room for them.
	server := exec.Command(program, "--port", address, "--region", s.Region, "--keep-alive", "--quiet", "--health", "/health",
		"posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "data"))
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKeyID, "ROOT_SECRET_KEY="+s.SecretAccessKey)
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		if err := server.Process.Signal(syscall.SIGTERM); err != nil {
			return // it has ended
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			server.Process.Kill()
			<-ended
		}
	})
	if err := answering(t.Context(), s.Endpoint+"/health", ended); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("the S3 server did not start: %v\n%s", err, strings.TrimSpace(string(text)))
	}
	return s
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

//go:build unix

// Package testenv starts the servers that tests need, from the programs
// installed on this machine, and stops them at the end of the test.
package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres starts an empty PostgreSQL server for this test. It is stopped, and the
// data removed, at the end of the test. A missing installation fails the test.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	s, err := StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// PostgresServer is a server that runs. It listens on a free port of 127.0.0.1,
// keeps its data in a temporary directory, and does not flush to disk, so that
// the data outlive the server but not the machine. It orders text as people do,
// not by bytes, so that a column that lacks COLLATE "C" is noticed.
type PostgresServer struct {
	// URL is the connection string of an empty database, as libpq and pgx take it.
	URL string

	bin, dir, wal string
	port          int
	attr          *syscall.SysProcAttr
	server        *exec.Cmd
}

// StartPostgres starts an empty server. The caller stops it.
func StartPostgres() (*PostgresServer, error) { return StartPostgresIn("", "") }

// StartPostgresIn is StartPostgres with the tables in one directory and the
// write-ahead log, in small files, in another; "" stands for that of temporary
// files.
func StartPostgresIn(tables, log string) (_ *PostgresServer, err error) {
	s := &PostgresServer{}
	if s.bin, err = postgresBin(); err != nil {
		return nil, err
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	s.URL = fmt.Sprintf("postgres://test@127.0.0.1:%d/postgres?sslmode=disable", s.port)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if s.dir, err = os.MkdirTemp(tables, "taskcluster-postgres-"); err != nil {
		return nil, err
	}
	if s.wal, err = os.MkdirTemp(log, "taskcluster-postgres-wal-"); err != nil {
		return nil, err
	}
	for _, dir := range []string{s.dir, s.wal} {
		if s.attr, err = asUser("postgres", dir); err != nil {
			return nil, err
		}
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), "-D", s.data(), "-X", s.wal, "--wal-segsize=1", "-U", "test", "-A", "trust", "-E", "UTF8",
		"--locale=C", "--locale-provider=icu", "--icu-locale=en", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = s.dir, s.attr
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb failed: %w\n%s", err, out)
	}
	return s, s.Start()
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

// Start starts a server that has ended, on the same port and data.
func (s *PostgresServer) Start() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the server has it open for itself
	server := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	server.Dir, server.SysProcAttr, server.Stdout, server.Stderr = s.dir, s.attr, log, log
	if err := server.Start(); err != nil {
		return err
	}
	s.server = server
	if err := s.waitReady(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("PostgreSQL did not start: %w\n%s", err, text)
	}
	return nil
}

// Log is what the server has logged.
func (s *PostgresServer) Log() (string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text), err
}

// Ended tells whether the server has ended by itself. Start starts it again.
func (s *PostgresServer) Ended() bool {
	if s.server == nil {
		return true
	}
	var status syscall.WaitStatus
	if pid, _ := syscall.Wait4(s.server.Process.Pid, &status, syscall.WNOHANG, nil); pid > 0 {
		s.server = nil
	}
	return s.server == nil
}

// Kill ends the server and its connections at once, as a crash does; Start
// then recovers the data from its log.
func (s *PostgresServer) Kill() error { return s.end(syscall.SIGQUIT) }

// Quit ends the server as an operator does: transactions are undone, connections
// ended. Start starts it again.
func (s *PostgresServer) Quit() error { return s.end(syscall.SIGINT) }

// Stop ends the server and removes its data.
func (s *PostgresServer) Stop() error {
	return errors.Join(s.end(syscall.SIGINT), os.RemoveAll(s.dir), os.RemoveAll(s.wal))
}

// end signals the server and waits for its end. SIGINT is PostgreSQL's fast
// shutdown, SIGQUIT its immediate one.
func (s *PostgresServer) end(signal os.Signal) error {
	if s.server == nil {
		return nil
	}
	server := s.server
	s.server = nil
	if err := server.Process.Signal(signal); err != nil {
		return nil // it has ended
	}
	slow := time.AfterFunc(20*time.Second, func() { server.Process.Kill() })
	server.Wait() // its error is that of the signal
	if !slow.Stop() {
		return errors.New("PostgreSQL did not stop in time and was killed")
	}
	return nil
}

// waitReady tries to connect until the server lets us in.
func (s *PostgresServer) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL)
		if err == nil {
			return conn.Close(ctx)
		}
		var status syscall.WaitStatus
		if pid, _ := syscall.Wait4(s.server.Process.Pid, &status, syscall.WNOHANG, nil); pid > 0 {
			s.server = nil
			return fmt.Errorf("the server ended with status %d: %w", status.ExitStatus(), err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// postgresBin finds the newest installation.
func postgresBin() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		path, err = filepath.EvalSymlinks(path)
		return filepath.Dir(path), err
	}
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/opt/homebrew/opt/postgresql@*/bin/initdb"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		found = append(found, paths...)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("this test needs the programs of PostgreSQL (initdb, postgres), which are not installed: `make test` installs them")
	}
	version := func(path string) int {
		n := 0
		for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
			n, _ = strconv.Atoi(part)
		}
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	return filepath.Dir(found[0]), nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

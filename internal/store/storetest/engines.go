//go:build unix

package storetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/store/sqlite"
	"taskcluster/internal/testenv"
)

// Main runs the tests of a package on both engines: first on SQLite, then all
// once more on a real PostgreSQL, which starts when the first of them opens a
// store. A service's tests need nothing but
//
//	func TestMain(m *testing.M) { os.Exit(storetest.Main(m, "^TestParse")) }
//
// and a harness that opens its store with Open, or with OpenIn when a test
// opens the same data again. Whatever test is added to the package then holds
// on both, and finds out by Dialect where it must know.
//
// Tests whose name matches onlySQLite, which may be empty, run once: those that
// take long and open no store. So do those with Alloc, Memory, Cost, Plans,
// Statements or Reference in their name, which are about one engine or none, and
// fuzzing, benchmarks and profiled tests.
//
// `go test -run TestX` runs TestX on both. A test that fails on PostgreSQL says
// so, and stands below the line "on PostgreSQL".
func Main(m *testing.M, onlySQLite string) int {
	flag.Parse()
	code := m.Run()
	for _, name := range []string{"bench", "fuzz", "list", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace"} {
		if flag.Lookup("test."+name).Value.String() != "" {
			return code
		}
	}
	skip := flag.Lookup("test.skip").Value
	patterns := "^(Fuzz|Test.*(Alloc|Memory|Cost|Plans|Statements|Reference))"
	for _, more := range []string{onlySQLite, skip.String()} {
		if more != "" {
			patterns += "|" + more
		}
	}
	if err := skip.Set(patterns); err != nil {
		panic(err) // a flag of type string
	}
	fmt.Println("on PostgreSQL")
	s := newSharedServer()
	shared.Store(s)
	code = max(code, m.Run())
	if err := s.do(s.stop); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Dialect is the engine that Open opens at present.
func Dialect() string {
	if shared.Load() != nil {
		return store.Postgres
	}
	return store.SQLite
}

// Open opens an empty store, and closes it at the end of the test. It is one of
// SQLite, or of PostgreSQL while Main says so.
func Open(t testing.TB, opts store.Options) *store.Store {
	t.Helper()
	return OpenIn(t, t.TempDir(), opts)
}

// OpenIn is Open for the data directory dir, of this test or of one that it is
// a part of. After Close it may be opened again. In PostgreSQL a schema takes
// the part of the directory.
func OpenIn(t testing.TB, dir string, opts store.Options) *store.Store {
	t.Helper()
	var s *store.Store
	var err error
	if server := shared.Load(); server != nil {
		t.Cleanup(func() {
			if t.Failed() {
				t.Log("this was on PostgreSQL")
			}
		})
		var url string
		err = server.do(func() (err error) {
			url, err = server.url(dir)
			return err
		})
		if err == nil {
			s, err = postgres.Open(context.Background(), url, opts)
		}
	} else {
		s, err = sqlite.Open(context.Background(), filepath.Join(dir, "taskcluster.db"), opts)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("the store could not be closed: %v", err)
		}
	})
	return s
}

// shared is set while Main runs the tests on PostgreSQL.
var shared atomic.Pointer[sharedServer]

// sharedServer is the one PostgreSQL of a test binary. A schema for each store
// is several times as fast as a database. One goroutine does all the work,
// because tests may run in bubbles (testing/synctest), which nothing of this
// may be a part of.
type sharedServer struct {
	work    chan func()
	server  *testenv.PostgresServer
	conn    *pgx.Conn
	schemas map[string]string // by directory
	last    int
}

func newSharedServer() *sharedServer {
	s := &sharedServer{work: make(chan func()), schemas: map[string]string{}}
	go func() {
		for fn := range s.work {
			fn()
		}
	}()
	return s
}

// do has the goroutine run fn.
func (s *sharedServer) do(fn func() error) (err error) {
	var done sync.Mutex // a channel would belong to the bubble of its maker
	done.Lock()
	s.work <- func() {
		err = fn()
		done.Unlock()
	}
	done.Lock()
	return err
}

// url names the schema that belongs to dir, which is made at the first call.
func (s *sharedServer) url(dir string) (string, error) {
	if err := s.start(); err != nil {
		return "", err
	}
	name, ok := s.schemas[dir]
	if !ok {
		script := s.sweep()
		s.last++
		name = fmt.Sprintf("store%d", s.last)
		if _, err := s.conn.Exec(context.Background(), script+"CREATE SCHEMA "+name); err != nil {
			return "", fmt.Errorf("no schema could be made in PostgreSQL: %w", err)
		}
		s.schemas[dir] = name
	}
	return s.server.URL + "&search_path=" + name, nil
}

// sweep drops the schemas whose directories are gone: their tests have ended.
func (s *sharedServer) sweep() string {
	var script strings.Builder
	for dir, name := range s.schemas {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(&script, "DROP SCHEMA %s CASCADE;", name)
			delete(s.schemas, dir)
		}
	}
	return script.String()
}

func (s *sharedServer) start() (err error) {
	if s.server == nil {
		if s.server, err = testenv.StartPostgres(); err != nil {
			return err
		}
	}
	if s.conn == nil {
		s.conn, err = pgx.Connect(context.Background(), s.server.URL)
	}
	return err
}

func (s *sharedServer) stop() error {
	if s.server == nil {
		return nil
	}
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close(context.Background()))
	}
	return errors.Join(append(errs, s.server.Stop())...)
}

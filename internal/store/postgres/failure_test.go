package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/testenv"
)

var stmt = struct{ put, names, pid, number *store.Stmt }{
	put:    store.SQL(`INSERT INTO item (name) VALUES (?)`),
	names:  store.SQL(`SELECT name FROM item`),
	pid:    store.SQL(`SELECT pg_backend_pid()`),
	number: store.SQL(`SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)`),
}

var items = []store.Migrations{{Component: "items", FS: fstest.MapFS{
	"sqlite/0001_items.sql":   {Data: []byte(`CREATE TABLE item (name TEXT PRIMARY KEY);`)},
	"postgres/0001_items.sql": {Data: []byte(`CREATE TABLE item (name TEXT PRIMARY KEY);`)},
}}}

func openItems(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, store.Options{Migrations: items})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(name string) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(stmt.put, name)
		return err
	}
}

func names(t testing.TB, s *store.Store) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := s.Read(context.Background(), func(tx *store.Tx) error {
		clear(all)
		rows := tx.Query(stmt.names)
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			all[name] = true
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// terminate ends a server process, and returns when it has ended.
func terminate(t testing.TB, url string, pid int) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var ended bool
	if err := conn.QueryRow(context.Background(), "SELECT pg_terminate_backend($1, 10000)", pid).Scan(&ended); err != nil || !ended {
		t.Fatalf("the server process %d did not end: %v", pid, err)
	}
}

// backend is the server process of the connection that fn runs on.
func backend(tx *store.Tx) (pid int, err error) {
	err = tx.Row(stmt.pid).Scan(&pid)
	return pid, err
}

func TestConnectionsEnd(t *testing.T) {
	url := newDatabase(t)
	s := openItems(t, url)
	var pid int
	whoAmI := func(tx *store.Tx) (err error) { pid, err = backend(tx); return err }

	t.Run("the writer's, between transactions", func(t *testing.T) {
		if err := s.Write(t.Context(), whoAmI); err != nil {
			t.Fatal(err)
		}
		terminate(t, url, pid)
		if err := s.Write(t.Context(), put("between")); err != nil {
			t.Errorf("the next write: %v", err)
		}
	})
	t.Run("the writer's, in a transaction", func(t *testing.T) {
		before := s.Stats()
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			pid, err := backend(tx)
			if err == nil {
				err = put("lost")(tx)
			}
			if err != nil {
				t.Error(err)
			}
			terminate(t, url, pid)
			return put("lost too")(tx)
		})
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the write: %v", err)
		}
		if n := s.Stats().Commits - before.Commits; n != 0 {
			t.Errorf("%d commits", n)
		}
		if err := s.Write(t.Context(), put("after")); err != nil {
			t.Errorf("the next write: %v", err)
		}
	})
	t.Run("the writer's, before the commit", func(t *testing.T) {
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			tx.OnCommit(func() { t.Error("a hook ran") })
			pid, err := backend(tx)
			if err == nil {
				err = put("lost")(tx)
			}
			terminate(t, url, pid)
			return err
		})
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the write: %v", err)
		}
	})
	t.Run("a reader's", func(t *testing.T) {
		one, err := postgres.Open(t.Context(), url, store.Options{Migrations: items, Readers: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		if err := one.Read(t.Context(), whoAmI); err != nil {
			t.Fatal(err)
		}
		terminate(t, url, pid)
		if err := one.Read(t.Context(), whoAmI); err != nil {
			t.Errorf("the next read: %v", err)
		}
		err = one.Read(t.Context(), func(tx *store.Tx) error {
			pid, err := backend(tx)
			if err != nil {
				return err
			}
			terminate(t, url, pid)
			return whoAmI(tx)
		})
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the read under way: %v", err)
		}
		if err := one.Read(t.Context(), whoAmI); err != nil {
			t.Errorf("the read after it: %v", err)
		}
	})
	if got := names(t, s); len(got) != 2 || !got["between"] || !got["after"] {
		t.Errorf("there is %v", got)
	}
}

// A commit whose answer is lost: what is reported is what happened.
func TestCommitUnanswered(t *testing.T) {
	p, url := newProxy(t, newDatabase(t))
	s, err := postgres.OpenImpatient(t.Context(), url, store.Options{Migrations: items}, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := map[string]bool{}
	for i, c := range []struct {
		name    string
		what    int
		outcome error
		kept    bool
	}{
		{"it arrived", mute, nil, true},
		{"it did not arrive", swallow, store.ErrUnavailable, false},
		{"nothing is wrong", pass, nil, true},
		{"nobody can tell", vanish, store.ErrOutcomeUnknown, true},
	} {
		p.set(c.what)
		name, ran := fmt.Sprint("n", i), 0
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			tx.OnCommit(func() { ran++ })
			return put(name)(tx)
		})
		if !errors.Is(err, c.outcome) {
			t.Errorf("%s: %v", c.name, err)
		}
		if hook := err == nil; hook != (ran == 1) {
			t.Errorf("%s: %v, and the hook ran %d times", c.name, err, ran)
		}
		if c.kept {
			want[name] = true
		}
		if c.what == vanish {
			if err := s.Write(t.Context(), put("meanwhile")); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("a write while the server is out of reach: %v", err)
			}
		}
		p.set(pass)
		// The connection works again, whatever happened.
		again := fmt.Sprint("again", i)
		want[again] = true
		if err := s.Write(t.Context(), put(again)); err != nil {
			t.Errorf("after %s: %v", c.name, err)
		}
		if got := names(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: there is %v, want %v", c.name, got, want)
		}
	}
}

// The server crashes and starts again, several times, under load: every write
// that was acknowledged is there, and none that was refused.
func TestServerRestarts(t *testing.T) {
	server := testenv.Postgres(t)
	s := openItems(t, server.URL)
	defer s.Close()

	const writers, crashes = 16, 3
	var mu sync.Mutex
	outcome := map[string]error{}
	acknowledged := 0
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("%d-%d", w, i)
				err := s.Write(context.Background(), put(name))
				mu.Lock()
				outcome[name] = err
				if err == nil {
					acknowledged++
				}
				mu.Unlock()
				if err != nil {
					time.Sleep(5 * time.Millisecond) // as a client that tries again
				}
			}
		})
	}
	grow := func() {
		mu.Lock()
		before := acknowledged
		mu.Unlock()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			n := acknowledged - before
			mu.Unlock()
			if n >= 200 {
				return
			}
			if time.Now().After(deadline) {
				t.Error("writes do not go on")
				return
			}
		}
	}
	for range crashes {
		grow()
		if err := server.Kill(); err != nil {
			t.Error(err)
		}
		if err := server.Start(); err != nil {
			t.Error(err)
			break
		}
	}
	grow()
	close(stop)
	wg.Wait()

	there := names(t, s)
	refused := 0
	for name, err := range outcome {
		switch {
		case err == nil && !there[name]:
			t.Errorf("%s was acknowledged and is lost", name)
		case errors.Is(err, store.ErrUnavailable):
			refused++
			if there[name] {
				t.Errorf("%s was refused and is there", name)
			}
		case err != nil && !errors.Is(err, store.ErrOutcomeUnknown):
			t.Errorf("%s: %v", name, err)
		}
	}
	if refused == 0 {
		t.Error("no write met a crash")
	}
	t.Logf("%d acknowledged, %d refused", acknowledged, refused)
}

// The server crashes before a transaction is on disk, and forgets that it has
// given it a number. What becomes of the next one of that number is not taken for
// what became of this one.
func TestNumberIsForgotten(t *testing.T) {
	server := testenv.Postgres(t)
	s := openItems(t, server.URL)
	defer s.Close()
	for _, c := range []struct {
		name    string
		next    string // how the transactions of others end that come next; "": there is none
		outcome error
	}{
		{"nobody is given it", "", store.ErrUnavailable},
		{"another is, and is undone", "ROLLBACK", store.ErrUnavailable},
		{"another is, and is committed", "COMMIT", store.ErrOutcomeUnknown},
	} {
		// The server may write it to the disk just before it crashes.
		forgot := false
		for try := 0; try < 10 && !forgot; try++ {
			name := fmt.Sprint(c.name, try)
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				var mine int64
				if err := errors.Join(put(name)(tx), tx.Row(stmt.number).Scan(&mine), server.Kill(), server.Start()); err != nil {
					t.Fatal(err)
				}
				forgot = c.next == ""
				for theirs := int64(0); c.next != "" && theirs < mine; {
					theirs = number(t, server.URL, c.next)
					forgot = forgot || theirs == mine
				}
				return nil
			})
			if err == nil || forgot && !errors.Is(err, c.outcome) {
				t.Errorf("%s: %v", c.name, err)
			}
			if names(t, s)[name] {
				t.Errorf("%s: it is there", c.name)
			}
		}
		if !forgot {
			t.Errorf("%s: the server did not forget it", c.name)
		}
	}
}

// number is that of a transaction that ends so.
func number(t *testing.T, url, end string) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "BEGIN")
	if err == nil {
		err = conn.QueryRow(t.Context(), "SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)").Scan(&n)
	}
	if err == nil {
		_, err = conn.Exec(t.Context(), end)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

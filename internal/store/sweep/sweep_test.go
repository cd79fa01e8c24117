package sweep

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/store/sqlite"
	"taskcluster/internal/testenv"
)

var stmt = struct{ add, remove, count *store.Stmt }{
	add:    store.SQL(`INSERT INTO things (id, expires) VALUES (?, ?)`),
	remove: store.SQL(`DELETE FROM things WHERE id IN (SELECT id FROM things WHERE expires < ? ORDER BY expires LIMIT ?)`),
	count:  store.SQL(`SELECT count(*) FROM things`),
}

func open(t *testing.T, c clock.Clock) *store.Store {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.Options{Clock: c, Migrations: []store.Migrations{{
		Component: "things", FS: fstest.MapFS{
			"sqlite/0001_things.sql":   {Data: []byte(`CREATE TABLE things (id INTEGER PRIMARY KEY, expires INTEGER NOT NULL)`)},
			"postgres/0001_things.sql": {Data: []byte(`CREATE TABLE things (id BIGINT PRIMARY KEY, expires BIGINT NOT NULL)`)},
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func add(t *testing.T, db *store.Store, n int, expires clock.Time) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		for i := range n {
			if _, err := tx.Exec(stmt.add, int64(expires)+int64(i), expires); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, db *store.Store) (n int) {
	t.Helper()
	if err := db.Read(t.Context(), func(tx *store.Tx) error { return tx.Row(stmt.count).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func sweeper(db *store.Store, c clock.Clock, kinds ...Kind) *Sweeper {
	return &Sweeper{Name: "test", Every: time.Minute, Store: db, Clock: c, Log: slog.New(slog.DiscardHandler), Kinds: kinds}
}

func TestRemovesWhatIsDueInManyTransactions(t *testing.T) {
	c := clock.NewFake(clock.OfMillis(1_700_000_000_000))
	db := open(t, c)
	add(t, db, 3000, c.Now().Add(-2*time.Hour))
	add(t, db, 10, c.Now().Add(-time.Minute))
	before := db.Stats().Commits
	done, err := sweeper(db, c, Kind{"things", Rows(stmt.remove, time.Hour)}).Once(t.Context())
	if err != nil || done.Removed["things"] != 3000 || count(t, db) != 10 {
		t.Errorf("removed %v (%v), %d are left", done, err, count(t, db))
	}
	if commits := db.Stats().Commits - before; commits < 3000/mostStep {
		t.Errorf("%d rows were removed in %d transactions, though a step has at most %d", 3000, commits, mostStep)
	}
}

func TestStepsFollowTheBudget(t *testing.T) {
	for _, test := range []struct {
		n    int
		took time.Duration
		want int
	}{
		{50, Budget / 4, 100}, {50, Budget * 3 / 4, 50}, {50, 2 * Budget, 25},
		{leastStep, time.Second, leastStep}, {mostStep, 0, mostStep},
	} {
		if got := next(test.n, test.took); got != test.want {
			t.Errorf("after a step of %d that took %s: %d, want %d", test.n, test.took, got, test.want)
		}
	}
}

// What others wait for is a step with its commit.
func TestTimedCountsTheCommit(t *testing.T) {
	db := open(t, clock.Real{})
	const slow = 30 * time.Millisecond
	for _, part := range []string{"step", "commit"} {
		var longest time.Duration
		err := sweeper(db, clock.Real{}).timed(&longest)(t.Context(), func(tx *store.Tx) error {
			if part == "step" {
				time.Sleep(slow)
				return nil
			}
			tx.OnCommit(func() { time.Sleep(slow) })
			return nil
		})
		if err != nil || longest < slow {
			t.Errorf("a slow %s took %s, noted were %s (%v)", part, slow, longest, err)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	url := testenv.Postgres(t).URL
	running, sweeping := make(chan int, 10), atomic.Int32{}
	var stops [2]func()
	for i := range stops {
		db, err := postgres.Open(t.Context(), url, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		ctx, cancel := context.WithCancel(t.Context())
		s := sweeper(db, clock.Real{}, Kind{"things", func(clock.Time) Step {
			return func(ctx context.Context, _ Write, _ int) (Outcome, error) {
				if sweeping.Add(1) > 1 {
					t.Error("two sweep at once")
				}
				running <- i
				<-ctx.Done()
				sweeping.Add(-1)
				return Outcome{}, ctx.Err()
			}
		}})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.Run(ctx)
		}()
		stops[i] = func() { cancel(); <-ended }
	}
	first := <-running
	stops[first]()
	if second := <-running; second == first {
		t.Error("who has ended sweeps")
	}
	stops[1-first]()
}

func TestRunGoesOnAfterFailures(t *testing.T) {
	c := clock.NewFake(clock.OfMillis(1_700_000_000_000))
	db := open(t, c)
	calls := make(chan int)
	n := 0
	s := sweeper(db, c, Kind{"things", func(clock.Time) Step {
		return func(ctx context.Context, _ Write, _ int) (Outcome, error) {
			n++
			select {
			case calls <- n:
			case <-ctx.Done():
			}
			return Outcome{}, errors.New("out of order")
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for want := 1; want <= 3; want++ {
		got := 0
		for got == 0 {
			select {
			case got = <-calls:
			case <-time.After(time.Millisecond):
				c.Advance(time.Minute)
			}
		}
		if got != want {
			t.Fatalf("call %d, want %d", got, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/store"
)

var turnStmt = struct{ note, count *store.Stmt }{
	// One row for each transaction, however many operations share it.
	note:  store.SQL(`INSERT INTO item (name) VALUES (CAST(pg_current_xact_id() AS TEXT)) ON CONFLICT DO NOTHING`),
	count: store.SQL(`SELECT count(*) FROM item`),
}

// Processes write in the order in which they asked: who is in line behind one
// that always has more to write lets it have one transaction, and no second.
func TestWritersTakeTurns(t *testing.T) {
	url := newDatabase(t)
	busy, patient, holder := openItems(t, url), openItems(t, url), openItems(t, url)
	watcher, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(context.Background())
	// inLine waits until so many processes wait for their turn.
	inLine := func(want int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			var waiting int
			if err := watcher.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting); err != nil {
				t.Fatal(err)
			}
			if waiting == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d are in line, not %d", waiting, want)
			}
		}
	}
	note := func(tx *store.Tx) error {
		_, err := tx.Exec(turnStmt.note)
		return err
	}
	writing, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for writing.Err() == nil {
				if err := busy.Write(writing, note); err != nil && writing.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		held, release := make(chan int64), make(chan struct{})
		wg.Go(func() {
			if err := holder.Write(t.Context(), func(tx *store.Tx) error {
				var turns int64
				err := tx.Row(turnStmt.count).Scan(&turns)
				held <- turns
				<-release
				return err
			}); err != nil {
				t.Error(err)
			}
		})
		before := <-held
		inLine(1)
		after := make(chan int64)
		wg.Go(func() {
			if err := patient.Write(t.Context(), func(tx *store.Tx) error {
				var turns int64
				err := tx.Row(turnStmt.count).Scan(&turns)
				after <- turns
				return err
			}); err != nil {
				t.Error(err)
			}
		})
		inLine(2)
		close(release)
		if turns := <-after - before; turns != 1 {
			t.Errorf("%d transactions of one that came before went ahead", turns)
		}
	}
	stop()
	wg.Wait()
}

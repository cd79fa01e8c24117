package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
)

// A process that loses the database stops what it has a lease for before another
// one takes it over, and that one does within the time that is promised.
func TestLeaseIsTakenOver(t *testing.T) {
	url := newDatabase(t)
	p, through := newProxy(t, url)
	one, two := openItems(t, through), openItems(t, url)
	type event struct {
		who   string
		began bool
		at    time.Time
	}
	events := make(chan event, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	run := func(who string, db *store.Store) {
		go func() {
			ended <- db.RunLeased(ctx, "job", func(ctx context.Context) error {
				events <- event{who, true, time.Now()}
				<-ctx.Done()
				events <- event{who, false, time.Now()}
				return ctx.Err()
			})
		}()
	}
	next := func(who string, began bool) event {
		t.Helper()
		select {
		case e := <-events:
			if e.who != who || e.began != began {
				t.Fatalf("%s, began %v; wanted %s, %v", e.who, e.began, who, began)
			}
			return e
		case <-time.After(60 * time.Second):
			t.Fatal("nothing happens")
		}
		panic("unreachable")
	}
	run("one", one)
	next("one", true)
	run("two", two)
	goOn := p.hang()
	lost := time.Now()
	next("one", false)
	e := next("two", true)
	t.Logf("taken over after %v", e.at.Sub(lost))
	goOn()
	cancel()
	next("two", false)
	for range 2 {
		<-ended
	}
}

// To renew leases takes no turn of a writer: who has to wait for another process
// that writes for long keeps them.
func TestLeasesOutlastALongTransaction(t *testing.T) {
	url := newDatabase(t)
	db := openItems(t, url)
	slow, err := postgres.OpenHasty(t.Context(), url, store.Options{Migrations: items}, time.Minute, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	running, ended, wrote := make(chan struct{}, 2), make(chan error, 1), make(chan error, 1)
	go func() {
		ended <- db.RunLeased(ctx, "job", func(ctx context.Context) error {
			running <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-running
	writing, done := make(chan struct{}), make(chan struct{})
	go func() {
		wrote <- slow.Write(t.Context(), func(*store.Tx) error {
			close(writing)
			<-done
			return nil
		})
	}()
	<-writing
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	renewed := map[int64]bool{}
	for deadline := time.Now().Add(time.Minute); len(renewed) < 4 && len(running) == 0; time.Sleep(50 * time.Millisecond) {
		var beat int64
		if err := conn.QueryRow(t.Context(), "SELECT expires FROM store_leases WHERE name = 'job'").Scan(&beat); err != nil {
			t.Fatal(err)
		}
		renewed[beat] = true
		if time.Now().After(deadline) {
			t.Fatalf("it was renewed %d times", len(renewed)-1)
		}
	}
	if len(running) > 0 {
		t.Error("the lease was lost meanwhile")
	}
	close(done)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	cancel()
	<-ended
}

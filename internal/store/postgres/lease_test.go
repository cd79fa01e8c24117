package postgres_test

import (
	"context"
	"testing"
	"time"

	"taskcluster/internal/store"
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

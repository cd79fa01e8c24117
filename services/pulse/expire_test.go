package pulse

import (
	"fmt"
	"testing"
	"time"

	"taskcluster/internal/store"
)

func TestExpiry(t *testing.T) {
	d := deploy(t)
	if n := d.expire(); n != 0 {
		t.Fatalf("%d of nothing were removed", n)
	}
	at := func(hours int) object {
		return object{"expires": d.clock.Now().Add(time.Duration(hours) * time.Hour).String()}
	}
	one := d.claim("ns-one", at(1)).want(200).string("connectionString")
	two := d.claim("ns-two", at(2)).want(200).string("connectionString")
	d.clock.Advance(2 * time.Hour)
	if n := d.expire(); n != 0 {
		t.Fatalf("%d were removed within the hour that follows", n)
	}
	d.get("/namespace/ns-one").want(200)
	d.clock.Advance(time.Millisecond)
	if n := d.expire(); n != 1 || d.row("ns-one") != nil || d.row("ns-two") == nil {
		t.Fatalf("%d were removed, and not just the first", n)
	}
	d.cannotLogin(one)
	d.mustLogin(two)
	if d.hasUser("ns-one", 1) || d.hasUser("ns-one", 2) || !d.hasUser("ns-two", 1) {
		t.Error("the users are not those of what there is")
	}
	d.get("/namespace/ns-one").want(404)
	d.clock.Advance(time.Hour)
	if n := d.expire(); n != 1 {
		t.Fatalf("%d were removed", n)
	}

	// It may be claimed anew, and a claim in time renews.
	d.mustLogin(d.claim("ns-one", at(1)).want(200).string("connectionString"))
	d.clock.Advance(90 * time.Minute)
	d.claim("ns-one", at(1)).want(200)
	d.clock.Advance(time.Hour)
	if n := d.expire(); n != 0 {
		t.Errorf("%d were removed that had been renewed", n)
	}
}

// TestExpiryCutOff: while the users of a namespace are being removed nobody can
// claim it, and what was cut off is done again.
func TestExpiryCutOff(t *testing.T) {
	d := deploy(t)
	way := d.flaky()
	d.claim("ns-one", nil).want(200)
	d.clock.Advance(6 * time.Hour)
	way.broken.Store(true)
	if n := d.expire(); n != 0 {
		t.Fatalf("%d were removed", n)
	}
	way.broken.Store(false)
	d.claim("ns-one", nil).want(503, "BrokerUnavailable", "being removed")
	d.rotate()
	d.monitor()
	if n := d.row("ns-one"); n.active != 1 || n.behind != 0 {
		t.Errorf("what is being removed was touched: %+v", n)
	}
	if n := d.expire(); n != 1 {
		t.Fatalf("%d were removed", n)
	}
	d.mustLogin(d.claim("ns-one", nil).want(200).string("connectionString"))
}

// TestForgetting: old states and mails are forgotten, in small transactions, and
// by nobody but the sweeper; a mail also when it waits and mails were switched off.
func TestForgetting(t *testing.T) {
	d := deploy(t, func(c *Config) { c.Mail = nil })
	const old, fresh = 1200, 3
	add := func(from, n int) {
		t.Helper()
		d.must(d.store.Write(t.Context(), func(tx *store.Tx) error {
			for i := from; i < from+n; i++ {
				name := fmt.Sprintf("queue/ns-one/%d", i)
				if _, err := tx.Exec(stmt.setState, []byte(name), warning, tx.Now()); err != nil {
					return err
				}
				if _, err := tx.Exec(stmt.addMail, name, "ns-one", "me@example.com", "", "", tx.Now(), tx.Now()); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	left := func() (states, mails int) {
		t.Helper()
		d.must(d.store.Read(t.Context(), func(tx *store.Tx) error {
			rows := tx.Query(stmt.states)
			defer rows.Close()
			for states = 0; rows.Next(); states++ {
			}
			return rows.Err()
		}))
		f, err := d.service.Figures(t.Context())
		d.must(err)
		return states, int(f.Mails)
	}
	add(0, old)
	d.clock.Advance(keepMails)
	add(old, fresh)
	d.clock.Advance(time.Millisecond)
	before := d.store.Stats().Commits
	d.monitor()
	if commits := d.store.Stats().Commits - before; commits != 0 {
		t.Errorf("a look at a broker that has nothing makes %d transactions", commits)
	}
	d.expire()
	if states, mails := left(); states != fresh || mails != fresh {
		t.Errorf("%d states and %d mails are left", states, mails)
	}
	if commits := d.store.Stats().Commits - before; commits < 6 {
		t.Errorf("%d rows went in %d transactions", 2*old, commits)
	}
}

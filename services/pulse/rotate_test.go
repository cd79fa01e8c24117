package pulse

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/testenv"
)

func userOf(t *testing.T, connectionString string) string {
	t.Helper()
	u, err := url.Parse(connectionString)
	if err != nil {
		t.Fatal(err)
	}
	return u.User.Username()
}

// TestRotation: the users take turns, and a password works until its user's turn
// comes again.
func TestRotation(t *testing.T) {
	d := deploy(t)
	d.rotate() // of nothing
	started := d.clock.Now()
	body := object{"expires": started.Add(100 * time.Hour).String()}
	strings := []string{d.claim("ns-one", body).want(200).string("connectionString")}
	d.clock.Advance(time.Hour - time.Microsecond)
	d.rotate()
	if again := d.claim("ns-one", body).string("connectionString"); again != strings[0] {
		t.Fatal("it was rotated before it was due")
	}
	d.clock.Advance(time.Microsecond)
	for round := 1; round <= 4; round++ {
		d.rotate()
		d.rotate() // once is enough
		a := d.claim("ns-one", body).want(200)
		next := a.string("connectionString")
		if want := d.service.user("ns-one", 1+round%2); userOf(t, next) != want || next == strings[round-1] {
			t.Fatalf("round %d: %s, want a new password of %s", round, next, want)
		}
		if want := d.clock.Now().Add(90 * time.Minute).String(); a.string("reclaimAt") != want {
			t.Errorf("round %d: reclaimAt %s, want %s", round, a.string("reclaimAt"), want)
		}
		strings = append(strings, next)
		d.mustLogin(next)
		d.mustLogin(strings[round-1]) // of the other user
		if round > 1 {
			d.cannotLogin(strings[round-2])
		}
		d.clock.Advance(time.Hour)
	}
}

func TestRotationOfWhatIsDue(t *testing.T) {
	d := deploy(t)
	first := d.claim("ns-one", nil).want(200).string("connectionString")
	d.clock.Advance(30 * time.Minute)
	second := d.claim("ns-two", nil).want(200).string("connectionString")
	d.clock.Advance(30 * time.Minute)
	d.rotate()
	if d.claim("ns-one", nil).string("connectionString") == first || d.claim("ns-two", nil).string("connectionString") != second {
		t.Error("not just the one that was due was rotated")
	}
	d.clock.Advance(time.Hour)
	d.rotate()
	if d.row("ns-one").active != 1 || d.row("ns-two").active != 2 {
		t.Error("not both were rotated")
	}
}

// TestRotationWhileBrokerIsAway: no password is handed out that RabbitMQ was not
// given, none is replaced twice, and the interval begins when RabbitMQ is back.
func TestRotationWhileBrokerIsAway(t *testing.T) {
	d := deploy(t)
	way := d.flaky()
	before := d.claim("ns-one", nil).want(200).string("connectionString")
	way.broken.Store(true)
	d.clock.Advance(time.Hour)
	for range 5 {
		if err := d.service.rotate(t.Context()); err == nil {
			t.Fatal("a failure is not told")
		}
		d.claim("ns-one", nil).want(503, "BrokerUnavailable")
		d.clock.Advance(time.Hour)
	}
	d.mustLogin(before)
	way.broken.Store(false)
	a := d.claim("ns-one", nil).want(200)
	if userOf(t, a.string("connectionString")) != d.service.user("ns-one", 2) || a.string("reclaimAt") != d.clock.Now().Add(90*time.Minute).String() {
		t.Error(a.body)
	}
	d.rotate()
	d.mustLogin(a.string("connectionString"))
	d.mustLogin(before)
	if strings.Contains(d.log.String(), string(d.row("ns-one").password)) {
		t.Error("a password is in the log")
	}
}

// TestRefusedRotation: what RabbitMQ refuses of one namespace holds up no other.
func TestRefusedRotation(t *testing.T) {
	d := deploy(t)
	for _, name := range []string{"ns-one", "ns-two", "ns-three"} {
		d.claim(name, nil).want(200)
	}
	d.admin("PUT", "/users/"+d.service.user("ns-two", 2), object{"password": "x", "tags": ""}, 204)
	t.Cleanup(func() { d.admin("DELETE", "/users/"+d.service.user("ns-two", 2), nil, 204) })
	d.clock.Advance(time.Hour)
	if err := d.service.rotate(t.Context()); err == nil || !strings.Contains(err.Error(), d.service.user("ns-two", 2)) {
		t.Error(err)
	}
	for _, name := range []string{"ns-one", "ns-three"} {
		if n := d.row(name); n.active != 2 || n.behind != 0 {
			t.Errorf("%+v", n)
		}
	}
}

// TestOvertaken: a process that was halted, for longer than a namespace's passwords
// last, and goes on to tell RabbitMQ an old one, does not leave it with that.
func TestOvertaken(t *testing.T) {
	d := deploy(t)
	body := object{"expires": d.clock.Now().Add(99 * time.Hour).String()}
	d.claim("ns-one", body).want(200)
	old := d.row("ns-one")
	for range 2 {
		d.clock.Advance(time.Hour)
		d.rotate()
	}
	given := d.claim("ns-one", body).want(200).string("connectionString")
	d.must(d.service.bring(t.Context(), old))
	d.cannotLogin(given)
	d.rotate()
	d.mustLogin(given)
	if n := d.row("ns-one"); n.behind != lacksNone || n.active != old.active {
		t.Errorf("%+v", n)
	}
	// Two who tell it the same do not disturb each other.
	d.must(d.service.bring(t.Context(), d.row("ns-one")))
	if n := d.row("ns-one"); n.behind != lacksNone {
		t.Errorf("%+v", n)
	}
	d.mustLogin(given)
}

// TestTwoNodes: two processes on one database, which rotate by themselves, rotate
// each namespace once when it is due.
func TestTwoNodes(t *testing.T) {
	address := testenv.Postgres(t).URL
	c := clock.NewFake(clock.Of(time.Now()).Truncate())
	open := func() *store.Store {
		db, err := postgres.Open(t.Context(), address, store.Options{Clock: c, Migrations: allMigrations()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	d := deployOn(t, c, open())
	way := d.flaky()
	config := d.config
	config.Store = open()
	other, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	body := object{"expires": c.Now().Add(24 * time.Hour).String()}
	names := []string{"ns-one", "ns-two", "ns-three"}
	for _, name := range names {
		d.claim(name, body).want(200)
	}
	made := way.writes.Load()
	if made != 6 {
		t.Fatalf("%d users were made", made)
	}
	var nodes [2]lifecycle.Group
	for i, s := range []*Service{d.service, other} {
		s.Start(&nodes[i])
		t.Cleanup(func() { nodes[i].Stop(t.Context()) })
	}
	// for lets minutes pass until something is so, and returns how many.
	pass := func(what string, ok func() bool) {
		t.Helper()
		d.eventually(what, func() bool { c.Advance(time.Minute); return ok() })
	}
	rounds := 0
	turn := func() {
		t.Helper()
		rounds++
		due := d.row("ns-one").nextRotation
		pass("the next rotation", func() bool {
			for _, name := range names {
				if n := d.row(name); n.active != 1+rounds%2 || n.behind != 0 {
					return false
				}
			}
			return true
		})
		if early := due.Sub(c.Now()); early > 0 {
			t.Errorf("it was rotated %s before it was due", early)
		}
		until := c.Now().Add(40 * time.Minute)
		pass("most of an hour", func() bool { return c.Now() > until })
		if got, want := way.writes.Load(), made+int64(rounds*len(names)); got != want {
			t.Fatalf("after %d rotations %d passwords were set, want %d", rounds, got, want)
		}
		for _, name := range names {
			d.mustLogin(d.claim(name, body).want(200).string("connectionString"))
		}
	}
	turn()
	turn()
	// One of them ends; the other goes on.
	if err := nodes[0].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	turn()
}

package broker_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/tcerr"
	"taskcluster/services/auth/broker"
	"taskcluster/services/auth/broker/brokertest"
)

func withSentry(t *testing.T, team bool, projects ...string) (*brokertest.Sentry, *broker.Sentry, *clock.Fake) {
	t.Helper()
	c := clock.NewFake(clock.Of(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)))
	double := brokertest.NewSentry(func() time.Time { return c.Now().Std() }, 2, projects...)
	t.Cleanup(double.Close)
	return double, brokers(t, broker.Settings{Sentry: double.Setting(team)}, c).Sentry, c
}

func TestSentryKeys(t *testing.T) {
	double, sentry, c := withSentry(t, false, "website")
	for i := range 3 { // so that ours is on a later page
		double.Add("website", []string{"Default", "a person's until 2026", "x"}[i], true)
	}
	get := func() broker.SentryDSN {
		t.Helper()
		dsn, err := sentry.DSN(t.Context(), "website")
		if err != nil {
			t.Fatal(err, double.Refusals())
		}
		return dsn
	}
	first := get()
	if first.Secret != "https://public-4:secret-4@sentry.example.com/website" || first.Public != "https://public-4@sentry.example.com/website" {
		t.Errorf("%+v", first)
	}
	if want := c.Now().Add(48 * time.Hour); first.Expires != want {
		t.Errorf("until %s, want %s", first.Expires, want)
	}
	c.Advance(23 * time.Hour)
	if again := get(); again != first {
		t.Errorf("with 25 hours left: %+v", again)
	}
	c.Advance(time.Second)
	second := get()
	if second.Secret == first.Secret || second.Expires != c.Now().Add(48*time.Hour) {
		t.Errorf("with less left: %+v", second)
	}
	if n := len(double.Keys("website")); n != 5 {
		t.Errorf("the first key must go on working: there are %d", n)
	}
	c.Advance(30 * time.Hour) // the first is over
	get()
	labels := ""
	for _, k := range double.Keys("website") {
		labels += k.Label + ";"
	}
	if !strings.HasPrefix(labels, "Default;a person's until 2026;x;") || strings.Count(labels, ";") != 5 {
		t.Errorf("of keys that are ours those that are over go: %s", labels)
	}
	c.Advance(72 * time.Hour)
	if err := sentry.Purge(t.Context()); err != nil || len(double.Keys("website")) != 3 {
		t.Errorf("purge: %v, %v", err, double.Keys("website"))
	}
	double.Add("website", "taskcluster until "+c.Now().Add(47*time.Hour).String(), false)
	if dsn := get(); strings.Contains(dsn.Secret, "secret-7") {
		t.Error("a key that was disabled is handed out")
	}
}

// Many who ask at once get one key.
func TestSentryTogether(t *testing.T) {
	double, sentry, _ := withSentry(t, false, "website")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := sentry.DSN(t.Context(), "website"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(double.Keys("website")); n != 1 {
		t.Errorf("%d keys", n)
	}
}

func TestSentryProjects(t *testing.T) {
	_, sentry, _ := withSentry(t, false, "website")
	_, err := sentry.DSN(t.Context(), "missing")
	fails(t, err, tcerr.ResourceNotFound)
	double, sentry, _ := withSentry(t, true)
	if _, err := sentry.DSN(t.Context(), "missing"); err != nil || len(double.Keys("missing")) != 1 {
		t.Errorf("a project is made for the team that the setting names: %v %v", err, double.Refusals())
	}
}

func TestSentryFails(t *testing.T) {
	double, sentry, c := withSentry(t, false, "website")
	double.Override(broken)
	_, err := sentry.DSN(t.Context(), "website")
	fails(t, err, "", double.Token(), "Bearer")
	double.Override(nil)
	wrong := strings.Replace(double.Setting(false), double.Token(), "sntrys_wrong", 1)
	_, err = brokers(t, broker.Settings{Sentry: wrong}, c).Sentry.DSN(t.Context(), "website")
	fails(t, err, "", "sntrys_")
	if r := double.Refusals(); len(r) != 1 {
		t.Error(r)
	}
	_, err = brokers(t, broker.Settings{}, c).Sentry.DSN(t.Context(), "website")
	fails(t, err, tcerr.ResourceNotFound)
	if err == nil || !strings.Contains(err.Error(), "Sentry credentials not found") {
		t.Error(err)
	}
}

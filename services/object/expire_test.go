package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"taskcluster/internal/blob"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
)

// brokenStore fails with err, while it is set.
type brokenStore struct {
	blob.Store
	err     error
	deleted func()
}

func (b *brokenStore) Put(ctx context.Context, key string, meta blob.Info, body io.Reader) (blob.Info, error) {
	if b.err != nil {
		return blob.Info{}, b.err
	}
	return b.Store.Put(ctx, key, meta, body)
}

func (b *brokenStore) Delete(ctx context.Context, keys ...string) error {
	if b.err != nil {
		return b.err
	}
	err := b.Store.Delete(ctx, keys...)
	if b.deleted != nil {
		b.deleted()
	}
	return err
}

func TestExpire(t *testing.T) {
	d := deploy(t)
	for i := range 120 {
		u := d.upload(fmt.Sprintf("old%03d", i))
		u.with["expires"] = d.clock.Now().Add(time.Hour).String()
		u.inline("data", "text/plain")
	}
	d.upload("young").inline("data", "text/plain")
	unfinished := d.upload("unfinished")
	unfinished.create(with{"proposedUploadMethods": inline("data", "text/plain")}).want(200)
	d.clock.Advance(time.Hour)
	if got := d.expire(); got != "0 removed, 0 kept" { // it expires after that instant
		t.Error(got)
	}
	d.clock.Advance(time.Second)
	d.call(all, "GET", "/metadata/old000", nil).want(200) // until it is removed
	if got := d.expire(); got != "120 removed, 0 kept" {
		t.Error(got)
	}
	d.call(all, "GET", "/metadata/old000", nil).want(404)
	if d.stored("old000") || !d.stored("young") || !d.stored("unfinished") || d.rows() != 2 {
		t.Error(d.rows())
	}
	d.clock.Advance(24 * time.Hour)
	if got := d.expire(); got != "1 removed, 0 kept" || d.stored("unfinished") {
		t.Error(got)
	}
	again := d.upload("unfinished")
	again.inline("again", "text/plain")
	if got := d.content("unfinished", "simple"); got != "again" {
		t.Errorf("%q", got)
	}
}

// An upload that lasts into the time when it is removed: no URL outlives it.
func TestExpireUnfinished(t *testing.T) {
	d := deploy(t)
	u := d.upload("x")
	u.with["expires"] = d.clock.Now().Add(-time.Hour).String() // nobody asks for more
	u.create(nil).want(200)
	d.clock.Advance(24*time.Hour - time.Second)
	url := u.create(with{"proposedUploadMethods": byPut(1, "a/b")}).want(200).string("uploadMethod", "putUrl", "url")
	d.clock.Advance(45 * time.Minute)
	if got := d.expire(); got != "0 removed, 0 kept" {
		t.Error(got)
	}
	if res := d.plain("PUT", url, "x", "Content-Type", "a/b"); res.StatusCode != 200 {
		t.Error(res.StatusCode)
	}
	d.clock.Advance(15 * time.Second)
	if got := d.expire(); got != "1 removed, 0 kept" || d.stored("x") {
		t.Error(got)
	}
	if res := d.plain("PUT", url, "x", "Content-Type", "a/b"); res.StatusCode != 403 {
		t.Error("data without a row would stay for ever:", res.StatusCode)
	}
}

// A URL to upload by outlives the end of the upload, but not the object.
func TestExpireFinished(t *testing.T) {
	d := deploy(t)
	u := d.upload("x")
	u.with["expires"] = d.clock.Now().Add(time.Minute).String()
	url := u.create(with{"proposedUploadMethods": byPut(1, "a/b")}).want(200).string("uploadMethod", "putUrl", "url")
	u.finish(nil).want(200)
	d.clock.Advance(45 * time.Minute)
	if got := d.expire(); got != "0 removed, 0 kept" {
		t.Error(got)
	}
	if res := d.plain("PUT", url, "x", "Content-Type", "a/b"); res.StatusCode != 200 {
		t.Error(res.StatusCode)
	}
	d.clock.Advance(time.Minute)
	if got := d.expire(); got != "1 removed, 0 kept" || d.stored("x") {
		t.Error(got)
	}
}

// While data is being deleted nobody sees its object, nobody can take its name
// or finish its upload, and what a crash or a failure leaves is removed by the
// next run.
func TestExpireIsCutShort(t *testing.T) {
	d := deploy(t)
	broken := &brokenStore{Store: d.blobs}
	d.serve(func(c *Config) { c.Backends["main"] = Backend{Blob: broken, Prefix: "object/"} })
	finished, unfinished := d.upload("finished").inline("data", "text/plain"), d.upload("unfinished")
	unfinished.create(with{"proposedUploadMethods": inline("data", "text/plain")}).want(200)
	d.clock.Advance(48*time.Hour + time.Second)
	ctx, crash := context.WithCancel(t.Context())
	broken.deleted = crash
	if _, err := d.service.expiry().Once(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if d.stored("finished") || d.rows() != 2 {
		t.Fatal("the data goes first")
	}
	d.call(all, "GET", "/metadata/finished", nil).want(404)
	d.call(all, "GET", "/download/finished", nil).want(404)
	d.call(all, "PUT", "/start-download/finished", with{"acceptDownloadMethods": with{"simple": true}}).want(404)
	finished.finish(nil).want(404)
	finished.create(nil).want(409, "being removed")
	unfinished.finish(nil).want(404)
	unfinished.create(with{"proposedUploadMethods": inline("data", "text/plain")}).want(409, "being removed")

	broken.deleted, broken.err = nil, errors.New("the network is down")
	if got := d.expire(); got != "0 removed, 2 kept" {
		t.Error(got)
	}
	broken.err = nil
	if got := d.expire(); got != "2 removed, 0 kept" || d.rows() != 0 {
		t.Error(got)
	}
}

// TestExpireCost: a step changes no more rows than it was told, whatever waits,
// and finds them by the index.
func TestExpireCost(t *testing.T) {
	const step = 50
	d := deploy(t)
	for i := range 3 * step {
		u := d.upload(fmt.Sprintf("old%03d", i))
		u.with["expires"] = d.clock.Now().Add(time.Hour).String()
		u.inline("", "a/b")
	}
	d.clock.Advance(2 * time.Hour)
	before := d.store.Stats()
	done, err := d.service.expireObjects(d.clock.Now())(t.Context(), d.store.Write, step)
	if err != nil || done.Removed != step || !done.More {
		t.Fatal(done, err)
	}
	after := d.store.Stats()
	if n := after.Statements - before.Statements; n > 1+2*step {
		t.Errorf("%d statements for %d objects", n, step)
	}
	if n := after.Commits - before.Commits; n != 2 {
		t.Errorf("%d transactions", n)
	}
}

func TestExpireLoop(t *testing.T) {
	d := deploy(t)
	u := d.upload("x")
	u.with["expires"] = d.clock.Now().Add(time.Minute).String()
	u.inline("data", "text/plain")
	var g lifecycle.Group
	d.service.Start(&g)
	defer func() {
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	deadline := time.Now().Add(20 * time.Second)
	for d.stored("x") || d.rows() > 0 {
		if time.Now().After(deadline) {
			t.Fatal("nothing expires")
		}
		d.clock.Advance(expireEvery)
		if err := d.store.Write(t.Context(), func(*store.Tx) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

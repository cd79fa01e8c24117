//go:build unix

package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"taskcluster/internal/store"
)

var errTrouble = errors.New("trouble")

// neighbours: what one caller does never touches the others that share his
// transaction.
func (s suite) neighbours(t *testing.T) {
	write := func(db *store.Store, fn func(*store.Tx) error) func() error {
		return func() error { return db.Write(context.Background(), fn) }
	}
	failAfterWriting := func(name string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return errors.Join(put(name, 1)(tx), errTrouble) }
	}
	t.Run("share a transaction", func(t *testing.T) {
		db := s.open(t, store.Options{})
		before := db.Stats()
		for _, err := range together(t, db, write(db, put("a", 1)), write(db, put("b", 1)), write(db, put("c", 1))) {
			if err != nil {
				t.Error(err)
			}
		}
		d := db.Stats()
		if n := d.Commits - before.Commits; n != 2 { // the holder's and theirs
			t.Errorf("%d commits", n)
		}
		if n := d.Operations - before.Operations; n != 4 {
			t.Errorf("%d operations", n)
		}
	})
	t.Run("a refusal without writing costs nothing", func(t *testing.T) {
		db := s.open(t, store.Options{})
		runs := 0
		errs := together(t, db,
			write(db, func(tx *store.Tx) error { runs++; return put("a", 1)(tx) }),
			write(db, func(tx *store.Tx) error {
				var v int64
				return tx.Row(stmt.get, "none").Scan(&v)
			}),
			write(db, put("b", 1)))
		if errs[0] != nil || !errors.Is(errs[1], store.ErrNoRows) || errs[2] != nil {
			t.Errorf("outcomes %v", errs)
		}
		if runs != 1 || db.Stats().Rollbacks != 0 {
			t.Errorf("the neighbour ran %d times, %d rollbacks", runs, db.Stats().Rollbacks)
		}
	})
	t.Run("a failure after writing", func(t *testing.T) {
		db := s.open(t, store.Options{})
		errs := together(t, db,
			write(db, put("a", 1)),
			write(db, failAfterWriting("x")),
			write(db, put("b", 1)),
			write(db, func(tx *store.Tx) error { put("y", 1)(tx); panic("ouch") }),
			write(db, put("a", 2)), // breaks the unique key
			write(db, put("c", 1)))
		var p *store.PanicError
		if errs[0] != nil || errs[2] != nil || errs[5] != nil ||
			!errors.Is(errs[1], errTrouble) || !errors.As(errs[3], &p) || !errors.Is(errs[4], store.ErrConflict) {
			t.Errorf("outcomes %v", errs)
		}
		if got, want := pairs(t, db), map[string]int64{"a": 1, "b": 1, "c": 1}; !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("many failures", func(t *testing.T) {
		db := s.open(t, store.Options{})
		runs := 0 // in the writer only
		var fns []func() error
		want := map[string]int64{}
		for i := range 100 {
			name := fmt.Sprint(i)
			if i%2 == 0 {
				fns = append(fns, write(db, failAfterWriting(name)))
			} else {
				want[name] = 1
				fns = append(fns, write(db, func(tx *store.Tx) error { runs++; return put(name, 1)(tx) }))
			}
		}
		for i, err := range together(t, db, fns...) {
			if i%2 == 0 && !errors.Is(err, errTrouble) || i%2 == 1 && err != nil {
				t.Errorf("operation %d: %v", i, err)
			}
		}
		if runs > 3*len(want) {
			t.Errorf("%d good operations ran %d times", len(want), runs)
		}
		if got := pairs(t, db); !maps.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	})
}

// batches: items that wait together are one slice.
func (s suite) batches(t *testing.T) {
	type item struct {
		name string
		fail bool
		runs int
	}
	db := s.open(t, store.Options{})
	var sizes []int // sizes of the slices, in the writer only
	batch := store.NewBatch(db, "items", func(tx *store.Tx, items []*item) error {
		sizes = append(sizes, len(items))
		for _, it := range items {
			it.runs++
			if err := put(it.name, 1)(tx); err != nil {
				return err
			}
		}
		for _, it := range items {
			if it.fail {
				return errTrouble
			}
		}
		return nil
	})
	items := make([]*item, 10)
	var fns []func() error
	for i := range items {
		items[i] = &item{name: fmt.Sprint("i", i)}
		fns = append(fns, func() error { return batch.Do(context.Background(), items[i]) })
		if i == 4 { // something else in between does not part them
			fns = append(fns, func() error { return db.Write(context.Background(), put("between", 1)) })
		}
	}
	for _, err := range together(t, db, fns...) {
		if err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(sizes, []int{10}) {
		t.Errorf("slices of %v", sizes)
	}

	for i, it := range items {
		*it = item{name: fmt.Sprint("j", i), fail: i == 3 || i == 7}
	}
	sizes = nil
	errs := together(t, db, append(slices.Delete(fns, 5, 6), func() error { return db.Write(context.Background(), put("after", 1)) })...)
	for i, err := range errs {
		if failed := i == 3 || i == 7; failed != errors.Is(err, errTrouble) || !failed && err != nil {
			t.Errorf("item %d: %v", i, err)
		}
	}
	got := pairs(t, db)
	for i, it := range items {
		if _, there := got[it.name]; there == it.fail {
			t.Errorf("item %d is there: %v", i, there)
		}
	}
	if len(got) != 10+1+8+1 {
		t.Errorf("%d pairs", len(got))
	}

	t.Run("refusals before any write", func(t *testing.T) {
		runs := 0
		picky := store.NewBatch(db, "picky", func(tx *store.Tx, items []*item) error {
			runs++
			for _, it := range items {
				if it.fail {
					return errTrouble
				}
			}
			for _, it := range items {
				if err := put(it.name, 1)(tx); err != nil {
					return err
				}
			}
			return nil
		})
		rollbacks := db.Stats().Rollbacks
		errs := together(t, db,
			func() error { return picky.Do(context.Background(), &item{name: "p0"}) },
			func() error { return picky.Do(context.Background(), &item{name: "p1", fail: true}) },
			func() error { return picky.Do(context.Background(), &item{name: "p2"}) })
		if errs[0] != nil || !errors.Is(errs[1], errTrouble) || errs[2] != nil {
			t.Errorf("outcomes %v", errs)
		}
		if runs != 4 || db.Stats().Rollbacks != rollbacks {
			t.Errorf("%d runs, %d rollbacks", runs, db.Stats().Rollbacks-rollbacks)
		}
	})
}

// hooks: order, once, and only after a commit.
func (s suite) hooks(t *testing.T) {
	db := s.open(t, store.Options{})
	var log []string // in the writer, and read after all was answered
	type key struct{}
	note := func(name string, then func(*store.Tx) error) func() error {
		return func() error {
			err := db.Write(context.Background(), func(tx *store.Tx) error {
				if err := put(name, 1)(tx); err != nil {
					return err
				}
				list := tx.Local(key{}, func() any {
					names := new([]string)
					tx.BeforeCommit(func(tx *store.Tx) error {
						var n int64
						if err := tx.Row(stmt.count).Scan(&n); err != nil {
							return err
						}
						tx.OnCommit(func() { log = append(log, fmt.Sprint("before ", *names, n)) })
						return nil
					})
					return names
				}).(*[]string)
				*list = append(*list, name)
				tx.OnCommit(func() { log = append(log, "commit "+name) })
				if then != nil {
					return then(tx)
				}
				return nil
			})
			if err == nil && !slices.Contains(log, "commit "+name) {
				t.Errorf("%s was answered before its hook ran", name)
			}
			return err
		}
	}
	for i, err := range together(t, db, note("a", nil), note("b", nil), note("c", nil)) {
		if err != nil {
			t.Error(i, err)
		}
	}
	if want := []string{"commit a", "commit b", "commit c", "before [a b c] 3"}; !slices.Equal(log, want) {
		t.Errorf("got %q, want %q", log, want)
	}

	log = nil
	fail := func(*store.Tx) error { return errTrouble }
	errs := together(t, db, note("d", nil), note("e", fail), note("f", nil))
	if errs[0] != nil || !errors.Is(errs[1], errTrouble) || errs[2] != nil {
		t.Errorf("outcomes %v", errs)
	}
	for _, name := range []string{"d", "f"} {
		if n := count(log, "commit "+name); n != 1 {
			t.Errorf("the hook of %s ran %d times: %q", name, n, log)
		}
	}
	if count(log, "commit e") != 0 {
		t.Errorf("a hook of what was undone ran: %q", log)
	}

	t.Run("a failing BeforeCommit hits its own operation", func(t *testing.T) {
		log = nil
		bad := func(tx *store.Tx) error {
			tx.BeforeCommit(func(*store.Tx) error { return errTrouble })
			return nil
		}
		errs := together(t, db, note("g", nil), note("h", bad), note("i", nil), note("j", nil), note("k", bad))
		for i, bad := range []bool{false, true, false, false, true} {
			if bad != errors.Is(errs[i], errTrouble) || !bad && errs[i] != nil {
				t.Errorf("operation %d: %v", i, errs[i])
			}
		}
		got := pairs(t, db)
		for _, name := range []string{"g", "h", "i", "j", "k"} {
			_, there := got[name]
			if wanted := name != "h" && name != "k"; there != wanted || count(log, "commit "+name) == 1 != wanted {
				t.Errorf("%s is there: %v; %q", name, there, log)
			}
		}
	})
	t.Run("a panicking hook", func(t *testing.T) {
		ran := false
		err := db.Write(t.Context(), func(tx *store.Tx) error {
			tx.OnCommit(func() { panic("ouch") })
			tx.OnCommit(func() { ran = true })
			return put("l", 1)(tx)
		})
		if err != nil || !ran {
			t.Errorf("%v, the next hook ran: %v", err, ran)
		}
	})
}

func count(list []string, what string) int {
	n := 0
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// cancellation: withdrawn while waiting, the real outcome once running.
func (s suite) cancellation(t *testing.T) {
	db := s.open(t, store.Options{})
	release := hold(t, db)
	ctx, cancel := context.WithCancelCause(t.Context())
	waiting := make(chan error)
	go func() { waiting <- db.Write(ctx, put("withdrawn", 1)) }()
	for db.Waiting() != 1 {
		yield()
	}
	cancel(errTrouble)
	if err := <-waiting; !errors.Is(err, errTrouble) {
		t.Errorf("withdrawn: %v", err)
	}
	release()
	if err := db.Write(ctx, put("too late", 1)); !errors.Is(err, errTrouble) {
		t.Errorf("with a context that has ended: %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	if err := db.Write(ctx, func(tx *store.Tx) error {
		cancel(errTrouble)
		return put("running", 1)(tx)
	}); err != nil {
		t.Errorf("cancelled while it ran: %v", err)
	}
	if got, want := pairs(t, db), map[string]int64{"running": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// counts: what Stats says.
func (s suite) counts(t *testing.T) {
	db := s.open(t, store.Options{})
	before := db.Stats()
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		for i := range 5 {
			if _, err := tx.Exec(stmt.replace, "a", i); err != nil {
				return err
			}
		}
		var v int64
		return tx.Row(stmt.get, "a").Scan(&v)
	})
	if err != nil {
		t.Fatal(err)
	}
	pairs(t, db)
	d := db.Stats()
	if n := d.Statements - before.Statements; n != 7 {
		t.Errorf("%d statements, want 7", n)
	}
	if n := d.Reads - before.Reads; n != 1 {
		t.Errorf("%d reads, want 1", n)
	}
}

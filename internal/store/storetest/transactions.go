//go:build unix

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

func yield() { runtime.Gosched() }

func (s suite) values(t *testing.T) {
	db := s.open(t, store.Options{})
	yes, n, text, blob := true, int64(-5), "", []byte{}
	cases := []struct {
		name                      string
		number, text, bytes, slug any
	}{
		{"plain", int64(math.MinInt64), "naïve ✓", []byte{0, 1, 255}, sample.slug},
		{"int and empty", 7, "", []byte{}, &sample.slug},
		{"bool", true, "a'b", []byte("x"), slugid.ID{}},
		{"time", sample.at, "x", []byte("y"), sample.slug},
		{"pointers", &n, &text, &blob, &sample.slug},
		{"pointer to bool", &yes, &text, &blob, &sample.slug},
		{"pointer to time", &sample.at, &text, &blob, &sample.slug},
		{"nil", nil, nil, nil, nil},
		{"nil pointers", (*int64)(nil), (*string)(nil), (*[]byte)(nil), (*slugid.ID)(nil)},
		{"nil bytes", (*bool)(nil), (*string)(nil), []byte(nil), nil},
		{"nil times", (*clock.Time)(nil), nil, nil, nil},
		{"long", int64(math.MaxInt64), strings.Repeat("long ", 50_000), bytes.Repeat([]byte{7}, 1<<20), sample.slug},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var number *int64
			var text *string
			var blob []byte
			var slug *slugid.ID
			err := db.Write(t.Context(), func(tx *store.Tx) error {
				if _, err := tx.Exec(stmt.putAll, i, c.number, c.text, c.bytes, c.slug); err != nil {
					return err
				}
				return tx.Row(stmt.getAll, i).Scan(&number, &text, &blob, &slug)
			})
			if err != nil {
				t.Fatal(err)
			}
			want := func(v any) string {
				switch v := v.(type) {
				case *int64:
					if v != nil {
						return fmt.Sprint(*v)
					}
				case *bool:
					if v != nil {
						return "1"
					}
				case *clock.Time:
					if v != nil {
						return fmt.Sprint(int64(*v))
					}
				case *string:
					if v != nil {
						return "text " + *v
					}
				case *[]byte:
					if v != nil {
						return fmt.Sprintf("%x", *v)
					}
				case *slugid.ID:
					if v != nil {
						return fmt.Sprintf("%x", v[:])
					}
				case bool:
					return "1"
				case clock.Time:
					return fmt.Sprint(int64(v))
				case string:
					return "text " + v
				case []byte:
					if v != nil {
						return fmt.Sprintf("%x", v)
					}
				case slugid.ID:
					return fmt.Sprintf("%x", v[:])
				case nil:
				default:
					return fmt.Sprint(v)
				}
				return "null"
			}
			got := []string{want(number), want(text), want(blob), want(slug)}
			if wanted := []string{want(c.number), want(c.text), want(c.bytes), want(c.slug)}; !slices.Equal(got, wanted) {
				t.Errorf("got %.200v, want %.200v", got, wanted)
			}
		})
	}
	t.Run("plain destinations", func(t *testing.T) {
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			var at clock.Time
			var text string
			var blob []byte
			var slug slugid.ID
			if err := tx.Row(stmt.getAll, 3).Scan(&at, &text, &blob, &slug); err != nil {
				return err
			}
			if at != sample.at || text != "x" || string(blob) != "y" || slug != sample.slug {
				t.Errorf("%v %v %v %v", at, text, blob, slug)
			}
			var yes bool
			var n int
			err := tx.Row(stmt.getAll, 2).Scan(&yes, &text, &blob, &slug)
			if err == nil {
				err = tx.Row(stmt.getAll, 1).Scan(&n, &text, &blob, &slug)
			}
			if !yes || n != 7 {
				t.Errorf("%v %v", yes, n)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		var number int64
		var text string
		var blob []byte
		var slug slugid.ID
		var float float64
		for name, fn := range map[string]func(tx *store.Tx) error{
			"an argument of another type":   func(tx *store.Tx) error { _, err := tx.Exec(stmt.put, "f", 1.5); return err },
			"text that is not UTF-8":        func(tx *store.Tx) error { _, err := tx.Exec(stmt.put, "\xff", 1); return err },
			"text with a NUL":               func(tx *store.Tx) error { _, err := tx.Exec(stmt.put, "a\x00b", 1); return err },
			"too few arguments":             func(tx *store.Tx) error { _, err := tx.Exec(stmt.put, "a"); return err },
			"too many arguments":            func(tx *store.Tx) error { _, err := tx.Exec(stmt.put, "a", 1, 2); return err },
			"a number into text":            func(tx *store.Tx) error { return tx.Row(stmt.getAll, 0).Scan(&text, &text, &blob, &slug) },
			"text into a number":            func(tx *store.Tx) error { return tx.Row(stmt.getAll, 0).Scan(&number, &number, &blob, &slug) },
			"NULL into a number":            func(tx *store.Tx) error { return tx.Row(stmt.getAll, 7).Scan(&number, &text, &blob, &slug) },
			"bytes of a wrong length":       func(tx *store.Tx) error { return tx.Row(stmt.getAll, 0).Scan(&number, &text, &slug, &slug) },
			"a destination of another type": func(tx *store.Tx) error { return tx.Row(stmt.getAll, 0).Scan(&float, &text, &blob, &slug) },
			"too few destinations":          func(tx *store.Tx) error { return tx.Row(stmt.getAll, 0).Scan(&number) },
		} {
			if err := db.Write(t.Context(), fn); err == nil || errors.Is(err, store.ErrNoRows) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := pairs(t, db); len(got) != 0 {
			t.Errorf("something was stored: %v", got)
		}
	})
}

func (s suite) inserts(t *testing.T) {
	db := s.open(t, store.Options{})
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		last := int64(0)
		for _, name := range []string{"a", "b", "c"} {
			id, ok, err := tx.Insert(stmt.number, name)
			if err != nil || !ok || id <= last {
				t.Errorf("%s: %d after %d, %v, %v", name, id, last, ok, err)
			}
			last = id
			if id, ok, err := tx.Insert(stmt.number, "a"); err != nil || ok || id != 0 {
				t.Errorf("one that is there: %d, %v, %v", id, ok, err)
			}
			var stored int64
			if err := tx.Row(stmt.numberOf, name).Scan(&stored); err != nil || stored != id {
				t.Errorf("%s: %d is stored as %d, %v", name, id, stored, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(tx *store.Tx) error {
		_, _, err := tx.Insert(stmt.number, nil)
		return err
	})
	if err == nil {
		t.Error("a row that breaks a constraint was inserted")
	}
	err = db.Read(t.Context(), func(tx *store.Tx) error {
		_, _, err := tx.Insert(stmt.number, "d")
		return err
	})
	if err == nil {
		t.Error("a reader inserted something")
	}
	err = db.Write(t.Context(), func(tx *store.Tx) error {
		_, _, err := tx.Insert(stmt.put, "d", 1)
		return err
	})
	if err == nil {
		t.Error("a statement for Exec was taken for one that tells an id")
	}
}

func (s suite) transactions(t *testing.T) {
	db := s.open(t, store.Options{})
	ctx := t.Context()
	err := db.Write(ctx, func(tx *store.Tx) error {
		if n, err := tx.Exec(stmt.put, "a", 1); err != nil || n != 1 {
			t.Errorf("%d rows, %v", n, err)
		}
		var v int64
		if err := tx.Row(stmt.get, "a").Scan(&v); err != nil || v != 1 {
			t.Errorf("read your writes: %d, %v", v, err)
		}
		if err := tx.Row(stmt.putReturning, "b", 1).Scan(&v); err != nil || v != 2 {
			t.Errorf("RETURNING: %d, %v", v, err)
		}
		if err := tx.Row(stmt.get, "none").Scan(&v); err != store.ErrNoRows {
			t.Errorf("no row: %v", err)
		}
		if n, err := tx.Exec(stmt.get, "a"); err != nil || n != 0 {
			t.Errorf("a query that is executed: %d rows, %v", n, err)
		}
		if tx.Now() == 0 || tx.Now() != tx.Now() {
			t.Error("the time moves within a transaction")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	trouble := errors.New("trouble")
	if err := db.Write(ctx, func(tx *store.Tx) error { return errors.Join(put("c", 1)(tx), trouble) }); !errors.Is(err, trouble) {
		t.Errorf("the function's error: %v", err)
	}
	if err := db.Write(ctx, put("a", 2)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a key twice: %v", err)
	}
	if err := db.Write(ctx, func(tx *store.Tx) error { put("a", 2)(tx); return nil }); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a failure that the function ignores: %v", err)
	}
	err = db.Write(ctx, func(tx *store.Tx) error { put("d", 1)(tx); panic("ouch") })
	var p *store.PanicError
	if !errors.As(err, &p) || p.Value != "ouch" {
		t.Errorf("a panic: %v", err)
	}
	if got, want := pairs(t, db), map[string]int64{"a": 1, "b": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	t.Run("rows", func(t *testing.T) {
		err := db.Write(ctx, func(tx *store.Tx) error {
			seen := ""
			// The same query inside its own rows; both left open in part.
			outer := tx.Query(stmt.list)
			for outer.Next() {
				var a, b string
				var v int64
				if err := outer.Scan(&a, &v); err != nil {
					return err
				}
				inner := tx.Query(stmt.list)
				for inner.Next() {
					if err := inner.Scan(&b, &v); err != nil {
						return err
					}
					seen += a + b + " "
				}
				if err := inner.Err(); err != nil {
					return err
				}
			}
			if seen != "aa ab ba bb " {
				t.Errorf("saw %q", seen)
			}
			if outer.Next() {
				t.Error("a row after the last")
			}
			for range 3 {
				if !tx.Query(stmt.list).Next() { // never closed
					t.Error("no row")
				}
			}
			_, err := tx.Exec(stmt.put, "e", 1)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing outside", func(t *testing.T) {
		var leaked *store.Tx
		if err := db.Read(ctx, func(tx *store.Tx) error { leaked = tx; return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := leaked.Exec(stmt.get, "a"); err == nil {
			t.Error("a read transaction works after its end")
		}
		if err := db.Write(ctx, func(tx *store.Tx) error { leaked = tx; return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := leaked.Exec(stmt.get, "a"); err == nil {
			t.Error("a transaction works after its end")
		}
	})
}

func (s suite) readers(t *testing.T) {
	db := s.open(t, store.Options{Readers: 2})
	ctx := t.Context()
	if err := db.Write(ctx, put("a", 1)); err != nil {
		t.Fatal(err)
	}
	t.Run("one snapshot", func(t *testing.T) {
		err := db.Read(ctx, func(tx *store.Tx) error {
			var before, after int64
			if err := tx.Row(stmt.count).Scan(&before); err != nil {
				return err
			}
			// A write goes on beside the reader.
			done := make(chan error)
			go func() { done <- db.Write(context.WithoutCancel(ctx), put("b", 1)) }()
			if err := <-done; err != nil {
				return err
			}
			err := tx.Row(stmt.count).Scan(&after)
			if before != after {
				t.Errorf("the snapshot moved from %d to %d rows", before, after)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if got := pairs(t, db); len(got) != 2 {
			t.Errorf("a later read sees %v", got)
		}
	})
	t.Run("no writes, no hooks", func(t *testing.T) {
		for name, fn := range map[string]func(*store.Tx) error{
			"write":        put("c", 1),
			"returning":    func(tx *store.Tx) error { var v int64; return tx.Row(stmt.putReturning, "c", 1).Scan(&v) },
			"OnCommit":     func(tx *store.Tx) error { tx.OnCommit(func() { t.Error("called") }); return nil },
			"BeforeCommit": func(tx *store.Tx) error { tx.BeforeCommit(func(*store.Tx) error { return nil }); return nil },
			"Signal":       func(tx *store.Tx) error { tx.Signal("a", "b"); return nil },
			"Local":        func(tx *store.Tx) error { tx.Local(t, func() any { return 1 }); return nil },
			"panic":        func(tx *store.Tx) error { panic(name0) },
		} {
			if err := db.Read(ctx, fn); err == nil {
				t.Errorf("%s is possible in Read", name)
			}
		}
		if got := pairs(t, db); len(got) != 2 {
			t.Errorf("Read wrote: %v", got)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for j := range 50 {
					var n int64
					err := db.Read(ctx, func(tx *store.Tx) error { return tx.Row(stmt.count).Scan(&n) })
					if err == nil && i%4 == 0 {
						err = db.Write(ctx, put(fmt.Sprint("many ", i, " ", j), 1))
					}
					if err != nil || n < 2 {
						t.Errorf("%d rows, %v", n, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if got := pairs(t, db); len(got) != 202 {
			t.Errorf("%d rows, want 202", len(got))
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		err := db.Read(ctx, func(tx *store.Tx) error {
			rows := tx.Query(stmt.list)
			if !rows.Next() {
				t.Error("no row")
			}
			cancel()
			if rows.Next() {
				t.Error("a row after the context ended")
			}
			return rows.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := db.Read(ctx, func(*store.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("a read that never begins: %v", err)
		}
	})
}

const name0 = "a panic in a reader"

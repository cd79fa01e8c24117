//go:build unix

package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// many: one statement with many rows of arguments does what a loop does.
func (s suite) many(t *testing.T) {
	db := s.open(t, store.Options{})
	write := func(t *testing.T, fn func(*store.Tx) error) error {
		t.Helper()
		return db.Write(t.Context(), fn)
	}
	t.Run("exec", func(t *testing.T) {
		before := db.Stats().Statements
		err := write(t, func(tx *store.Tx) error {
			m := tx.Many(stmt.put)
			if n, err := m.Exec(); n != 0 || err != nil {
				t.Errorf("without rows: %d, %v", n, err)
			}
			for i := range 300 {
				m.Add(fmt.Sprintf("%03d", i), i)
			}
			if m.Len() != 300 {
				t.Errorf("%d rows were added", m.Len())
			}
			n, err := m.Exec()
			if n != 300 || err != nil || m.Len() != 0 {
				t.Errorf("%d rows, %v; %d are left", n, err, m.Len())
			}
			m.Add("again", 1)
			n, err = m.Exec()
			if n != 1 || err != nil {
				t.Errorf("used again: %d, %v", n, err)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := db.Stats().Statements - before; n != 301 {
			t.Errorf("%d statements were counted", n)
		}
	})
	t.Run("query", func(t *testing.T) {
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			m := tx.Many(stmt.get)
			for _, name := range []string{"007", "nobody", "005", "006", "005"} {
				m.Add(name)
			}
			var got []int
			rows := m.Query()
			for rows.Next() {
				var n, other int
				if err := rows.Scan(&n); err != nil {
					return err
				}
				// Another statement meanwhile.
				if err := tx.Row(stmt.get, "001").Scan(&other); err != nil || other != 1 {
					t.Errorf("another statement: %d, %v", other, err)
				}
				got = append(got, n)
			}
			if want := []int{7, 5, 6, 5}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if none := tx.Many(stmt.get).Query(); none.Next() || none.Err() != nil {
				t.Errorf("without rows of arguments there are rows, or %v", none.Err())
			}
			return rows.Err()
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("returning", func(t *testing.T) {
		err := write(t, func(tx *store.Tx) error {
			m := tx.Many(stmt.putReturning)
			m.Add("r1", 1)
			m.Add("r2", 2)
			rows := m.Query()
			var n int
			if !rows.Next() || rows.Scan(&n) != nil || n != 2 {
				t.Errorf("got %d, %v", n, rows.Err())
			}
			rows.Close() // the second takes place all the same
			return tx.Row(stmt.get, "r2").Scan(&n)
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("each", func(t *testing.T) {
		type row struct {
			id     int
			number *int64
			text   *string
			bytes  []byte
			slug   *slugid.ID
		}
		seven, text := int64(-7), `{"a\,'✓`+strings.Repeat("x", 100)
		in := []row{
			{1, &seven, &text, []byte{0, 255}, &sample.slug},
			{2, nil, nil, nil, nil},
			{3, new(int64), new(string), []byte{}, &slugid.ID{}},
		}
		err := write(t, func(tx *store.Tx) error {
			m := tx.Many(stmt.addAll)
			for _, r := range in {
				m.Add(r.id, r.number, r.text, r.bytes, r.slug)
			}
			n, err := m.Exec()
			if n != 3 || err != nil {
				t.Errorf("%d rows, %v", n, err)
			}
			mark := tx.Many(stmt.markAll) // with an argument that is the same for all
			for _, id := range []int{2, 3, 4} {
				mark.Add(77, id)
			}
			n, err = mark.Exec()
			if n != 2 {
				t.Errorf("%d rows were marked", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		marked := int64(77)
		in[1].number, in[2].number = &marked, &marked
		err = db.Read(t.Context(), func(tx *store.Tx) error {
			m := tx.Many(stmt.listAll)
			for id := range 5 {
				m.Add(id)
			}
			rows := m.Query()
			i := 0
			for ; rows.Next(); i++ {
				var r row
				if err := rows.Scan(&r.id, &r.number, &r.text, &r.bytes, &r.slug); err != nil {
					return err
				}
				if got, want := fmt.Sprint(r.id, show(r.number), show(r.text), r.bytes, show(r.slug)),
					fmt.Sprint(in[i].id, show(in[i].number), show(in[i].text), in[i].bytes, show(in[i].slug)); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if i != 3 {
				t.Errorf("%d rows", i)
			}
			return rows.Err()
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for name, fn := range map[string]func(tx *store.Tx) error{
			"a row of another length": func(tx *store.Tx) error {
				m := tx.Many(stmt.put)
				m.Add("x", 1)
				m.Add("y")
				_, err := m.Exec()
				return err
			},
			"too few arguments": func(tx *store.Tx) error {
				m := tx.Many(stmt.put)
				m.Add("x")
				_, err := m.Exec()
				return err
			},
			"an argument of another type": func(tx *store.Tx) error {
				m := tx.Many(stmt.get)
				m.Add(1.5)
				return m.Query().Err()
			},
			"a conflict": func(tx *store.Tx) error {
				m := tx.Many(stmt.put)
				m.Add("x", 1)
				m.Add("x", 2)
				m.Add("y", 2)
				_, err := m.Exec()
				return err
			},
			"a conflict that answers": func(tx *store.Tx) error {
				m := tx.Many(stmt.putReturning)
				m.Add("x", 1)
				m.Add("x", 2)
				rows := m.Query()
				for rows.Next() {
				}
				return rows.Err()
			},
			"Each without Many": func(tx *store.Tx) error { _, err := tx.Exec(stmt.addAll, 9, 1, "", nil, nil); return err },
			"an insert that tells the key": func(tx *store.Tx) error {
				m := tx.Many(stmt.number)
				m.Add("x")
				_, err := m.Exec()
				return err
			},
		} {
			if err := write(t, fn); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			m := tx.Many(stmt.put)
			m.Add("read", 1)
			_, err := m.Exec()
			return err
		})
		if err == nil {
			t.Error("Read wrote")
		}
		if got := pairs(t, db); got["x"] != 0 || got["y"] != 0 || got["read"] != 0 {
			t.Errorf("a refused statement left something")
		}
	})
}

func show[T any](p *T) string {
	if p == nil {
		return "NULL"
	}
	return fmt.Sprint(*p)
}

// sent: statements that nobody waits for are in order with the others, and
// whoever breaks one fails alone.
func (s suite) sent(t *testing.T) {
	db := s.open(t, store.Options{})
	send := func(name string, value int) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.Send(stmt.put, name, value) }
	}
	before := db.Stats().Statements
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		for i := range 3 {
			if err := send(fmt.Sprint("a", i), i)(tx); err != nil {
				return err
			}
		}
		var n int
		if err := tx.Row(stmt.count).Scan(&n); err != nil || n != 3 {
			t.Errorf("a query sees %d, %v", n, err)
		}
		if err := tx.Send(stmt.replace, "a0", 10); err != nil {
			return err
		}
		if n, err := tx.Exec(stmt.replace, "a1", 11); err != nil || n != 1 {
			t.Errorf("exec: %d, %v", n, err)
		}
		if err := tx.Send(stmt.replace, "a1", 12); err != nil {
			return err
		}
		id, ok, err := tx.Insert(stmt.number, "n")
		if err != nil || !ok || id != 1 {
			t.Errorf("insert: %d, %v, %v", id, ok, err)
		}
		m := tx.Many(stmt.put)
		m.Add("m1", 1)
		m.Add("m2", 2)
		if err := send("before m", 1)(tx); err != nil {
			return err
		}
		if n, err := m.Exec(); n != 2 || err != nil {
			t.Errorf("many: %d, %v", n, err)
		}
		tx.BeforeCommit(send("at last", 7))
		tx.Signal("topic", "detail")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := db.Stats().Statements - before; n != 12 {
		t.Errorf("%d statements were counted", n)
	}
	want := map[string]int64{"a0": 10, "a1": 12, "a2": 2, "m1": 1, "m2": 2, "before m": 1, "at last": 7}
	if got := pairs(t, db); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	write := func(fn func(*store.Tx) error) func() error {
		return func() error { return db.Write(context.Background(), fn) }
	}
	errs := together(t, db, write(send("b", 1)), write(send("a0", 1)), write(send("c", 1)),
		write(func(tx *store.Tx) error { return errors.Join(send("undone", 1)(tx), errTrouble) }),
		write(func(tx *store.Tx) error {
			var n int64
			return tx.Row(stmt.get, "a2").Scan(&n)
		}), write(send("d", 1)))
	for i, err := range errs {
		switch {
		case i == 1 && !errors.Is(err, store.ErrConflict), i == 3 && !errors.Is(err, errTrouble), i != 1 && i != 3 && err != nil:
			t.Errorf("operation %d: %v", i, err)
		}
	}
	want["b"], want["c"], want["d"] = 1, 1, 1
	if got := pairs(t, db); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// single: reading with one statement.
func (s suite) single(t *testing.T) {
	db := s.open(t, store.Options{})
	if err := db.Write(t.Context(), put("a", 1)); err != nil {
		t.Fatal(err)
	}
	var n int64
	err := db.ReadOne(t.Context(), func(tx *store.Tx) error { return tx.Row(stmt.get, "a").Scan(&n) })
	if err != nil || n != 1 {
		t.Errorf("got %d, %v", n, err)
	}
	err = db.ReadOne(t.Context(), func(tx *store.Tx) error { return tx.Row(stmt.get, "nobody").Scan(&n) })
	if !errors.Is(err, store.ErrNoRows) {
		t.Error(err)
	}
	err = db.ReadOne(t.Context(), func(tx *store.Tx) error {
		if err := tx.Row(stmt.get, "a").Scan(&n); err != nil {
			return err
		}
		return tx.Row(stmt.get, "a").Scan(&n)
	})
	if err == nil || !strings.Contains(err.Error(), "second statement") {
		t.Errorf("a second statement: %v", err)
	}
	if err := db.ReadOne(t.Context(), put("b", 1)); err == nil {
		t.Error("it wrote")
	}
	// The same connections read as ever.
	for range 8 {
		if got := pairs(t, db); len(got) != 1 {
			t.Errorf("there is %v", got)
		}
	}
}

// writers: of all who write to a database, one has a transaction at a time, and
// sees what the others have left; and none waits for ever.
func (s suite) writers(t *testing.T) {
	name := s.New(t)
	stores := []*store.Store{s.reopen(t, name, store.Options{})}
	if stores[0].Shared() {
		stores = append(stores, s.reopen(t, name, store.Options{}), s.reopen(t, name, store.Options{}))
	}
	if err := stores[0].Write(t.Context(), put("n", 0)); err != nil {
		t.Fatal(err)
	}
	// Reading, then writing what was read plus one: without the lock, increments
	// would be lost.
	const callers, times = 4, 25
	increment := func(tx *store.Tx) error {
		var n int64
		if err := tx.Row(stmt.get, "n").Scan(&n); err != nil {
			return err
		}
		return tx.Send(stmt.replace, "n", n+1)
	}
	var wg sync.WaitGroup
	for _, db := range stores {
		for range callers {
			wg.Go(func() {
				for range times {
					if err := db.Write(t.Context(), increment); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if got, want := pairs(t, stores[0])["n"], int64(len(stores)*callers*times); got != want {
		t.Errorf("%d of %d increments are there", got, want)
	}
	if len(stores) == 1 {
		return
	}
	// Whoever asks gets his turn, however busy the others are. (In which order,
	// the engine's own test can see.)
	busy, stop := context.WithCancel(t.Context())
	for range 8 {
		wg.Go(func() {
			for busy.Err() == nil {
				if err := stores[0].Write(busy, increment); err != nil && busy.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	patient, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 20 {
		if err := stores[1].Write(patient, increment); err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
}

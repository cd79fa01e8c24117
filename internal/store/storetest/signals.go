//go:build unix

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/store"
)

// heard collects the signals of a topic.
type heard struct {
	mu   sync.Mutex
	all  []string
	more chan struct{}
}

func listen(t *testing.T, db *store.Store, topic string) *heard {
	h := &heard{more: make(chan struct{}, 1)}
	t.Cleanup(db.Watch(topic, func(s store.Signal) {
		text := s.Detail
		if s.Elsewhere {
			text += " elsewhere"
		}
		if s.Lost {
			text += " lost"
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.all = append(h.all, text)
		select {
		case h.more <- struct{}{}:
		default:
		}
	}))
	return h
}

func (h *heard) now() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// until waits for a signal.
func (h *heard) until(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !slices.Contains(h.now(), want) {
		select {
		case <-h.more:
		case <-deadline:
			t.Fatalf("%q was not heard, but %.1000q", want, h.now())
		}
	}
}

// signal is a write that only signals, topic and detail in turn.
func signal(pairs ...string) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			tx.Signal(pairs[i], pairs[i+1])
		}
		return nil
	}
}

// signals: told once each, in order, after the commit and before the caller is
// answered; to others who share the database as well.
func (s suite) signals(t *testing.T) {
	name := s.New(t)
	db := s.reopen(t, name, store.Options{})
	a, b := listen(t, db, "a"), listen(t, db, "b")
	want := func(h *heard, list ...string) {
		t.Helper()
		if got := h.now(); !slices.Equal(got, list) {
			t.Errorf("heard %.1000q, want %q", got, list)
		}
	}

	t.Run("in this process", func(t *testing.T) {
		committed := false
		stop := db.Watch("a", func(store.Signal) {
			if !committed {
				t.Error("a signal came before the hooks of its commit")
			}
		})
		err := db.Write(t.Context(), func(tx *store.Tx) error {
			tx.OnCommit(func() { committed = true })
			return signal("a", "1", "b", "2", "a", "3", "a", "1", "nobody", "listens")(tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		stop()
		want(a, "1", "3")
		want(b, "2")
		err = db.Write(t.Context(), func(tx *store.Tx) error {
			return errors.Join(signal("a", "undone")(tx), errTrouble)
		})
		if !errors.Is(err, errTrouble) {
			t.Error(err)
		}
		stop = db.Watch("a", func(store.Signal) { panic("a watcher's") })
		if err := db.Write(t.Context(), signal("a", "4")); err != nil {
			t.Errorf("somebody's watcher panics: %v", err)
		}
		stop()
		want(a, "1", "3", "4")
	})

	if !db.Shared() {
		return
	}
	other := s.reopen(t, name, store.Options{})
	if !other.Shared() {
		t.Fatal("the second is not shared")
	}
	there := listen(t, other, "a")
	t.Run("in another process", func(t *testing.T) {
		if err := db.Write(t.Context(), signal("a", "it's \\ \"✓\"", "b", "x", "a", "")); err != nil {
			t.Fatal(err)
		}
		if err := other.Write(t.Context(), signal("a", "own")); err != nil {
			t.Fatal(err)
		}
		a.until(t, "own elsewhere")
		// What db heard of other came after its own: notices are in order of the
		// commits, and nobody hears himself.
		want(a, "1", "3", "4", "it's \\ \"✓\"", "", "own elsewhere")
		there.until(t, " elsewhere")
		if got := there.now(); !slices.Contains(got, "it's \\ \"✓\" elsewhere") || !slices.Contains(got, "own") || len(got) != 3 {
			t.Errorf("the other heard %q", got)
		}
	})
	t.Run("more than fits", func(t *testing.T) {
		many := []string{"b", "small"}
		for i := range 1000 {
			many = append(many, "a", fmt.Sprint(strings.Repeat("'\\", 8), i))
		}
		small := listen(t, other, "b")
		before := len(a.now())
		if err := db.Write(t.Context(), signal(many...)); err != nil {
			t.Fatal(err)
		}
		if n := len(a.now()) - before; n != 1000 {
			t.Errorf("this process heard %d of 1000", n)
		}
		small.until(t, "small elsewhere")
		there.until(t, " elsewhere lost")
		if n := len(there.now()); n != 4 {
			t.Errorf("the other heard %d signals, want one more", n-3)
		}
	})
	t.Run("under load", func(t *testing.T) {
		here, there := listen(t, db, "load"), listen(t, other, "load")
		var wg sync.WaitGroup
		for i := range 8 {
			from := []*store.Store{db, other}[i%2]
			wg.Go(func() {
				for j := range 25 {
					if err := from.Write(t.Context(), signal("load", fmt.Sprint(i, "/", j))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := db.Write(t.Context(), signal("load", "end")); err != nil {
			t.Fatal(err)
		}
		there.until(t, "end elsewhere")
		if err := other.Write(t.Context(), signal("load", "end of the other")); err != nil {
			t.Fatal(err)
		}
		here.until(t, "end of the other elsewhere")
		for name, h := range map[string]*heard{"one": here, "the other": there} {
			own, foreign := 0, 0
			for _, text := range h.now() {
				if strings.HasSuffix(text, " elsewhere") {
					foreign++
				} else {
					own++
				}
			}
			if own != 101 || foreign != 101 {
				t.Errorf("%s heard %d of its own and %d of the other, of 101 each", name, own, foreign)
			}
		}
	})
}

package queue

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"taskcluster/internal/clock"
)

func pendingAt(row int64, at clock.Time, p priority, queue string) pendingChange {
	return pendingChange{pendingRun: pendingRun{row: row, scheduled: at, priority: p}, queue: queue}
}

// The order in memory against a sorted slice, with random changes.
func TestMemoryPendingOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := newMemoryPending()
	model := map[string][]pendingRun{}
	held := map[int64]pendingChange{}  // what was taken, and not changed since
	stale := map[int64]pendingChange{} // what was, and did change
	drop := func(row int64) {
		if c, ok := held[row]; ok {
			stale[row] = c
		}
		delete(held, row)
		for q := range model {
			model[q] = slices.DeleteFunc(model[q], func(x pendingRun) bool { return x.row == row })
		}
	}
	less := func(a, b pendingRun) int {
		switch {
		case a.priority != b.priority:
			return int(b.priority) - int(a.priority)
		case a.scheduled != b.scheduled:
			return int(a.scheduled - b.scheduled)
		}
		return int(a.row - b.row)
	}
	for range 50_000 {
		queue := fmt.Sprint("q/", r.IntN(3))
		switch r.IntN(8) {
		case 6: // what was taken a while ago comes back
			for row, c := range held {
				m.putBack(c.queue, []pendingRun{c.pendingRun})
				model[c.queue] = append(model[c.queue], c.pendingRun)
				delete(held, row)
				break
			}
		case 7:
			for row, c := range stale {
				if _, again := held[row]; !again {
					m.putBack(c.queue, []pendingRun{c.pendingRun})
				}
				delete(stale, row)
				break
			}
		case 0, 1, 2:
			c := pendingAt(r.Int64N(500), clock.Time(r.IntN(50)), priority(1+r.IntN(7)), queue)
			m.apply([]pendingChange{c})
			drop(c.row)
			model[queue] = append(model[queue], c.pendingRun)
		case 3:
			row := r.Int64N(500)
			m.apply([]pendingChange{{pendingRun: pendingRun{row: row}}})
			drop(row)
		default:
			n := 1 + r.IntN(4)
			got, w := m.take(queue, n)
			if w != nil {
				if m.leave(w) != nil {
					t.Fatal("runs from nowhere")
				}
			}
			slices.SortFunc(model[queue], less)
			want := model[queue][:min(n, len(model[queue]))]
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("got %v, want %v", got, want)
			}
			if r.IntN(3) == 0 {
				m.putBack(queue, got)
			} else {
				model[queue] = model[queue][len(want):]
				for _, x := range got {
					held[x.row] = pendingChange{pendingRun: x, queue: queue}
				}
			}
		}
		size := 0
		for _, q := range model {
			size += len(q)
		}
		if len(m.places) != size+len(held) {
			t.Fatalf("%d places for %d runs and %d that were taken", len(m.places), size, len(held))
		}
	}
}

func TestMemoryPendingForgetsQueues(t *testing.T) {
	m := newMemoryPending()
	for i := range int64(1000) {
		m.apply([]pendingChange{pendingAt(i, 1, lowest, fmt.Sprint("q/", i))})
	}
	for i := range int64(1000) {
		if i%2 == 0 {
			m.apply([]pendingChange{{pendingRun: pendingRun{row: i}}})
		} else if runs, _ := m.take(fmt.Sprint("q/", i), 1); len(runs) != 1 {
			t.Fatal(runs)
		} else {
			m.apply([]pendingChange{{pendingRun: pendingRun{row: i}, running: true}})
		}
	}
	if len(m.queues) != 0 || len(m.places) != 0 || len(m.unused) != len(m.heaps) {
		t.Errorf("%d queues, %d places, %d of %d heaps free", len(m.queues), len(m.places), len(m.unused), len(m.heaps))
	}
}

// Waiters are served first come, first served, each up to what it wants.
func TestWaitersInLine(t *testing.T) {
	m := newMemoryPending()
	_, a := m.take("q/x", 1)
	_, b := m.take("q/x", 2)
	_, c := m.take("q/x", 1)
	if m.leave(b) != nil {
		t.Fatal("runs from nowhere")
	}
	_, b = m.take("q/x", 2)
	m.apply([]pendingChange{pendingAt(1, 1, 1, "q/x"), pendingAt(2, 1, 7, "q/x"), pendingAt(3, 1, 1, "q/x"), pendingAt(4, 1, 1, "q/x"), pendingAt(5, 1, 1, "q/x")})
	for _, w := range []struct {
		w    *waiter
		want []int64
	}{{a, []int64{2}}, {c, []int64{1}}, {b, []int64{3, 4}}} {
		var rows []int64
		<-w.w.ready
		for _, r := range w.w.runs {
			rows = append(rows, r.row)
		}
		if !slices.Equal(rows, w.want) {
			t.Errorf("got %v, want %v", rows, w.want)
		}
	}
	if rest, _ := m.take("q/x", 9); len(rest) != 1 || rest[0].row != 5 {
		t.Error(rest)
	}
	_, d := m.take("q/x", 3)
	m.apply([]pendingChange{pendingAt(6, 1, 1, "q/x")})
	got := m.leave(d) // its time was over at the same moment
	if len(got) != 1 || got[0].row != 6 {
		t.Fatal(got)
	}
	m.putBack("q/x", got)
	if rest, _ := m.take("q/x", 9); len(rest) != 1 {
		t.Error(rest)
	}
}

func TestMemoryPerPendingRun(t *testing.T) {
	const n = 1_000_000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	m := newMemoryPending()
	for i := range int64(n) {
		m.apply([]pendingChange{pendingAt(i, clock.Time(i), priority(1+i%7), "prov/type")})
	}
	per := float64(heap()-before) / n
	t.Logf("%.0f bytes of heap per pending run", per)
	if per > 128 {
		t.Errorf("%.0f bytes of heap per pending run, at most 128 are allowed", per)
	}
	if runs, _ := m.take("prov/type", 1); runs[0].row != 6 {
		t.Error(runs)
	}
}

func BenchmarkMemoryPendingDeep(b *testing.B) {
	m := newMemoryPending()
	for i := range int64(1_000_000) {
		m.apply([]pendingChange{pendingAt(i, clock.Time(i), lowest, "prov/type")})
	}
	row := int64(1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		m.apply([]pendingChange{pendingAt(row, clock.Time(row), lowest, "prov/type")})
		runs, _ := m.take("prov/type", 1)
		m.apply([]pendingChange{{pendingRun: pendingRun{row: runs[0].row}, running: true}})
		row++
	}
}

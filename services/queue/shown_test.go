package queue

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// What shows that an answer is older than another one about the same task: the
// runs that there are, and whether the last is resolved.
func progress(status string) int {
	n := 2 * strings.Count(status, `"runId":`)
	if strings.Contains(status, `"state":"exception","runs"`) {
		n++
	}
	return n
}

// Writers that look at what they were answered, and readers who ask the
// database and the memory by turns: nobody sees a status that is older than
// one that was seen before.
func TestStatusIsNeverStale(t *testing.T) {
	const tasks, rounds, readers = 4, 24, 4
	d := deploy(t)
	var ids [tasks]slugid.ID
	for i := range ids {
		ids[i], _ = slugid.Parse(d.create())
	}
	ctx, stop := context.WithCancel(t.Context())
	var reading, writing sync.WaitGroup
	for r := range readers {
		random := rand.New(rand.NewPCG(7, uint64(r)))
		reading.Go(func() {
			var seen [tasks]int
			for ctx.Err() == nil {
				i := random.IntN(tasks)
				var text string
				if random.IntN(3) == 0 {
					task, err := d.queue.readTask(context.Background(), ids[i])
					if err != nil {
						t.Error(err)
						return
					}
					text = string(task.statusReply())
				} else {
					b, err := d.queue.showStatus(context.Background(), ids[i])
					if err != nil {
						t.Error(err)
						return
					}
					text = string(b)
				}
				now := progress(text)
				if now < seen[i] {
					t.Errorf("seen %d, then %d: %s", seen[i], now, text)
					return
				}
				seen[i] = now
			}
		})
	}
	for _, id := range ids {
		writing.Go(func() {
			for round := range rounds {
				verb := [...]string{"/cancel", "/rerun"}[round%2]
				a := d.call(root, "POST", "/task/"+id.String()+verb, nil)
				if a.status != 200 {
					t.Error(a.body)
					return
				}
				for range 2 { // the second time from memory, unless another commit is under way
					if b, err := d.queue.showStatus(context.Background(), id); err != nil || string(b) != a.body {
						t.Errorf("%v, shown %s, answered %s", err, b, a.body)
						return
					}
				}
			}
		})
	}
	writing.Wait()
	stop()
	reading.Wait()
}

// An answer costs no statement when it is asked for again, unless others write
// to the database, and a transition has it read anew, once.
func TestStatusIsKept(t *testing.T) {
	d := deploy(t)
	id := d.create()
	statements := func() int64 {
		before := d.store.Stats().Statements
		d.status(id)
		return d.store.Stats().Statements - before
	}
	again := int64(0)
	if d.store.Shared() {
		again = 1
	}
	if n := statements(); n != 1 {
		t.Errorf("the first time: %d statements", n)
	}
	if n := statements(); n != again {
		t.Errorf("the second time: %d statements", n)
	}
	d.call(root, "POST", "/task/"+id+"/priority", with{"newPriority": "high"}).want(200)
	if n := statements(); n != 1 {
		t.Errorf("after a change: %d statements", n)
	}
	if n := statements(); n != again {
		t.Errorf("after a change, again: %d statements", n)
	}
	if got := d.status(id).string("status", "priority"); got != "high" {
		t.Error(got)
	}
}

// A commit that fails leaves nothing behind that is wrong.
func TestStatusAfterFailedCommit(t *testing.T) {
	d := deploy(t)
	id, _ := slugid.Parse(d.create())
	before := d.status(id.String()).body
	err := d.store.Write(t.Context(), func(tx *store.Tx) error {
		task, err := loadTask(tx, id)
		if err != nil {
			return err
		}
		o := d.queue.begin(tx)
		if _, err := o.cancel(task); err != nil {
			return err
		}
		tx.BeforeCommit(func(*store.Tx) error { return context.DeadlineExceeded })
		return o.finish()
	})
	if err == nil {
		t.Fatal("it was committed")
	}
	for range 2 {
		if now := d.status(id.String()).body; now != before {
			t.Errorf("got %s, want %s", now, before)
		}
	}
	d.call(root, "POST", "/task/"+id.String()+"/cancel", nil).want(200)
	for range 2 {
		d.wantState(id.String(), "exception", "scheduled", "canceled")
	}
}

// shown alone: what it may keep, and how much.
func TestShown(t *testing.T) {
	s := newShown(shownShards * 1000)
	id := slugid.New()
	keep := func(id slugid.ID, version uint64, text string) string {
		s.keep(id, version, []byte(text))
		got, _ := s.get(id)
		return string(got)
	}
	_, before := s.get(id)
	if got := keep(id, before, "one"); got != "one" {
		t.Errorf("got %q", got)
	}
	s.hold([]slugid.ID{id})
	got, during := s.get(id)
	if got != nil || keep(id, before, "old") != "" || keep(id, during, "old") != "" {
		t.Error("something is shown while a commit may be under way")
	}
	s.release()
	if keep(id, before, "old") != "" || keep(id, during, "old") != "" {
		t.Error("what was read before the commit is kept after it")
	}
	_, after := s.get(id)
	if got := keep(id, after, "new"); got != "new" {
		t.Errorf("got %q", got)
	}
	s.hold([]slugid.ID{id}) // fails: nobody releases
	s.hold(nil)
	if _, version := s.get(id); version == after || keep(id, version, "again") != "again" {
		t.Error("a failed commit stands in the way of what follows the next one")
	}

	if keep(id, after+1, strings.Repeat("x", 2000)) == strings.Repeat("x", 2000) {
		t.Error("an answer that is too large is kept")
	}
	for range 5000 {
		id := slugid.New()
		_, version := s.get(id)
		if keep(id, version, strings.Repeat("y", 300)) == "" {
			t.Fatal("the newest is not kept")
		}
	}
	for i := range s.shards {
		h := &s.shards[i]
		sum := 0
		for _, answer := range h.answers {
			sum += cap(answer) + shownOverhead
		}
		if sum != h.bytes || sum > 1000 || len(h.answers) == 0 {
			t.Errorf("%d answers of %d bytes, counted %d", len(h.answers), sum, h.bytes)
		}
	}
	if none := newShown(0); none != nil {
		none.keep(id, 0, []byte("x"))
		if got, _ := none.get(id); got != nil {
			t.Error("kept")
		}
	}
}

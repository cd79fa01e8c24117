package queue

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sweep"
)

var benchExpired = flag.Int("expired", 100_000, "how many expired tasks BenchmarkExpire removes")

// BenchmarkExpire removes expired tasks while eight clients create tasks and read
// statuses, and tells how long these wait beside the removal, and then as long
// without it; and what went on meanwhile when they waited longest. Run it with
// -benchtime 1x -v, and with TMPDIR in memory to see it without the disk.
func BenchmarkExpire(b *testing.B) {
	for range b.N {
		b.StopTimer()
		var seen timeline
		d := deployWith(b, b.TempDir(), testClock(), slog.New(&seen))
		d.addExpired(*benchExpired)
		seen.spans = nil
		defer seen.notePauses()()
		b.StartTimer()
		beside := d.delays(func() {
			sweeper := d.queue.expiry()
			for i := range sweeper.Kinds {
				sweeper.Kinds[i].Walk = seen.watch(sweeper.Kinds[i].Walk)
			}
			done, err := sweeper.Once(context.Background())
			if err != nil || done.Removed["tasks"] != *benchExpired {
				b.Errorf("%v %v", done, err)
			}
		})
		b.StopTimer()
		b.ReportMetric(float64(*benchExpired)/b.Elapsed().Seconds(), "removed/s")
		seen.totals(b)
		alone := d.delays(func() { time.Sleep(b.Elapsed()) })
		report := func(name string, calls []span) {
			slices.SortFunc(calls, func(x, y span) int { return int(x.took() - y.took()) })
			for _, q := range []struct {
				name string
				at   int
			}{{"p50", len(calls) / 2}, {"p99", len(calls) * 99 / 100}, {"p99.9", len(calls) * 999 / 1000}, {"max", len(calls) - 1}} {
				b.ReportMetric(float64(calls[q.at].took().Microseconds())/1000, name+"-"+q.name+"-ms")
			}
			b.Logf("%s: the slowest of %d calls", name, len(calls))
			seen.explain(b, calls[max(0, len(calls)*999/1000):])
		}
		report("alone", alone)
		report("beside", beside)
	}
}

// span is something that took time.
type span struct {
	what       string
	began, end time.Time
}

func (s span) took() time.Duration { return s.end.Sub(s.began) }

// timeline is what the store and the sweep did when. It is a handler of the
// store's log, which tells each copy of the write-ahead log.
type timeline struct {
	mu    sync.Mutex
	spans []span
}

func (l *timeline) add(s span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spans = append(l.spans, s)
}

func (l *timeline) Enabled(context.Context, slog.Level) bool { return true }
func (l *timeline) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *timeline) WithGroup(string) slog.Handler            { return l }

func (l *timeline) Handle(_ context.Context, r slog.Record) error {
	s := span{what: "checkpoint", began: r.Time, end: r.Time}
	r.Attrs(func(a slog.Attr) bool {
		switch {
		case a.Key == "took":
			s.began = s.end.Add(-a.Value.Duration())
		case a.Key == "how":
			s.what += " " + a.Value.String()
		}
		return true
	})
	if s.took() > 0 {
		l.add(s)
	}
	return nil
}

// notePauses notes when the whole process stood still, as it does when the machine
// gives its cores to others. It ends when the function that it answers is called.
func (l *timeline) notePauses() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var noting sync.WaitGroup
	noting.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			time.Sleep(time.Millisecond)
			if pause := (span{"pause of the process", began, time.Now()}); pause.took() > 5*time.Millisecond {
				l.add(pause)
			}
		}
	})
	return func() { cancel(); noting.Wait() }
}

// watch notes the transactions of a walk, with the time that they wait for others
// who share them.
func (l *timeline) watch(walk func(clock.Time) sweep.Step) func(clock.Time) sweep.Step {
	return func(now clock.Time) sweep.Step {
		step := walk(now)
		return func(ctx context.Context, write sweep.Write, n int) (sweep.Outcome, error) {
			return step(ctx, func(ctx context.Context, fn func(*store.Tx) error) error {
				var began, committing, end time.Time
				err := write(ctx, func(tx *store.Tx) error {
					began = time.Now()
					err := fn(tx)
					tx.BeforeCommit(func(*store.Tx) error { committing = time.Now(); return nil })
					tx.OnCommit(func() { end = time.Now() })
					return err
				})
				if err == nil {
					l.add(span{"sweep", began, committing})
					l.add(span{"sweep's commit", committing, end})
				}
				return err
			}, n)
		}
	}
}

// explain tells for each call how much of its time what took.
func (l *timeline) explain(b *testing.B, calls []span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, call := range calls[max(0, len(calls)-20):] {
		var shares []string
		for _, s := range l.spans {
			if both := min(s.end.UnixNano(), call.end.UnixNano()) - max(s.began.UnixNano(), call.began.UnixNano()); both > 0 {
				shares = append(shares, fmt.Sprintf("%.1f of the %.1f ms of a %s", float64(both)/1e6, s.took().Seconds()*1000, s.what))
			}
		}
		b.Logf("%5.1f ms %s: %s", call.took().Seconds()*1000, call.what, strings.Join(shares, ", "))
	}
}

// totals tells how often what happened, and how long it took.
func (l *timeline) totals(b *testing.B) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := map[string][]time.Duration{}
	for _, s := range l.spans {
		of[s.what] = append(of[s.what], s.took())
	}
	for what, took := range of {
		slices.Sort(took)
		b.Logf("%d times %s: half of them below %v, 99 %% below %v, max %v", len(took), what, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	}
}

// addExpired makes tasks that were resolved and expired long ago.
func (d *deployment) addExpired(n int) {
	d.t.Helper()
	group := slugid.New().String()
	like := d.create(with{"taskGroupId": group})
	copyTask := store.SQL(`INSERT INTO tasks (task_id, group_row, task_queue_id, state, priority, retries_left, unsatisfied,
		ever_resolved, deadline, expires, run_id, reason_created, reason_resolved, scheduled, resolved)
		SELECT ?, group_row, task_queue_id, 3, priority, retries_left, 0, 1, deadline, 1, 0, 1, 1, scheduled, scheduled
		FROM tasks WHERE task_id = ? RETURNING id`)
	copyDefinition := store.SQL(`INSERT INTO task_definitions (id, group_id, scheduler_id, project_id, retries, priority_at, tags, routes, definition)
		SELECT ?, d.group_id, d.scheduler_id, d.project_id, d.retries, d.priority_at, d.tags, d.routes, d.definition
		FROM task_definitions d JOIN tasks t ON t.id = d.id WHERE t.task_id = ?`)
	source, err := slugid.Parse(like)
	if err != nil {
		d.t.Fatal(err)
	}
	for done := 0; done < n; done += 1000 {
		err := d.store.Write(context.Background(), func(tx *store.Tx) error {
			for range min(1000, n-done) {
				var row int64
				if err := tx.Row(copyTask, slugid.New(), source).Scan(&row); err != nil {
					return err
				}
				if _, err := tx.Exec(copyDefinition, row, source); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

// delays are the calls that eight clients make while something runs.
func (d *deployment) delays(during func()) []span {
	var mu sync.Mutex
	var all []span
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		clients.Go(func() {
			var mine []span
			defer func() {
				mu.Lock()
				all = append(all, mine...)
				mu.Unlock()
			}()
			for {
				id := slugid.New().String()
				for _, call := range []struct {
					verb, path string
					body       any
				}{{"PUT", "/task/" + id, d.definition()}, {"GET", "/task/" + id + "/status", nil}} {
					select {
					case <-stop:
						return
					case <-time.After(2 * time.Millisecond): // a deployment that has some room
					}
					began := time.Now()
					d.send(root, call.verb, call.path, call.body).want(200)
					mine = append(mine, span{call.verb, began, time.Now()})
				}
			}
		})
	}
	during()
	close(stop)
	clients.Wait()
	return all
}

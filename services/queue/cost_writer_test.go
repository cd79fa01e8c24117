package queue

import (
	"testing"

	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// BenchmarkWriter measures what the writer, whom all callers share, does for
// 64 tasks of one transaction, with the commit.
func BenchmarkWriter(b *testing.B) {
	const n = 64
	d := deploy(b)
	body := d.body()
	write := func(fn func(tx *store.Tx) error) {
		if err := d.store.Write(b.Context(), fn); err != nil {
			b.Fatal(err)
		}
	}
	var calls [n]*creations
	var resolutions [n]*resolution
	create := func() {
		write(func(tx *store.Tx) error { return d.queue.createBatch(tx, calls[:]) })
	}
	prepare := func() {
		for i := range calls {
			calls[i] = alone(d.creation(body, slugid.ID{}))
			resolutions[i] = &resolution{id: calls[i].items[0].def.id, state: completed, why: reasonCompleted, audit: noAudit}
		}
	}
	claim := func() {
		runs, _ := d.memory().take(testQueue, n)
		write(func(tx *store.Tx) error {
			return d.queue.claimBatch(tx, []*claimItem{{ctx: b.Context(), queue: testQueue, worker: workerName{"wg", "w"}, runs: runs, audit: noAudit}})
		})
	}
	resolve := func() {
		write(func(tx *store.Tx) error { return d.queue.resolveBatch(tx, resolutions[:]) })
	}
	for which, name := range []string{"create", "claim", "resolve"} {
		b.Run(name, func(b *testing.B) {
			var spent int64
			for b.Loop() {
				prepare()
				for i, f := range []func(){create, claim, resolve} {
					before := cpuTime()
					f()
					if i == which {
						spent += (cpuTime() - before).Nanoseconds()
					}
				}
			}
			b.ReportMetric(float64(spent)/1e3/float64(b.N*n), "cpu-µs/task")
		})
	}
}

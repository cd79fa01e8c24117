package queue

import (
	"context"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// pendingRuns is the order in which pending runs are claimed: by priority,
// then by the time at which they became pending, then by the age of the task.
// Transitions tell it what they change, within their transactions.
//
// memoryRuns keeps it in memory, which holds while nobody else writes to the
// database; databaseRuns in a table.
type pendingRuns interface {
	// load is called once, on a snapshot, before anything else.
	load(tx *store.Tx) error
	// follow is called at the first transition of a transaction. Until it
	// commits, c collects what changes.
	follow(tx *store.Tx, c *collected)
	// enter begins a search for up to n runs of a task queue.
	enter(queue string, n int) claimant
	// claimOne runs fn in a transaction that may claim the last run of t, whatever
	// its place; t is as it was read before. If the run is pending and has
	// a concurrency key, admission says whether it may be claimed. A refusal is
	// returned, and nothing was claimed then.
	claimOne(ctx context.Context, t *task, fn func(tx *store.Tx, a admission) (refusal, err error)) error
	// ahead counts the runs that would be claimed before r, up to most; exact is
	// false when there are as many. tx is a snapshot.
	ahead(tx *store.Tx, queue string, r pendingRun, most int) (n int, exact bool, err error)
	// live is the number of live runs of a concurrency key. tx is a snapshot.
	live(tx *store.Tx, key string) (int, error)
	// forget drops what is kept of a task queue whose counter was removed.
	forget(tx *store.Tx, queue string) error
}

// claimant is one caller of claimWork. It is used by one goroutine.
type claimant interface {
	// claim claims runs for a worker, best first, at least one if there are any.
	// If there are none, the caller stands in line from then on.
	claim(ctx context.Context, w workerName, audit func(*store.Tx)) ([]claim, error)
	// woken receives when it is worth calling claim again.
	woken() <-chan struct{}
	// leave ends the search: nothing is kept back for the caller. It may be
	// called more than once.
	leave()
}

// admission says whether a run with a concurrency key may be claimed.
type admission int

const (
	admitted  admission = iota
	full                // its limit is reached
	elsewhere           // somebody else is about to claim it, or has done so
)

// pendingRun is a task whose last run is pending.
type pendingRun struct {
	row       int64 // tasks.id
	scheduled clock.Time
	priority  priority
	limit     *concurrency // nil: none
	hold      *hold        // of one that was taken and has a limit
}

// pendingChange says that a run became pending or changed its priority, or,
// without a queue, that the task's run is pending no more or, if it has a
// limit, live no more. running says, for one with a limit, that it is claimed.
type pendingChange struct {
	pendingRun
	queue   string
	running bool

	// What only the database wants to know.
	of       string     // the task queue, whatever the run is now
	fresh    bool       // it was not pending before
	ended    bool       // the run was live
	deadline clock.Time // of the task
}

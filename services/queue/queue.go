// Package queue is the queue service: it keeps tasks, hands them to workers
// that claim them, follows their runs to the end, and keeps the artifacts they
// leave behind.
//
// What it promises:
//
//   - A state change, its events and its counters are one transaction. What a
//     caller was told survives a crash; what he was not told either happened
//     as a whole or not at all.
//   - A run is claimed by one worker at a time. Runs of a task queue are claimed
//     by priority, then in the order in which they became pending; within one
//     microsecond, in the order in which the tasks were created. A task that
//     was retried goes to the back.
//   - No pending run is out of reach: if a claim fails, or the caller goes
//     away before the claim is committed, the run is put back in front.
//   - Claim expiry and deadlines act when they are due, not on a later sweep.
//   - What has expired is removed half an hour later, in steps that no request
//     waits long for.
//
// How: transitions read the task, decide, and write, inside a transaction that
// the store shares between concurrent callers (see op). The order of pending
// runs (see pendingRuns) is in memory, rebuilt from an index at start, or, where
// several processes share a database, in a small table. Workers that find
// nothing are parked and woken by commits, of other nodes too.
//
// Not here yet: the subscription to worker-manager's messages about workers that
// it removed (what they cause is here, see WorkerGone).
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"taskcluster/client"
	"taskcluster/client/object"
	"taskcluster/internal/blob"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
	"taskcluster/internal/hawk"
	"taskcluster/internal/store"
)

// Config is what a Service needs. Store, Log, Blob and Credentials must be
// given; zero durations and numbers stand for the published defaults.
type Config struct {
	Store       *store.Store // opened with Migrations() and events.Migrations()
	Log         *events.Log
	Blob        blob.Store
	Clock       clock.Clock      // the machine's when nil
	Logger      *slog.Logger     // nothing is logged when nil
	Credentials hawk.Credentials // of the client that issues tasks' temporary credentials, and calls the object service
	// Objects says how to reach the object service; its credentials do not count.
	// Without it artifacts of the type object are refused.
	Objects *client.Config

	ClaimTimeout    time.Duration // how long a claim lasts; 20 minutes
	LongPoll        time.Duration // how long claimWork waits for a task; 20 seconds
	MaxDeadline     time.Duration // how far ahead a deadline may be; 5 days
	MaxDependencies int           // of one task; 10,000, which is also the most that is possible
}

// Service is the queue.
type Service struct {
	store       *store.Store
	log         *events.Log
	blob        blob.Store
	clock       clock.Clock
	logger      *slog.Logger
	credentials hawk.Credentials

	claimTimeout    time.Duration
	longPoll        time.Duration
	maxDeadline     time.Duration
	maxDependencies int
	sets            bool // statements over many rows at once are cheaper than many (see sets.go)
	scopeRoom       scopeRoom
	objects         *object.Client // nil: there is no object service

	creates  *store.Batch[creations]
	bulk     *semaphore.Weighted // bounds the tasks of createTasks that wait for the writer
	reclaims *store.Batch[reclaimItem]
	resolves *store.Batch[resolution]
	sights   *store.Batch[sighting]

	pending  pendingRuns
	follower *follower // nil when no other process shares the store
	shown    *shown
	workers  *workerMemory
	history  *claimHistory

	resolutions resolutions
	timers      *alarm // wakes the loop of claim expiry and deadlines
	releases    *alarm // wakes the loop that releases many dependents
	drain       sync.Once
	stopping    chan struct{} // closed by Drain
}

// New makes the service and rebuilds the order of pending runs.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Log == nil || cfg.Blob == nil || cfg.Credentials.ClientID == "" {
		return nil, errors.New("queue: Store, Log, Blob and Credentials are required")
	}
	s := &Service{
		store: cfg.Store, log: cfg.Log, blob: cfg.Blob, clock: cfg.Clock, logger: cfg.Logger,
		credentials:     cfg.Credentials,
		claimTimeout:    cfg.ClaimTimeout,
		longPoll:        cfg.LongPoll,
		maxDeadline:     cfg.MaxDeadline,
		maxDependencies: cfg.MaxDependencies,
		workers:         newWorkerMemory(),
		timers:          newAlarm(),
		releases:        newAlarm(),
		bulk:            semaphore.NewWeighted(maxBulk),
		stopping:        make(chan struct{}),
	}
	if s.clock == nil {
		s.clock = clock.Real{}
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.history = newClaimHistory(s.clock.Now())
	setDefault(&s.claimTimeout, 20*time.Minute)
	if s.claimTimeout > hawk.MaxLifetime {
		return nil, fmt.Errorf("queue: a claim cannot last longer than temporary credentials, which is %s", hawk.MaxLifetime)
	}
	setDefault(&s.longPoll, 20*time.Second)
	setDefault(&s.maxDeadline, 5*24*time.Hour)
	setDefault(&s.maxDependencies, 10_000)
	var err error
	if s.scopeRoom, err = s.measureScopeRoom(); err != nil {
		return nil, fmt.Errorf("queue: the credentials are of no use: %w", err)
	}
	if s.objects, err = s.newObjects(cfg.Objects); err != nil {
		return nil, fmt.Errorf("queue: the object service: %w", err)
	}
	s.creates = store.NewBatch(s.store, "queue.create", s.createBatch)
	s.reclaims = store.NewBatch(s.store, "queue.reclaim", s.reclaimBatch)
	s.resolves = store.NewBatch(s.store, "queue.resolve", s.resolveBatch)
	s.sights = store.NewBatch(s.store, "queue.seen", s.sightBatch)
	if s.store.Shared() {
		s.sets, s.follower = true, newFollower(s)
		s.pending, s.shown = newDatabaseRuns(s), newShown(0)
	} else {
		s.pending, s.shown = newMemoryRuns(s), newShown(shownBytes)
	}
	s.store.Watch(quarantineTopic, s.heardQuarantine)
	if err := s.load(context.Background()); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return s, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// load fills memory with what is pending and who is quarantined.
func (s *Service) load(ctx context.Context) error {
	return s.store.Read(ctx, func(tx *store.Tx) error {
		if err := s.pending.load(tx); err != nil {
			return err
		}
		return s.workers.load(tx, s.clock.Now())
	})
}

// Package purgecache is the service by which somebody asks the workers of a
// pool to drop a cache: it keeps requests of the form "drop what is named so and
// was made before then", and workers look at them before each task.
//
// What it promises:
//
//   - A request that was accepted is in the next answer to every worker that asks
//     this process, and within CacheTime in those of other processes.
//   - A request and its audit row are one transaction.
//   - A worker that asks costs no statement while nothing changed.
//   - Memory and answers are bounded: MaxCacheName bounds a name, MaxPerPool the
//     requests of a pool, and what is kept in memory has a budget.
package purgecache

import (
	"errors"
	"log/slog"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/store"
	"taskcluster/services/purgecache/schemas"
)

const (
	// CacheTime is for how long a process answers from memory without looking
	// whether another process stored something.
	CacheTime = 10 * time.Second
	// Lifetime is when a request expires, counted from its last repetition. It
	// stays in answers until it is removed, within two hours.
	Lifetime = 24 * time.Hour
	// MaxCacheName is the greatest length of a cache's name in bytes: an index of
	// PostgreSQL holds no longer keys.
	MaxCacheName = 2500
	// MaxPerPool is the greatest number of caches of one pool that are to be
	// dropped at a time. Each worker of the pool gets all of them at once.
	MaxPerPool = 10_000
)

// Config is what the service is built from.
type Config struct {
	Store *store.Store // opened with Migrations
	Clock clock.Clock  // the machine's clock when nil
	// Logger is where failures of background work go; nothing is logged when nil.
	Logger *slog.Logger
}

// poolTopic is signalled with the worker pool whose requests changed.
const poolTopic = "purge-cache/pool"

// Service is the purge-cache service.
type Service struct {
	store  *store.Store
	clock  clock.Clock
	logger *slog.Logger

	cache *cache
	max   int // MaxPerPool; smaller in tests
}

// New builds the service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("purgecache: a store is needed")
	}
	s := &Service{store: cfg.Store, clock: cfg.Clock, logger: cfg.Logger, max: MaxPerPool}
	if s.clock == nil {
		s.clock = clock.Real{}
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.cache = newCache(s.clock, maxCachedBytes)
	s.store.Watch(poolTopic, func(signal store.Signal) {
		if signal.Lost {
			s.cache.clear()
		} else {
			s.cache.forget(signal.Detail)
		}
	})
	return s, nil
}

// Start begins the background work: removing requests that have expired.
func (s *Service) Start(g *lifecycle.Group) { g.Go("purge-cache: expire", s.expiry().Run) }

// API is the service as data.
func (s *Service) API() api.Service {
	return api.Service{
		Name:    "purge-cache",
		Version: "v1",
		Title:   "Purge Cache API",
		Description: "Keeps requests to drop caches of workers: whoever finds that a cache is bad names it and the worker pool; " +
			"workers ask before each task, and drop caches that were made before the request.",
		Methods: s.methods(),
		Schemas: schemas.Source(),
	}
}

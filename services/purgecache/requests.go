package purgecache

import (
	"context"
	"encoding/json"
	"strings"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

func (s *Service) purgeCache(c *api.Call, in *PurgeCacheRequest) (any, error) {
	pool := c.Param("workerPoolId")
	if err := c.Authorize(map[string]any{"workerPoolId": pool, "cacheName": in.CacheName}); err != nil {
		return nil, err
	}
	if n := len(in.CacheName); n > MaxCacheName {
		return nil, tcerr.New(tcerr.InputError, "The cacheName has %d bytes; %d are allowed", n, MaxCacheName)
	}
	return nil, s.store.Write(c.Context, func(tx *store.Tx) error {
		ok, err := record(tx, pool, in.CacheName, tx.Now(), s.max)
		if err != nil {
			return err
		}
		if !ok {
			return tcerr.New(tcerr.RequestConflict, "Worker pool %s has %d caches to drop already, and no more are allowed. "+
				"Name caches that are to be dropped again, or wait: a request is removed a day after it was made", pool, s.max)
		}
		c.Audit(tx)
		tx.Signal(poolTopic, pool)
		return nil
	})
}

// purgeRequests is asked before each task that runs anywhere: it answers from
// memory.
func (s *Service) purgeRequests(c *api.Call) (any, error) {
	var since clock.Time
	if text, ok := c.Query("since"); ok {
		since, _ = parseDate(text)
	}
	entries, err := s.entries(c.Context, c.Param("workerPoolId"))
	if err != nil {
		return nil, err
	}
	return api.JSON(appendEntries(nil, entries, since)), nil
}

// entries are the requests for a pool, from memory or else from the database.
func (s *Service) entries(ctx context.Context, pool string) ([]entry, error) {
	if entries, ok := s.cache.get(pool); ok {
		return entries, nil
	}
	epoch := s.cache.now()
	var stored []request
	err := s.store.ReadOne(ctx, func(tx *store.Tx) (err error) {
		stored, err = readPool(tx, pool)
		return err
	})
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(stored))
	for i, r := range stored {
		if entries[i], err = r.entry(); err != nil {
			return nil, err
		}
	}
	s.cache.put(pool, entries, epoch)
	return entries, nil
}

// entry is a request as it is published.
type entry struct {
	before clock.Time
	json   []byte
}

func (r request) entry() (entry, error) {
	provisioner, worker, _ := strings.Cut(r.pool, "/")
	text, err := json.Marshal(PurgeCacheRequestsItem{
		ProvisionerID: provisioner, WorkerType: worker, CacheName: r.name, Before: r.before,
	})
	return entry{r.before, text}, err
}

// appendEntries writes the answer with the entries since a time, inclusive.
func appendEntries(b []byte, entries []entry, since clock.Time) []byte {
	b = append(b, `{"requests":[`...)
	first := true
	for _, e := range entries {
		if e.before < since {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, e.json...)
	}
	return append(b, `]}`...)
}

func (s *Service) allPurgeRequests(c *api.Call) (any, error) {
	limit, token := c.Page()
	pool, name, err := openToken(token)
	if err != nil {
		return nil, err
	}
	reply := AllPurgeCacheRequestList{Requests: []PurgeCacheRequestsItem{}}
	if limit == 0 {
		return reply, nil
	}
	var page []request
	err = s.store.Read(c.Context, func(tx *store.Tx) (err error) {
		page, err = readPage(tx, pool, name, limit+1)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(page) > limit {
		page = page[:limit]
		reply.ContinuationToken = makeToken(page[limit-1])
	}
	for _, r := range page {
		provisioner, worker, _ := strings.Cut(r.pool, "/")
		reply.Requests = append(reply.Requests, PurgeCacheRequestsItem{
			ProvisionerID: provisioner, WorkerType: worker, CacheName: r.name, Before: r.before,
		})
	}
	return reply, nil
}

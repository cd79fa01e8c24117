package purgecache

import (
	"net/http"

	"taskcluster/internal/api"
	"taskcluster/internal/scopes"
	"taskcluster/internal/store"
)

const category = "Purge-Cache Service"

// methods are the service's methods, in the order of the published reference,
// which is also that of matching: "/purge-cache/list" is no worker pool.
func (s *Service) methods() []api.Method {
	pool := map[string]*api.Pattern{"workerPoolId": api.Regexp(`^[A-Za-z0-9_-]{1,38}\/[A-Za-z0-9_-]{1,38}$`)}
	return []api.Method{
		{
			Name: "purgeCache", Method: http.MethodPost, Route: "/purge-cache/{*workerPoolId}", Category: category, Stability: api.Stable,
			Title: "Purge Worker Cache",
			Description: "Asks the workers of a pool to drop their caches of this name, as far as these were made before now. " +
				"They do so when they ask the next time. Repeating the call moves the time forward.\n\n" +
				"A request is kept for a day, in which a worker that is busy with one task has surely asked. " +
				"A name has at most 2,500 bytes, and a pool at most 10,000 requests at a time.",
			Params: pool,
			Input:  "v1/purge-cache-request.json#",
			Scopes: scopes.MustParseTemplate(`"purge-cache:<workerPoolId>:<cacheName>"`),
			Handle: api.Handle(s.purgeCache),
		},
		{
			Name: "allPurgeRequests", Method: http.MethodGet, Route: "/purge-cache/list", Category: category, Stability: api.Stable,
			Title:       "All Open Purge Requests",
			Description: "Lists the requests for all worker pools, in the order of the pools' ids and the caches' names.",
			Query:       api.Paging(),
			Output:      "v1/all-purge-cache-request-list.json#",
			Scopes:      scopes.MustParseTemplate(`"purge-cache:all-purge-requests"`),
			Handle:      s.allPurgeRequests,
		},
		{
			Name: "purgeRequests", Method: http.MethodGet, Route: "/purge-cache/{*workerPoolId}", Category: category, Stability: api.Stable,
			Title: "Open Purge Requests for a worker pool",
			Description: "Answers with the requests for one worker pool. It is meant for workers, which drop each cache that is " +
				"older than the `before` of a request with its name.\n\n" +
				"`since` leaves out requests with an earlier `before`: give the time at which you asked last. It is read as " +
				"JavaScript's `Date.parse` reads it: ISO 8601, what `Date.toString` writes, and their like. Without a zone it is UTC.",
			Params: pool,
			Query:  []api.QueryParam{{Name: "since", Pattern: api.Check("Invalid Date", validSince)}},
			Output: "v1/purge-cache-request-list.json#",
			Scopes: scopes.MustParseTemplate(`"purge-cache:purge-requests::<workerPoolId>"`),
			Handle: s.purgeRequests,
		},
		api.HeartbeatMethod(s.heartbeat),
	}
}

// heartbeat succeeds when the database answers.
func (s *Service) heartbeat(c *api.Call) error {
	return s.store.Read(c.Context, func(tx *store.Tx) error {
		var one int64
		return tx.Row(stmt.ping).Scan(&one)
	})
}

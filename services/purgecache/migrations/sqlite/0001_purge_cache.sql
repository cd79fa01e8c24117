CREATE TABLE purge_requests (
  id             INTEGER PRIMARY KEY, -- the order in which caches were first named
  worker_pool_id TEXT NOT NULL,
  cache_name     TEXT NOT NULL,
  before_time    INTEGER NOT NULL,
  expires        INTEGER NOT NULL
);

CREATE UNIQUE INDEX purge_requests_cache ON purge_requests (worker_pool_id, cache_name);
CREATE INDEX purge_requests_expires ON purge_requests (expires);

CREATE TABLE purge_requests (
  id             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order in which caches were first named
  worker_pool_id TEXT COLLATE "C" NOT NULL,
  cache_name     TEXT COLLATE "C" NOT NULL,
  before_time    BIGINT NOT NULL,
  expires        BIGINT NOT NULL
);

CREATE UNIQUE INDEX purge_requests_cache ON purge_requests (worker_pool_id, cache_name);
CREATE INDEX purge_requests_expires ON purge_requests (expires);

-- The order of pending runs. Every transaction that makes a run pending, or ends
-- that, changes this table with the task. Programs that do not know the table
-- never ran on PostgreSQL together with one that does (none could be told to use
-- PostgreSQL), so filling it once, here, is enough.
CREATE TABLE pending_runs (
  task              BIGINT PRIMARY KEY,        -- tasks.id
  task_queue_id     TEXT COLLATE "C" NOT NULL,
  rank              BIGINT NOT NULL,           -- minus the priority, so that the best is first
  scheduled         BIGINT NOT NULL,
  deadline          BIGINT NOT NULL,
  concurrency_key   TEXT COLLATE "C" NOT NULL, -- empty, and the limit 0, when the task has none
  concurrency_limit BIGINT NOT NULL,
  blocked           BIGINT NOT NULL            -- 0: it stands in the order. Of the runs of one key, limit
                                               -- and task queue that is the first, if the limit admits it
) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX pending_runs_order ON pending_runs (task_queue_id, rank, scheduled, task) WHERE blocked = 0;
CREATE INDEX pending_runs_class ON pending_runs (concurrency_key, concurrency_limit, task_queue_id, rank, scheduled, task)
  WHERE concurrency_limit > 0;
CREATE INDEX pending_runs_first ON pending_runs (concurrency_key, concurrency_limit, task_queue_id)
  WHERE concurrency_limit > 0 AND blocked = 0;

-- Where to begin in that order: no run of the task queue and rank that stands in
-- it comes before (scheduled, task). Claims begin here, and not at entries of
-- the index that earlier claims left behind for the vacuum.
CREATE TABLE pending_heads (
  task_queue_id TEXT COLLATE "C" NOT NULL,
  rank          BIGINT NOT NULL,
  scheduled     BIGINT NOT NULL,
  task          BIGINT NOT NULL,
  PRIMARY KEY (task_queue_id, rank)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- How many runs of a concurrency key are live; exact. No row: none.
CREATE TABLE concurrency_keys (
  concurrency_key TEXT COLLATE "C" PRIMARY KEY,
  live            BIGINT NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

INSERT INTO concurrency_keys (concurrency_key, live)
  SELECT concurrency_key, COUNT(*) FROM tasks WHERE state = 2 AND concurrency_limit > 0 GROUP BY concurrency_key;
INSERT INTO pending_runs (task, task_queue_id, rank, scheduled, deadline, concurrency_key, concurrency_limit, blocked)
  SELECT id, task_queue_id, -priority, scheduled, deadline, concurrency_key, concurrency_limit,
    CASE WHEN concurrency_limit = 0 OR place = 1 AND live < concurrency_limit THEN 0 ELSE 1 END
  FROM (SELECT t.*, COALESCE(k.live, 0) AS live, ROW_NUMBER() OVER (
        PARTITION BY t.concurrency_key, t.concurrency_limit, t.task_queue_id ORDER BY -t.priority, t.scheduled, t.id) AS place
      FROM tasks t LEFT JOIN concurrency_keys k ON k.concurrency_key = t.concurrency_key
      WHERE t.state = 1) AS p;
INSERT INTO pending_heads (task_queue_id, rank, scheduled, task)
  SELECT task_queue_id, rank, MIN(scheduled), 0 FROM pending_runs WHERE blocked = 0 GROUP BY task_queue_id, rank;

-- Rows that change often find room on their page, so that the indexes on what
-- does not change need not change either, and dead ones do not pile up.
ALTER TABLE tasks         SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
ALTER TABLE task_groups   SET (fillfactor = 85);
ALTER TABLE queue_counts  SET (fillfactor = 50, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE queue_workers SET (fillfactor = 70, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE task_queues   SET (fillfactor = 70);

-- The queue's tables. Times are microseconds since 1970 (0 = not set, but for
-- tasks.due), slugids 16-byte blobs, enumerations the numbers in task.go.

-- What a task is: written once, never updated. The small columns stand before
-- the definition so that reading them does not walk its overflow pages.
CREATE TABLE task_definitions (
  id           INTEGER PRIMARY KEY,  -- = tasks.id
  group_id     BLOB    NOT NULL,     -- slugid of the task group
  scheduler_id TEXT    NOT NULL,
  project_id   TEXT    NOT NULL,
  retries      INTEGER NOT NULL,
  priority_at  INTEGER NOT NULL,     -- where "priority" belongs in definition
  tags         BLOB    NOT NULL,     -- JSON
  routes       BLOB    NOT NULL,     -- JSON
  definition   BLOB    NOT NULL      -- JSON without priority
);

-- How a task stands, its last run inline (run_id -1: none yet).
CREATE TABLE tasks (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: it orders tasks by age
  task_id         BLOB    NOT NULL UNIQUE,
  group_row       INTEGER NOT NULL,             -- task_groups.id
  task_queue_id   TEXT    NOT NULL,
  state           INTEGER NOT NULL,
  priority        INTEGER NOT NULL,
  retries_left    INTEGER NOT NULL,
  unsatisfied     INTEGER NOT NULL,             -- dependencies that still block
  ever_resolved   INTEGER NOT NULL DEFAULT 0,
  has_dependents  INTEGER NOT NULL DEFAULT 0,   -- some task_dependencies.required is this task
  deadline        INTEGER NOT NULL,
  expires         INTEGER NOT NULL,
  due             INTEGER,                      -- earlier of claim expiry and deadline, NULL once resolved
  run_id          INTEGER NOT NULL,
  reason_created  INTEGER NOT NULL DEFAULT 0,
  reason_resolved INTEGER NOT NULL DEFAULT 0,
  scheduled       INTEGER NOT NULL DEFAULT 0,
  started         INTEGER NOT NULL DEFAULT 0,
  worker_group    TEXT    NOT NULL DEFAULT '',
  worker_id       TEXT    NOT NULL DEFAULT '',
  taken_until     INTEGER NOT NULL DEFAULT 0,
  resolved        INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX tasks_pending ON tasks (task_queue_id, scheduled, id) WHERE state = 1;
CREATE INDEX tasks_running ON tasks (task_queue_id, started, id) WHERE state = 2;
CREATE INDEX tasks_due     ON tasks (due) WHERE due IS NOT NULL;
CREATE INDEX tasks_group   ON tasks (group_row, id);
CREATE INDEX tasks_expires ON tasks (expires);

-- Runs before the last one; all of them resolved.
CREATE TABLE past_runs (
  task            INTEGER NOT NULL,
  run_id          INTEGER NOT NULL,
  state           INTEGER NOT NULL,
  reason_created  INTEGER NOT NULL,
  reason_resolved INTEGER NOT NULL,
  scheduled       INTEGER NOT NULL,
  started         INTEGER NOT NULL,
  worker_group    TEXT    NOT NULL,
  worker_id       TEXT    NOT NULL,
  taken_until     INTEGER NOT NULL,
  resolved        INTEGER NOT NULL,
  PRIMARY KEY (task, run_id)
) WITHOUT ROWID;

CREATE TABLE task_groups (
  id           INTEGER PRIMARY KEY,
  group_id     BLOB    NOT NULL UNIQUE,
  scheduler_id TEXT    NOT NULL,
  expires      INTEGER NOT NULL,
  sealed       INTEGER NOT NULL DEFAULT 0,
  total        INTEGER NOT NULL,   -- tasks of the group
  unresolved   INTEGER NOT NULL    -- of these, never resolved
);

CREATE TABLE task_dependencies (
  required  INTEGER NOT NULL,      -- tasks.id
  dependent INTEGER NOT NULL,      -- tasks.id
  requires  INTEGER NOT NULL,      -- 0 all-completed, 1 all-resolved
  satisfied INTEGER NOT NULL,
  expires   INTEGER NOT NULL,
  PRIMARY KEY (required, dependent)
) WITHOUT ROWID;
CREATE INDEX task_dependencies_expires ON task_dependencies (expires);

-- Resolved tasks with more dependents than one transaction releases.
CREATE TABLE dependency_releases (
  id        INTEGER PRIMARY KEY,
  required  INTEGER NOT NULL,      -- tasks.id
  completed INTEGER NOT NULL,      -- resolved as completed
  after     INTEGER NOT NULL       -- dependents up to this one are done
);

-- How many tasks of a task queue are pending and running; exact.
CREATE TABLE queue_counts (
  task_queue_id TEXT    PRIMARY KEY,
  pending       INTEGER NOT NULL,
  running       INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE task_queues (
  task_queue_id    TEXT    PRIMARY KEY,
  expires          INTEGER NOT NULL,
  last_date_active INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE queue_workers (
  task_queue_id      TEXT    NOT NULL,
  worker_group       TEXT    NOT NULL,
  worker_id          TEXT    NOT NULL,
  recent_tasks       TEXT    NOT NULL,  -- up to 20 times 22 characters taskId, 2 digits runId
  quarantine_until   INTEGER NOT NULL,
  quarantine_details TEXT    NOT NULL,  -- JSON array
  expires            INTEGER NOT NULL,
  first_claim        INTEGER NOT NULL,
  last_date_active   INTEGER NOT NULL,
  PRIMARY KEY (task_queue_id, worker_group, worker_id)
) WITHOUT ROWID;

CREATE TABLE artifacts (
  id             INTEGER PRIMARY KEY,
  task_id        BLOB    NOT NULL,
  run_id         INTEGER NOT NULL,
  name           TEXT    NOT NULL,
  storage_type   TEXT    NOT NULL,
  content_type   TEXT    NOT NULL,
  content_length INTEGER NOT NULL,     -- -1: not told
  expires        INTEGER NOT NULL,
  details        TEXT    NOT NULL,     -- url, name of the target, or reason
  message        TEXT    NOT NULL,     -- of an error
  UNIQUE (task_id, run_id, name)
);
CREATE INDEX artifacts_expires ON artifacts (expires);

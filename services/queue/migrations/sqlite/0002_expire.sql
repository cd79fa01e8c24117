-- What expires is found by an index. In artifacts, an expires of 0 says that the
-- artifact is being removed.
CREATE INDEX task_groups_expires   ON task_groups (expires);
CREATE INDEX task_queues_expires   ON task_queues (expires);
CREATE INDEX queue_workers_expires ON queue_workers (expires);

package queue

const workerColumns = `task_queue_id, worker_group, worker_id, recent_tasks, quarantine_until, quarantine_details, expires, first_claim, last_date_active`

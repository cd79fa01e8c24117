package queue

import "taskcluster/internal/events"

// exchangePrefix is what the names of the queue's exchanges start with.
const exchangePrefix = "exchange/taskcluster-queue/v1/"

// exchanges are the messages that the queue publishes, in reference order.
func exchanges() []events.Exchange {
	return []events.Exchange{
		{
			Name: "task-defined", Method: "taskDefined", Title: "Task Defined",
			Description: "A task was created, or the same task was created again. The status shows it as it was before it was scheduled.",
			Schema:      "v1/task-defined-message.json#", Key: taskKey(false, false),
		},
		{
			Name: "task-pending", Method: "taskPending", Title: "Task Pending",
			Description: "A run of a task waits for a worker: the task was scheduled, its dependencies were satisfied, or it is run again.",
			Schema:      "v1/task-pending-message.json#", Key: taskKey(true, false),
		},
		{
			Name: "task-running", Method: "taskRunning", Title: "Task Running",
			Description: "A worker claimed a run. Extending a claim is not announced.",
			Schema:      "v1/task-running-message.json#", Key: taskKey(true, true),
		},
		{
			Name: "artifact-created", Method: "artifactCreated", Title: "Artifact Created",
			Description: "A run has a new artifact. Artifacts of the type s3 are not announced.",
			Schema:      "v1/artifact-created-message.json#", Key: taskKey(true, true),
		},
		{
			Name: "task-completed", Method: "taskCompleted", Title: "Task Completed",
			Description: "A run was reported as successful.",
			Schema:      "v1/task-completed-message.json#", Key: taskKey(true, true),
		},
		{
			Name: "task-failed", Method: "taskFailed", Title: "Task Failed",
			Description: "A run was reported as failed. It is not run again by itself.",
			Schema:      "v1/task-failed-message.json#", Key: taskKey(false, false),
		},
		{
			Name: "task-exception", Method: "taskException", Title: "Task Exception",
			Description: "A run ended without a verdict: it was canceled, its claim expired, its deadline passed, or the worker gave up. When it is run again, status.state is already pending and a task-pending message follows.",
			Schema:      "v1/task-exception-message.json#", Key: taskKey(false, false),
		},
		{
			Name: "task-group-resolved", Method: "taskGroupResolved", Title: "Task Group Resolved",
			Description: "Every task of a group has been resolved at least once. This may be said again, and tasks may still be added to a group that is not sealed.",
			Schema:      "v1/task-group-changed-message.json#", Key: groupKey(),
		},
		{
			Name: "task-group-sealed", Method: "taskGroupSealed", Title: "Task Group Sealed",
			Description: "A group accepts no more tasks.",
			Schema:      "v1/task-group-changed-message.json#", Key: groupKey(),
		},
		{
			Name: "task-priority-changed", Method: "taskPriorityChanged", Title: "Task Priority Changed",
			Description: "A task has a new priority.",
			Schema:      "v1/task-priority-changed-message.json#", Key: taskKey(false, false),
		},
		{
			Name: "task-group-priority-changed", Method: "taskGroupPriorityChanged", Title: "Task Group Priority Changed",
			Description: "The tasks of a group have a new priority.",
			Schema:      "v1/task-group-priority-changed-message.json#", Key: groupKey(),
		},
	}
}

func taskKey(runRequired, workerRequired bool) []events.KeyPart {
	return []events.KeyPart{
		keyKind(),
		{Name: "taskId", Summary: "the task", Required: true, MaxSize: 22},
		{Name: "runId", Summary: "the run that the message is about, or _", Required: runRequired, MaxSize: 3},
		{Name: "workerGroup", Summary: "the group of the worker that claimed the run, or _", Required: workerRequired, MaxSize: 38},
		{Name: "workerId", Summary: "the worker that claimed the run, or _", Required: workerRequired, MaxSize: 38},
		{Name: "provisionerId", Summary: "first part of the task's taskQueueId", Required: true, MaxSize: 38},
		{Name: "workerType", Summary: "second part of the task's taskQueueId", Required: true, MaxSize: 38},
		{Name: "schedulerId", Summary: "who scheduled the task", Required: true, MaxSize: 38},
		{Name: "taskGroupId", Summary: "the task's group", Required: true, MaxSize: 22},
		reserved(),
	}
}

func groupKey() []events.KeyPart {
	return []events.KeyPart{
		keyKind(),
		{Name: "taskGroupId", Summary: "the group", Required: true, MaxSize: 22},
		{Name: "schedulerId", Summary: "who schedules the tasks of the group", Required: true, MaxSize: 38},
		reserved(),
	}
}

func keyKind() events.KeyPart {
	return events.KeyPart{Name: "routingKeyKind", Constant: "primary", Required: true, MaxSize: 7,
		Summary: "tells this routing key from the routes of tasks, which begin with route"}
}

func reserved() events.KeyPart {
	return events.KeyPart{Name: "reserved", MultipleWords: true, MaxSize: 1,
		Summary: "nothing yet; match it with # so that patterns outlive additions"}
}

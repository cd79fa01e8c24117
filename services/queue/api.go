package queue

import (
	"net/http"

	"taskcluster/internal/api"
	"taskcluster/internal/scopes"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/services/queue/schemas"
)

// API is the queue's published API.
func (s *Service) API() api.Service {
	var methods []api.Method
	for _, part := range [][]api.Method{
		s.taskMethods(), s.workMethods(), s.artifactMethods(), s.metadataMethods(), s.addedMethods(),
	} {
		methods = append(methods, part...)
	}
	return api.Service{
		Name:    "queue",
		Version: "v1",
		Title:   "Queue Service",
		Description: "The queue keeps tasks from their creation to their expiration. Schedulers create tasks and " +
			"depend them on each other; workers claim them, run them, and report how each run ended; everybody who may " +
			"reads their status and the artifacts they left. A task is run at least once at a time by one worker, " +
			"again when a worker is lost, and not after its deadline.",
		Methods:   append(methods, api.HeartbeatMethod(s.heartbeat)),
		Exchanges: exchanges(),
		Schemas:   schemas.Source(),
	}
}

// heartbeat fails when the database cannot be read.
func (s *Service) heartbeat(c *api.Call) error {
	_, err := s.readQueue(c, "heartbeat/heartbeat")
	if err == store.ErrNoRows {
		return nil
	}
	return err
}

// The patterns of URL parameters.
var (
	slugPattern = api.PatternFunc(slugid.Pattern, func(v string) bool { _, err := slugid.Parse(v); return err == nil })
	namePattern = api.Regexp(`^[a-zA-Z0-9-_]{1,38}$`)

	taskParam     = map[string]*api.Pattern{"taskId": slugPattern}
	groupParam    = map[string]*api.Pattern{"taskGroupId": slugPattern}
	queueParam    = map[string]*api.Pattern{"taskQueueId": api.Regexp(`^[a-zA-Z0-9-_]{1,38}\/[a-z]([-a-z0-9]{0,36}[a-z0-9])?$`)}
	runParams     = map[string]*api.Pattern{"taskId": slugPattern, "runId": runPattern}
	runPattern    = api.Regexp(`^[1-9]*[0-9]+$`)
	artifactName  = api.Regexp(`^[\x20-\x7e]+$`)
	artifactParam = map[string]*api.Pattern{"taskId": slugPattern, "runId": runPattern, "name": artifactName}
	latestParam   = map[string]*api.Pattern{"taskId": slugPattern, "name": artifactName}
)

func scope(template string) scopes.Template { return scopes.MustParseTemplate(template) }

// createScopes are what it takes to create a task.
var createScopes = scope(`{"AllOf":[
	{"for":"scope","in":"scopes","each":"<scope>"},
	{"for":"route","in":"routes","each":"queue:route:<route>"},
	"queue:create-task:project:<projectId>",
	"queue:scheduler-id:<schedulerId>",
	{"AnyOf":[{"for":"priority","in":"priorities","each":"queue:create-task:<priority>:<provisionerId>/<workerType>"}]}]}`)

// schedulerScopes are the three ways to be allowed to change a task: by its
// name, by its project, and the way of old.
func schedulerScopes(verb string) scopes.Template {
	return scope(`{"AnyOf":[
		"queue:` + verb + `-task:<schedulerId>/<taskGroupId>/<taskId>",
		"queue:` + verb + `-task-in-project:<projectId>",
		{"AllOf":["queue:` + verb + `-task","assume:scheduler-id:<schedulerId>/<taskGroupId>"]}]}`)
}

const get, put, post = http.MethodGet, http.MethodPut, http.MethodPost

// taskMethods are for those who create tasks and look after them.
func (s *Service) taskMethods() []api.Method {
	return []api.Method{
		{
			Name: "task", Title: "Get Task Definition", Category: "Tasks", Stability: api.Stable,
			Description: "The definition of a task as it was created, with all defaults in place. Only its priority may have changed since.",
			Method:      get, Route: "/task/:taskId", Params: taskParam, Output: "v1/task.json#",
			Scopes: scope(`"queue:get-task:<taskId>"`), Handle: s.task,
		},
		{
			Name: "tasks", Title: "Get Multiple Task Definitions", Category: "Tasks", Stability: api.Experimental,
			Description: "The definitions of many tasks in one call. Tasks that do not exist are left out.",
			Method:      post, Route: "/tasks", Query: api.Paging(), Input: "v1/tasks-request.json#", Output: "v1/tasks-response.json#",
			Scopes: scope(`{"AllOf":[{"for":"taskId","in":"taskIds","each":"queue:get-task:<taskId>"}]}`), Handle: api.Handle(s.tasks),
		},
		{
			Name: "statuses", Title: "Get Multiple Task Statuses", Category: "Tasks", Stability: api.Experimental,
			Description: "The statuses of many tasks in one call. Tasks that do not exist are left out.",
			Method:      post, Route: "/tasks/status", Query: api.Paging(), Input: "v1/tasks-request.json#", Output: "v1/tasks-statuses-response.json#",
			Scopes: scope(`{"AllOf":[{"for":"taskId","in":"taskIds","each":"queue:status:<taskId>"}]}`), Handle: api.Handle(s.statuses),
		},
		{
			Name: "status", Title: "Get Task Status", Category: "Tasks", Stability: api.Stable,
			Description: "The state of a task and of each of its runs.",
			Method:      get, Route: "/task/:taskId/status", Params: taskParam, Output: "v1/task-status-response.json#",
			Scopes: scope(`"queue:status:<taskId>"`), Handle: s.status,
		},
		{
			Name: "listTaskGroup", Title: "List Task Group", Category: "Task Groups", Stability: api.Stable,
			Description: "The tasks of a group, with definition and status, in the order in which they were created. A page may be short; go on until there is no continuationToken.",
			Method:      get, Route: "/task-group/:taskGroupId/list", Params: groupParam, Query: api.Paging(), Output: "v1/list-task-group-response.json#",
			Scopes: scope(`"queue:list-task-group:<taskGroupId>"`), Handle: s.listTaskGroup,
		},
		{
			Name: "cancelTaskGroup", Title: "Cancel Task Group", Category: "Tasks", Stability: api.Experimental,
			Description: "Cancels all tasks of a group that are not resolved. The group must be sealed first, so that none can slip in. Repeating this cancels only what is not resolved by then.",
			Method:      post, Route: "/task-group/:taskGroupId/cancel", Params: groupParam, Output: "v1/cancel-task-group-response.json#",
			Scopes: scope(`"queue:cancel-task-group:<schedulerId>/<taskGroupId>"`), Handle: s.cancelTaskGroup,
		},
		{
			Name: "getTaskGroup", Title: "Get Task Group", Category: "Task Groups", Stability: api.Stable,
			Description: "Who schedules a group, when it expires, and whether it was sealed.",
			Method:      get, Route: "/task-group/:taskGroupId", Params: groupParam, Output: "v1/task-group-response.json#",
			Scopes: scope(`"queue:list-task-group:<taskGroupId>"`), Handle: s.getTaskGroup,
		},
		{
			Name: "sealTaskGroup", Title: "Seal Task Group", Category: "Task Groups", Stability: api.Experimental,
			Description: "Closes a group to new tasks for good. Sealing it again changes nothing.",
			Method:      post, Route: "/task-group/:taskGroupId/seal", Params: groupParam, Output: "v1/task-group-response.json#",
			Scopes: scope(`"queue:seal-task-group:<schedulerId>/<taskGroupId>"`), Handle: s.sealTaskGroup,
		},
		{
			Name: "listDependentTasks", Title: "List Dependent Tasks", Category: "Tasks", Stability: api.Stable,
			Description: "The tasks that depend on this one, whether or not the dependency is satisfied by now, in the order in which they were created.",
			Method:      get, Route: "/task/:taskId/dependents", Params: taskParam, Query: api.Paging(), Output: "v1/list-dependent-tasks-response.json#",
			Scopes: scope(`"queue:list-dependent-tasks:<taskId>"`), Handle: s.listDependentTasks,
		},
		{
			Name: "createTask", Title: "Create New Task", Category: "Tasks", Stability: api.Stable,
			Description: "Creates a task. It becomes pending at once, or when what it depends on is resolved as `requires` demands. " +
				"The caller chooses the taskId, and may repeat the call with the same definition when it does not know whether it " +
				"succeeded. The caller must have the task's scopes, those for its routes, project and scheduler, and that for its " +
				"task queue at its priority or a higher one.",
			Method: put, Route: "/task/:taskId", Params: taskParam, Input: "v1/create-task-request.json#", Output: "v1/task-status-response.json#",
			Scopes: createScopes, ScopeParams: creationParams, Handle: s.createTask,
		},
		{
			Name: "scheduleTask", Title: "Schedule Defined Task", Category: "Tasks", Stability: api.Stable,
			Description: "Makes a task pending although its dependencies are not satisfied. A task that was scheduled before is left as it is.",
			Method:      post, Route: "/task/:taskId/schedule", Params: taskParam, Output: "v1/task-status-response.json#",
			Scopes: schedulerScopes("schedule"), Handle: s.byScheduler("scheduled past its deadline at", (*op).schedule),
		},
		{
			Name: "rerunTask", Title: "Rerun a Resolved Task", Category: "Tasks", Stability: api.Stable,
			Description: "Gives a resolved or unscheduled task another run, and its retries back. A task that is pending or running is left as it is. A task may have 50 runs.",
			Method:      post, Route: "/task/:taskId/rerun", Params: taskParam, Output: "v1/task-status-response.json#",
			Scopes: schedulerScopes("rerun"), Handle: s.byScheduler("rescheduled past its deadline of", (*op).rerun),
		},
		{
			Name: "cancelTask", Title: "Cancel Task", Category: "Tasks", Stability: api.Stable,
			Description: "Resolves a task that is not resolved as exception/canceled. A worker that runs it hears of it when it reclaims or resolves. A task that is resolved stays as it is.",
			Method:      post, Route: "/task/:taskId/cancel", Params: taskParam, Output: "v1/task-status-response.json#",
			Scopes: schedulerScopes("cancel"), Handle: s.byScheduler("canceled past its deadline of", (*op).cancel),
		},
		{
			Name: "changeTaskPriority", Title: "Change Task Priority", Category: "Tasks", Stability: api.Experimental,
			Description: "Changes the priority of a task that was never resolved. A pending run moves in its queue at once; a running one goes on.",
			Method:      post, Route: "/task/:taskId/priority", Params: taskParam, Input: "v1/change-task-priority-request.json#", Output: "v1/task-status-response.json#",
			Scopes: scope(`{"AnyOf":["queue:change-task-priority:<taskId>","queue:change-task-priority-in-queue:<taskQueueId>"]}`),
			Handle: api.Handle(s.changeTaskPriority),
		},
		{
			Name: "changeTaskGroupPriority", Title: "Change Task Group Priority", Category: "Task-Groups", Stability: api.Experimental,
			Description: "Changes the priority of all tasks of a group that were never resolved.",
			Method:      post, Route: "/task-group/:taskGroupId/priority", Params: groupParam, Input: "v1/change-task-priority-request.json#", Output: "v1/task-group-priority-change-response.json#",
			Scopes: scope(`"queue:change-task-group-priority:<schedulerId>/<taskGroupId>"`),
			Handle: api.Handle(s.changeTaskGroupPriority),
		},
	}
}

// workMethods are for workers.
func (s *Service) workMethods() []api.Method {
	resolve := scope(`"queue:resolve-task:<taskId>/<runId>"`)
	return []api.Method{
		{
			Name: "claimWork", Title: "Claim Work", Category: "Worker Interface", Stability: api.Stable,
			Description: "Claims pending tasks of a task queue for a worker, best first. When there are none, the answer waits up to " +
				"20 seconds for one; it never waits for more than one. Each claim comes with credentials for its run and is lost " +
				"at `takenUntil` unless it is reclaimed.",
			Method: post, Route: "/claim-work/{*taskQueueId}", Params: queueParam, Input: "v1/claim-work-request.json#", Output: "v1/claim-work-response.json#",
			Scopes: scope(`{"AllOf":["queue:claim-work:<taskQueueId>","queue:worker-id:<workerGroup>/<workerId>"]}`),
			Handle: api.Handle(s.claimWork),
		},
		{
			Name: "claimTask", Title: "Claim Task", Category: "Worker Interface", Stability: api.Deprecated,
			Description: "Claims a run by its name. Use claimWork.",
			Method:      post, Route: "/task/:taskId/runs/:runId/claim", Params: runParams, Input: "v1/task-claim-request.json#", Output: "v1/task-claim-response.json#",
			Scopes: scope(`{"AllOf":["queue:claim-task:<provisionerId>/<workerType>","queue:worker-id:<workerGroup>/<workerId>"]}`),
			Handle: api.Handle(s.claimTask),
		},
		{
			Name: "reclaimTask", Title: "Reclaim task", Category: "Worker Interface", Stability: api.Stable,
			Description: "Extends a claim by its full time from now, and issues new credentials. A refusal says that the run is the worker's no more: it should stop.",
			Method:      post, Route: "/task/:taskId/runs/:runId/reclaim", Params: runParams, Output: "v1/task-reclaim-response.json#",
			Scopes: scope(`"queue:reclaim-task:<taskId>/<runId>"`), Handle: s.reclaimTask,
		},
		{
			Name: "reportCompleted", Title: "Report Run Completed", Category: "Worker Interface", Stability: api.Stable,
			Description: "Resolves a run as completed: the task did what it should.",
			Method:      post, Route: "/task/:taskId/runs/:runId/completed", Params: runParams, Output: "v1/task-status-response.json#",
			Scopes: resolve, Handle: s.reportCompleted,
		},
		{
			Name: "reportFailed", Title: "Report Run Failed", Category: "Worker Interface", Stability: api.Stable,
			Description: "Resolves a run as failed: the task ran and said no. It is not tried again by itself.",
			Method:      post, Route: "/task/:taskId/runs/:runId/failed", Params: runParams, Output: "v1/task-status-response.json#",
			Scopes: resolve, Handle: s.reportFailed,
		},
		{
			Name: "reportException", Title: "Report Task Exception", Category: "Worker Interface", Stability: api.Stable,
			Description: "Resolves a run as an exception: it could not be carried out. After `worker-shutdown` and `intermittent-task` the task is tried again while it has retries left.",
			Method:      post, Route: "/task/:taskId/runs/:runId/exception", Params: runParams, Input: "v1/task-exception-request.json#", Output: "v1/task-status-response.json#",
			Scopes: resolve, Handle: api.Handle(s.reportException),
		},
	}
}

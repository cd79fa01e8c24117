package queue

import "taskcluster/internal/api"

// metadataMethods are about task queues and workers.
func (s *Service) metadataMethods() []api.Method {
	const category = "Worker Metadata"
	provisioner := map[string]*api.Pattern{"provisionerId": namePattern}
	workerType := map[string]*api.Pattern{"provisionerId": namePattern, "workerType": namePattern}
	worker := map[string]*api.Pattern{"provisionerId": namePattern, "workerType": namePattern,
		"workerGroup": namePattern, "workerId": namePattern}
	return []api.Method{
		{
			Name: "listProvisioners", Title: "Get a list of all active provisioners", Category: category, Stability: api.Deprecated,
			Description: "The first parts of the names of all task queues that workers serve. Use listTaskQueues.",
			Method:      get, Route: "/provisioners", Query: api.Paging(), Output: "v1/list-provisioners-response.json#",
			Scopes: scope(`"queue:list-provisioners"`), Handle: s.listProvisioners,
		},
		{
			Name: "getProvisioner", Title: "Get an active provisioner", Category: category, Stability: api.Deprecated,
			Description: "When any task queue of a provisioner was last served.",
			Method:      get, Route: "/provisioners/:provisionerId", Params: provisioner, Output: "v1/provisioner-response.json#",
			Scopes: scope(`"queue:get-provisioner:<provisionerId>"`), Handle: s.getProvisioner,
		},
		{
			Name: "pendingTasks", Title: "Get Number of Pending Tasks", Category: category, Stability: api.Deprecated,
			Description: "How many tasks of a task queue wait for a worker; exact. Use taskQueueCounts.",
			Method:      get, Route: "/pending/{*taskQueueId}", Params: queueParam, Output: "v1/pending-tasks-response.json#",
			Scopes: scope(`"queue:pending-count:<taskQueueId>"`), Handle: s.pendingTasks,
		},
		{
			Name: "taskQueueCounts", Title: "Get Number of Pending and Claimed Tasks", Category: category, Stability: api.Stable,
			Description: "How many tasks of a task queue wait for a worker, and how many workers are at; exact.",
			Method:      get, Route: "/task-queues/{*taskQueueId}/counts", Params: queueParam, Output: "v1/task-queue-counts-response.json#",
			Scopes: scope(`{"AllOf":["queue:pending-count:<taskQueueId>","queue:claimed-count:<taskQueueId>"]}`), Handle: s.taskQueueCounts,
		},
		{
			Name: "listPendingTasks", Title: "List Pending Tasks", Category: category, Stability: api.Experimental,
			Description: "The pending tasks of a task queue, in the order in which they became pending, whatever their priority.",
			Method:      get, Route: "/task-queues/{*taskQueueId}/pending", Params: queueParam, Query: api.Paging(), Output: "v1/list-pending-tasks-response.json#",
			Scopes: scope(`"queue:pending-list:<taskQueueId>"`), Handle: s.listPendingTasks,
		},
		{
			Name: "listClaimedTasks", Title: "List Claimed Tasks", Category: category, Stability: api.Experimental,
			Description: "The running tasks of a task queue and their workers, in the order in which they were claimed.",
			Method:      get, Route: "/task-queues/{*taskQueueId}/claimed", Params: queueParam, Query: api.Paging(), Output: "v1/list-claimed-tasks-response.json#",
			Scopes: scope(`"queue:claimed-list:<taskQueueId>"`), Handle: s.listClaimedTasks,
		},
		{
			Name: "listWorkerTypes", Title: "Get a list of all active worker-types", Category: category, Stability: api.Deprecated,
			Description: "The task queues of a provisioner that workers serve. Use listTaskQueues.",
			Method:      get, Route: "/provisioners/:provisionerId/worker-types", Params: provisioner, Query: api.Paging(), Output: "v1/list-workertypes-response.json#",
			Scopes: scope(`"queue:list-worker-types:<provisionerId>"`), Handle: s.listWorkerTypes,
		},
		{
			Name: "getWorkerType", Title: "Get a worker-type", Category: category, Stability: api.Deprecated,
			Description: "When a task queue was last served. Use getTaskQueue.",
			Method:      get, Route: "/provisioners/:provisionerId/worker-types/:workerType", Params: workerType, Output: "v1/workertype-response.json#",
			Scopes: scope(`"queue:get-worker-type:<provisionerId>/<workerType>"`), Handle: s.getWorkerType,
		},
		{
			Name: "listTaskQueues", Title: "Get a list of all active task queues", Category: category, Stability: api.Stable,
			Description: "The task queues that workers serve, by name. One that no worker asked for lately is not among them, even if it has tasks.",
			Method:      get, Route: "/task-queues", Query: api.Paging(), Output: "v1/list-taskqueues-response.json#",
			Scopes: scope(`"queue:list-task-queues"`), Handle: s.listTaskQueues,
		},
		{
			Name: "getTaskQueue", Title: "Get a task queue", Category: category, Stability: api.Stable,
			Description: "When a task queue was last served. The slash in its name must be written as %2F.",
			Method:      get, Route: "/task-queues/:taskQueueId", Params: queueParam, Output: "v1/taskqueue-response.json#",
			Scopes: scope(`"queue:get-task-queue:<taskQueueId>"`), Handle: s.getTaskQueue,
		},
		{
			Name: "listWorkers", Title: "Get a list of all active workers of a workerType", Category: category, Stability: api.Deprecated,
			Description: "The workers of a task queue that were seen lately or are in quarantine. With `quarantined` only those that are, or are not. A page may be short; go on until there is no continuationToken.",
			Method:      get, Route: "/provisioners/:provisionerId/worker-types/:workerType/workers", Params: workerType,
			Query:  append(api.Paging(), api.QueryParam{Name: "quarantined", Pattern: api.Regexp(`^(true|false)$`)}),
			Output: "v1/list-workers-response.json#",
			Scopes: scope(`"queue:list-workers:<provisionerId>/<workerType>"`), Handle: s.listWorkers,
		},
		{
			Name: "getWorker", Title: "Get a worker-type's worker", Category: category, Stability: api.Deprecated,
			Description: "What is known of a worker, and the last 20 runs that it claimed.",
			Method:      get, Route: "/provisioners/:provisionerId/worker-types/:workerType/workers/:workerGroup/:workerId", Params: worker, Output: "v1/worker-response.json#",
			Scopes: scope(`"queue:get-worker:<provisionerId>/<workerType>/<workerGroup>/<workerId>"`), Handle: s.getWorker,
		},
		{
			Name: "quarantineWorker", Title: "Quarantine a worker", Category: category, Stability: api.Experimental,
			Description: "Holds a worker back from new tasks until the given time; one in the past lets it go. It may finish what it runs.",
			Method:      put, Route: "/provisioners/:provisionerId/worker-types/:workerType/workers/:workerGroup/:workerId", Params: worker,
			Input: "v1/quarantine-worker-request.json#", Output: "v1/worker-response.json#",
			Scopes: scope(`{"AllOf":["queue:quarantine-worker:<provisionerId>/<workerType>/<workerGroup>/<workerId>"]}`), Handle: api.Handle(s.quarantineWorker),
		},
		{
			Name: "declareWorker", Title: "Declare a worker", Category: category, Stability: api.Experimental,
			Description: "Makes a worker and its task queue known until a given time, or longer if they are known longer already.",
			Method:      put, Route: "/provisioners/:provisionerId/worker-types/:workerType/:workerGroup/:workerId", Params: worker,
			Input: "v1/update-worker-request.json#", Output: "v1/worker-response.json#",
			Scopes: scope(`{"AllOf":[{"for":"property","in":"properties","each":"queue:declare-worker:<provisionerId>/<workerType>/<workerGroup>/<workerId>#<property>"}]}`),
			Handle: api.Handle(s.declareWorker),
		},
	}
}

package queue

import "taskcluster/internal/api"

// addedMethods are those that Taskcluster's published API does not have.
func (s *Service) addedMethods() []api.Method {
	return []api.Method{
		{
			Name: "createTasks", Title: "Create Tasks", Category: "Tasks", Stability: api.Experimental,
			Description: "Creates up to 1,000 tasks in one call and one transaction, which is several times faster than as many calls of createTask. " +
				"Each task is checked, authorized and answered by itself, as createTask would: one that is refused does not harm the others, " +
				"and the call succeeds all the same. The scopes are those that each task takes.\n\n" +
				"Tasks may depend on others of the call, wherever these stand in it. One whose dependency could not be created is refused, " +
				"and so are tasks that depend on each other in a circle. Like createTask, the call may be repeated.",
			Method: post, Route: "/tasks/create", Input: "v1/create-tasks-request.json#", Output: "v1/create-tasks-response.json#",
			Scopes: createScopes, ScopeParams: creationParams, Handle: s.createTasks,
		},
		{
			Name: "whyPending", Title: "Why is a Task Pending", Category: "Tasks", Stability: api.Experimental,
			Description: "Says why a task does not run: what it depends on, how many tasks are before it, which workers were seen, " +
				"whether its concurrency limit is reached, and when it may start. The summary says it in words.",
			Method: get, Route: "/task/:taskId/why-pending", Params: taskParam, Output: "v1/why-pending-response.json#",
			Scopes: scope(`"queue:status:<taskId>"`), Handle: s.whyPending,
		},
	}
}

// creationParams derives what the scopes of createTask are made of from a task's
// definition.
func creationParams(params map[string]any) {
	fallback := func(name string, value any) {
		if params[name] == nil {
			params[name] = value
		}
	}
	fallback("schedulerId", "-")
	fallback("projectId", "none")
	if queue, ok := params["taskQueueId"].(string); ok {
		params["provisionerId"], params["workerType"] = splitQueue(queue)
	}
	name, _ := params["priority"].(string)
	p, known := parsePriority(name)
	if !known {
		p = lowest
	}
	fallback("priorities", atLeast(p))
}

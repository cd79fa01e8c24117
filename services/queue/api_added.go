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
			Scopes: createScopes, Handle: s.createTasks,
		},
	}
}

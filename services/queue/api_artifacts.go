package queue

import "taskcluster/internal/api"

// artifactMethods are for what runs leave behind. Routes that end in a name
// stand before those without, which their empty name would match.
func (s *Service) artifactMethods() []api.Method {
	create := scope(`"queue:create-artifact:<taskId>/<runId>"`)
	read := scope(`{"AllOf":[{"for":"name","in":"names","each":"queue:get-artifact:<name>"}]}`)
	list := scope(`"queue:list-artifacts:<taskId>:<runId>"`)
	listLatest := scope(`"queue:list-artifacts:<taskId>"`)
	const category = "Artifacts"
	return []api.Method{
		{
			Name: "createArtifact", Title: "Create Artifact", Category: category, Stability: api.Stable,
			Description: "Adds an artifact to a run, while it runs or shortly after it ended as an exception. For `s3` the answer has a URL " +
				"to PUT the content to, with just that content type; `reference` points to content elsewhere, `link` to " +
				"another artifact of the run, and `error` says why there is none. For `object` the answer names an object, with an " +
				"uploadId and credentials to upload it to the object service; the same call may be repeated, and the artifact is not " +
				"seen until finishArtifact.",
			Method: post, Route: "/task/:taskId/runs/:runId/artifacts/{*name}", Params: artifactParam,
			Input: "v1/post-artifact-request.json#", Output: "v1/post-artifact-response.json#",
			Scopes: create, Handle: api.Handle(s.createArtifact),
		},
		{
			Name: "finishArtifact", Title: "Finish Artifact", Category: category, Stability: api.Stable,
			Description: "Makes an `object` artifact visible, when its upload was finished in the object service. Artifacts of other types need no such call, and are refused.",
			Method:      put, Route: "/task/:taskId/runs/:runId/artifacts/{*name}", Params: artifactParam,
			Input:  "v1/finish-artifact-request.json#",
			Scopes: create, Handle: api.Handle(s.finishArtifact),
		},
		{
			Name: "getArtifact", Title: "Get Artifact Data from Run", Category: category, Stability: api.Stable,
			Description: "Redirects to the content of an artifact; the body has the URL as well. Links are followed, and the scopes of each name on the way are needed. An `error` artifact answers 424 with its reason.",
			Method:      get, Route: "/task/:taskId/runs/:runId/artifacts/{*name}", Params: artifactParam, Output: "v1/get-artifact-response.json#",
			Scopes: read, Handle: ofRun(s.redirect),
		},
		{
			Name: "getLatestArtifact", Title: "Get Artifact Data from Latest Run", Category: category, Stability: api.Stable,
			Description: "Like getArtifact, for the task's last run, even if that has no artifacts.",
			Method:      get, Route: "/task/:taskId/artifacts/{*name}", Params: latestParam, Output: "v1/get-artifact-response.json#",
			Scopes: read, Handle: s.getLatestArtifact,
		},
		{
			Name: "listArtifacts", Title: "Get Artifacts from Run", Category: category, Stability: api.Stable,
			Description: "The artifacts of a run, by name.",
			Method:      get, Route: "/task/:taskId/runs/:runId/artifacts", Params: runParams, Query: api.Paging(), Output: "v1/list-artifacts-response.json#",
			Scopes: list, Handle: ofRun(s.listArtifacts),
		},
		{
			Name: "listLatestArtifacts", Title: "Get Artifacts from Latest Run", Category: category, Stability: api.Stable,
			Description: "The artifacts of the task's last run, by name.",
			Method:      get, Route: "/task/:taskId/artifacts", Params: taskParam, Query: api.Paging(), Output: "v1/list-artifacts-response.json#",
			Scopes: listLatest, Handle: s.ofLatestRun(s.list),
		},
		{
			Name: "artifactInfo", Title: "Get Artifact Information From Run", Category: category, Stability: api.Stable,
			Description: "What is known of an artifact, without its content. Links are not followed.",
			Method:      get, Route: "/task/:taskId/runs/:runId/artifact-info/{*name}", Params: artifactParam, Output: "v1/artifact-response.json#",
			Scopes: list, Handle: ofRun(s.info),
		},
		{
			Name: "latestArtifactInfo", Title: "Get Artifact Information From Latest Run", Category: category, Stability: api.Stable,
			Description: "Like artifactInfo, for the task's last run.",
			Method:      get, Route: "/task/:taskId/artifact-info/{*name}", Params: latestParam, Output: "v1/artifact-response.json#",
			Scopes: listLatest, Handle: s.ofLatestRun(s.info),
		},
		{
			Name: "artifact", Title: "Get Artifact Content From Run", Category: category, Stability: api.Stable,
			Description: "Where the content of an artifact is, as JSON instead of a redirect. Links are followed. An `error` artifact answers with its reason, and success.",
			Method:      get, Route: "/task/:taskId/runs/:runId/artifact-content/{*name}", Params: artifactParam, Output: "v1/artifact-content-response.json#",
			Scopes: read, Handle: ofRun(s.content),
		},
		{
			Name: "latestArtifact", Title: "Get Artifact Content From Latest Run", Category: category, Stability: api.Stable,
			Description: "Like artifact, for the task's last run.",
			Method:      get, Route: "/task/:taskId/artifact-content/{*name}", Params: latestParam, Output: "v1/artifact-content-response.json#",
			Scopes: read, Handle: s.ofLatestRun(s.content),
		},
	}
}

package methods

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"taskcluster/internal/slugid"
	"taskcluster/internal/tcerr"
)

// arguments are values for the arguments of routes, by their published names.
// Methods whose URL alone decides who may call need no more: whether there is
// what they name is looked at later.
var arguments = map[string]string{
	"taskId": "fN1SbArXTPSVFNUvaOlinQ", "taskGroupId": "fN1SbArXTPSVFNUvaOlinQ", "runId": "0", "name": "private/a b",
	"provisionerId": "matrix", "workerType": "some-type", "workerGroup": "wg", "workerId": "wi", "taskQueueId": "matrix/some-type",
	"workerPoolId": "matrix/some-type",
	"clientId":     "matrix/some-client", "roleId": "matrix:some-role", "entityType": "client", "entityId": "matrix/some-client",
	"account": "someaccount", "table": "sometable", "container": "somecontainer", "bucket": "some-bucket", "prefix": "some/prefix/",
	"project": "some-project", "wstAudience": "some-audience", "wstClient": "some-client", "projectId": "-", "serviceAccount": "some@example.com",
	"appName": "some-app", "owner": "some-owner", "namespace": "pulse-matrix",
}

// with is the arguments with some replaced: name, value, name, value, …
func with(changes ...string) map[string]string {
	m := map[string]string{}
	for name, value := range arguments {
		m[name] = value
	}
	for i := 0; i < len(changes); i += 2 {
		m[changes[i]] = changes[i+1]
	}
	return m
}

// fixtures are for methods that are judged by more than their URL: good requests,
// and the values that their scope expressions are to be filled with.
var fixtures = map[string]func(*world) fixture{
	// Streams that may be opened do not end: these name a position from which no
	// stream can go on, which is looked at after the scopes.
	"events.connect": func(*world) fixture { return streamFixture() },
	"events.socket":  func(*world) fixture { return streamFixture() },
	"auth.expandScopes": func(*world) fixture {
		return fixture{url: with(), body: object{"scopes": []string{"a:b", "assume:c:d"}}}
	},
	"auth.explainScopes": func(*world) fixture {
		return fixture{body: object{"service": "queue", "method": "status", "params": object{"taskId": arguments["taskId"]}}}
	},
	"auth.authenticateHawk": func(*world) fixture {
		return fixture{body: object{
			"method": "get", "resource": "/", "host": "localhost", "port": 80, "sourceIp": "127.0.0.1",
			"authorization": `Hawk id="matrix/nobody", ts="1", nonce="n", ext="e30=", mac="m"`,
		}}
	},
	"auth.testAuthenticate": func(*world) fixture {
		return fixture{body: object{"clientScopes": []string{"a:b"}, "requiredScopes": []string{"a:b"}}}
	},
	"auth.createClient": func(*world) fixture {
		return fixture{
			url: with("clientId", "matrix/new-"+slugid.New().String()), values: object{"scopes": []string{"a:b", "c:d"}},
			body: object{"expires": later(), "description": "", "scopes": []string{"a:b", "c:d"}},
		}
	},
	"auth.updateClient": func(w *world) fixture {
		id := "matrix/old-" + slugid.New().String()
		w.client(id, time.Now().Add(time.Hour), "a:b")
		return fixture{
			url: with("clientId", id), values: object{"scopesAdded": []string{"c:d", "e:f"}},
			body: object{"expires": later(), "description": "", "scopes": []string{"a:b", "c:d", "e:f"}},
		}
	},
	"auth.createRole": func(*world) fixture {
		return fixture{
			url: with("roleId", "matrix:new-"+slugid.New().String()), values: object{"scopes": []string{"a:b", "c:d"}},
			body: object{"description": "", "scopes": []string{"a:b", "c:d"}},
		}
	},
	"auth.updateRole": func(w *world) fixture {
		id := "matrix:old-" + slugid.New().String()
		w.must("PUT", "/api/auth/v1/roles/"+id, object{"description": "", "scopes": []string{"a:b"}})
		return fixture{
			url: with("roleId", id), values: object{"scopesAdded": []string{"c:d"}},
			body: object{"description": "", "scopes": []string{"a:b", "c:d"}},
		}
	},

	// This deployment has no accounts of others to give access to.
	"auth.awsS3Credentials":  readOnly,
	"auth.azureTableSAS":     readOnly,
	"auth.azureContainerSAS": readOnly,
	"auth.githubRepoToken": func(*world) fixture {
		return fixture{
			url: with(), values: object{"repoPerms": []string{"some-repo:contents:read", "some-repo:issues:write"}},
			body: object{"repositories": []string{"some-repo"}, "permissions": object{"contents": "read", "issues": "write"}},
			or:   []int{404},
		}
	},

	"pulse.claimNamespace": func(*world) fixture {
		return fixture{url: with(), body: object{"expires": later(), "contact": "me@example.com"}, succeeds: true}
	},
	"pulse.namespace": func(w *world) fixture {
		w.must("POST", "/api/pulse/v1/namespace/"+arguments["namespace"], object{})
		return fixture{url: with(), succeeds: true}
	},

	"queue.tasks":    taskList,
	"queue.statuses": taskList,
	"queue.createTask": func(w *world) fixture {
		f := newTask(w)
		f.url = with("taskId", slugid.New().String())
		return f
	},
	"queue.createTasks": func(w *world) fixture {
		f := newTask(w)
		f.body = object{"tasks": []any{object{"taskId": slugid.New().String(), "task": f.body}}}
		f.verdict = func(a answer) answer {
			var got struct {
				Tasks []struct{ Error *struct{ Code string } }
			}
			if err := json.Unmarshal([]byte(a.body), &got); err != nil || len(got.Tasks) != 1 {
				w.t.Fatalf("createTasks: %v %v", a, err)
			}
			if e := got.Tasks[0].Error; e != nil {
				a.status, a.code = tcerr.Code(e.Code).Status(), e.Code
			}
			return a
		}
		return f
	},
	"queue.scheduleTask": scheduled(nil),
	"queue.cancelTask":   scheduled(nil),
	"queue.rerunTask":    scheduled(nil),
	"queue.cancelTaskGroup": func(w *world) fixture {
		f := scheduled(nil)(w)
		w.must("POST", "/api/queue/v1/task-group/"+f.url["taskGroupId"]+"/seal", nil) // which is asked for first
		return f
	},
	"queue.sealTaskGroup":           scheduled(nil),
	"queue.changeTaskPriority":      scheduled(object{"newPriority": "high"}),
	"queue.changeTaskGroupPriority": scheduled(object{"newPriority": "high"}),
	"queue.claimWork": func(w *world) fixture {
		_, queue := w.task(nil)
		return fixture{
			url: with("taskQueueId", queue), values: object{"workerGroup": "wg", "workerId": "wi"},
			body: object{"workerGroup": "wg", "workerId": "wi", "tasks": 1},
		}
	},
	"queue.claimTask": func(w *world) fixture {
		id, queue := w.task(nil)
		provisioner, worker, _ := strings.Cut(queue, "/")
		return fixture{
			url:    with("taskId", id),
			values: object{"provisionerId": provisioner, "workerType": worker, "workerGroup": "wg", "workerId": "wi"},
			body:   object{"workerGroup": "wg", "workerId": "wi"},
		}
	},
	"queue.reportException": func(w *world) fixture {
		return fixture{url: with("taskId", w.running()), body: object{"reason": "internal-error"}}
	},
	"queue.createArtifact": func(w *world) fixture {
		return fixture{url: with("taskId", w.running()), body: object{
			"storageType": "object", "contentType": "text/plain", "contentLength": 5, "expires": later(),
		}}
	},
	"queue.finishArtifact": func(w *world) fixture {
		id := w.running()
		at := fmt.Sprintf("/api/queue/v1/task/%s/runs/0/artifacts/%s", id, url.PathEscape(arguments["name"]))
		a := w.must("POST", at, object{"storageType": "object", "contentType": "text/plain", "expires": later()})
		var made struct{ UploadID string }
		if err := json.Unmarshal([]byte(a.body), &made); err != nil {
			w.t.Fatal(err)
		}
		return fixture{url: with("taskId", id), body: object{"uploadId": made.UploadID}}
	},
	"queue.quarantineWorker": func(*world) fixture {
		return fixture{url: with(), body: object{"quarantineUntil": later(), "quarantineInfo": "why"}}
	},
	"queue.whyPending": func(w *world) fixture {
		id, _ := w.task(object{"extra": object{"concurrency": object{"key": "some key", "limit": 1}}})
		return fixture{url: with("taskId", id)}
	},
	"queue.getArtifact":       linkedArtifact,
	"queue.getLatestArtifact": linkedArtifact,
	"queue.artifact":          linkedArtifact,
	"queue.latestArtifact":    linkedArtifact,
	"queue.declareWorker": func(*world) fixture {
		return fixture{
			url: with("workerType", "some-type"), values: object{"properties": []string{"expires"}},
			body: object{"expires": later()},
		}
	},

	"object.createUpload": func(*world) fixture {
		return fixture{
			url: with("name", "matrix/"+slugid.New().String()), values: object{"projectId": "some-project"},
			body: object{
				"uploadId": slugid.Nice().String(), "projectId": "some-project", "expires": later(), "hashes": object{"sha256": strings.Repeat("a", 64)},
				"proposedUploadMethods": object{
					"dataInline": object{"contentType": "text/plain", "objectData": "aGVsbG8="},
					"putUrl":     object{"contentType": "text/plain", "contentLength": 5},
				},
			},
		}
	},
	"object.finishUpload": func(w *world) fixture {
		upload := slugid.Nice().String()
		name := "matrix/" + upload
		w.must("PUT", "/api/object/v1/upload/matrix%2F"+upload, object{
			"uploadId": upload, "projectId": "some-project", "expires": later(),
			"proposedUploadMethods": object{"dataInline": object{"contentType": "text/plain", "objectData": "aGVsbG8="}},
		})
		return fixture{
			url: with("name", name), values: object{"projectId": "some-project"},
			body: object{"uploadId": upload, "projectId": "some-project", "hashes": object{}},
		}
	},

	"object.startDownload": func(w *world) fixture {
		return fixture{url: with("name", w.object()), body: object{"acceptDownloadMethods": object{"simple": true, "getUrl": true}}}
	},
	"object.object":   finishedObject,
	"object.download": finishedObject,

	"purge-cache.purgeCache": func(*world) fixture {
		return fixture{url: with(), values: object{"cacheName": "some cache"}, body: object{"cacheName": "some cache"}}
	},
}

// readOnly asks for less than all, which either of two scopes allows.
func readOnly(*world) fixture {
	return fixture{url: with("level", "read-only"), values: object{"levelIsReadOnly": true}, or: []int{404}}
}

// later is an hour from now.
func later() string { return stamp(time.Now().Add(time.Hour)) }

func taskList(w *world) fixture {
	one, _ := w.task(nil)
	two, _ := w.task(nil)
	return fixture{values: object{"taskIds": []string{one, two}}, body: object{"taskIds": []string{one, two}}}
}

// newTask is a task to be created, with all that scopes are needed for.
func newTask(w *world) fixture {
	queue := freshQueue()
	provisioner, worker, _ := strings.Cut(queue, "/")
	return fixture{
		values: object{
			"scopes": []string{"a:b", "c:*"}, "routes": []string{"some.route"}, "projectId": "some/project", "schedulerId": "some-scheduler",
			"priorities": []string{"very-high", "highest"}, "provisionerId": provisioner, "workerType": worker,
		},
		body: w.definition(queue, object{
			"scopes": []string{"a:b", "c:*"}, "routes": []string{"some.route"}, "projectId": "some/project", "schedulerId": "some-scheduler",
			"priority": "very-high", "retries": 3, "requires": "all-resolved", "tags": object{"kind": "test"}, "dependencies": []string{},
			"extra": object{"concurrency": object{"key": "some key", "limit": 2}}, "expires": stamp(time.Now().Add(2 * time.Hour)),
		}),
	}
}

// scheduled is about a task of a scheduler, alone in its group.
func scheduled(body any) func(*world) fixture {
	return func(w *world) fixture {
		id, queue := w.task(object{"schedulerId": "some-scheduler", "projectId": "some/project"})
		return fixture{
			url:    with("taskId", id, "taskGroupId", id),
			values: object{"schedulerId": "some-scheduler", "projectId": "some/project", "taskQueueId": queue},
			body:   body,
		}
	}
}

func linkedArtifact(w *world) fixture {
	id, name, target := w.artifact()
	return fixture{url: with("taskId", id, "name", name), values: object{"names": []string{name, target}}}
}

func finishedObject(w *world) fixture { return fixture{url: with("name", w.object())} }

func streamFixture() fixture {
	bindings := `{"bindings": [{"exchange": "exchange/some", "routingKeyPattern": "#"}, {"exchange": "exchange/other", "routingKeyPattern": "#"}]}`
	return fixture{
		query:  url.Values{"bindings": {bindings}, "after": {"999999999999999999"}}.Encode(),
		values: object{"exchanges": []string{"exchange/some", "exchange/other"}},
		or:     []int{400},
	}
}

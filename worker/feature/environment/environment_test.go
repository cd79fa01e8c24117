package environment

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"taskcluster/client/queue"
	"taskcluster/worker/payload"
	"taskcluster/worker/task"
)

func TestBuild(t *testing.T) {
	run := &task.Run{
		TaskID: "fSU_6Pv_T3KwCsmXxdpGYg", RunID: 2, Dir: "/tasks/x", Definition: queue.Task{TaskGroupID: "group"},
		Payload: &payload.Payload{Env: map[string]string{"A": "payload", "TASK_ID": "forged", "RUN_ID": "2", "PATH": "/p"}},
	}
	env, overridden := Build([]string{"A=worker", "B=worker", "HOME=/root", "=odd"}, run, Settings{RootURL: "http://tc", WorkerLocation: `{"cloud":"x"}`})
	want := []string{
		"A=payload", "B=worker", "HOME=/root", "PATH=/p", "RUN_ID=2", "TASKCLUSTER_ROOT_URL=http://tc",
		`TASKCLUSTER_WORKER_LOCATION={"cloud":"x"}`, "TASK_GROUP_ID=group", "TASK_ID=fSU_6Pv_T3KwCsmXxdpGYg", "TASK_WORKDIR=/tasks/x",
	}
	if d := cmp.Diff(want, env); d != "" {
		t.Error(d)
	}
	if !slices.Equal(overridden, []string{"TASK_ID"}) {
		t.Error(overridden)
	}
}

func TestInherit(t *testing.T) {
	got := Inherit([]string{
		"PATH=/bin", "LANG=C", "TASKCLUSTER_ACCESS_TOKEN=x", "TASKCLUSTER_CERTIFICATE=x", "TASKCLUSTER_ROOT_ACCESS_TOKEN=x",
		"taskcluster_database_url=x", "AWS_SECRET_ACCESS_KEY=x", "PGPASSWORD=x", "GITHUB_TOKEN=x", "SENTRY_DSN=x", "TOKENLESS=kept?",
	})
	if !slices.Equal(got, []string{"PATH=/bin", "LANG=C"}) {
		t.Error(got)
	}
}

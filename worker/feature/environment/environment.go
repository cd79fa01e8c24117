// Package environment makes the variables that a task's commands find.
package environment

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"taskcluster/worker/task"
)

// Settings are what the deployment and the machine contribute.
type Settings struct {
	RootURL        string
	InstanceType   string // optional
	WorkerLocation string // optional: a JSON object
}

// Build returns the environment of a run as "NAME=value": the inherited one,
// over it the payload's, over it what identifies the run. Overridden are the
// payload's variables that had to give way to the last.
//
// TASK_WORKDIR is set by the engine, which knows where the commands are.
func Build(inherited []string, run *task.Run, s Settings) (env, overridden []string) {
	all := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": run.Dir}
	for _, v := range inherited {
		if name, value, ok := strings.Cut(v, "="); ok && name != "" {
			all[name] = value
		}
	}
	maps.Copy(all, run.Payload.Env)
	fixed := map[string]string{
		"TASK_ID":              run.TaskID,
		"RUN_ID":               strconv.Itoa(run.RunID),
		"TASK_WORKDIR":         run.Dir,
		"TASK_GROUP_ID":        run.Definition.TaskGroupID,
		"TASKCLUSTER_ROOT_URL": s.RootURL,
	}
	if s.InstanceType != "" {
		fixed["TASKCLUSTER_INSTANCE_TYPE"] = s.InstanceType
	}
	if s.WorkerLocation != "" {
		fixed["TASKCLUSTER_WORKER_LOCATION"] = s.WorkerLocation
	}
	for name, value := range fixed {
		if given, ok := run.Payload.Env[name]; ok && given != value {
			overridden = append(overridden, name)
		}
		all[name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, name+"="+all[name])
	}
	slices.Sort(overridden)
	return env, overridden
}

// secretive are parts of names of variables that tend to hold secrets.
var secretive = []string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CERTIFICATE", "PRIVATE", "ACCESS_KEY", "API_KEY", "APIKEY", "_DSN", "_AUTH"}

// Inherit drops from the worker's own environment what tasks must not see: all
// settings of Taskcluster, and everything whose name smells of a secret.
func Inherit(own []string) (env []string) {
	for _, v := range own {
		name, _, _ := strings.Cut(v, "=")
		upper := strings.ToUpper(name)
		if strings.HasPrefix(upper, "TASKCLUSTER_") || slices.ContainsFunc(secretive, func(part string) bool { return strings.Contains(upper, part) }) {
			continue
		}
		env = append(env, v)
	}
	return env
}

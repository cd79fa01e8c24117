// Package graph reads task graphs from YAML and turns them into task
// definitions that the queue accepts: identifiers, dates and dependencies are
// filled in.
//
// # The file format
//
// A document is one task, or several under "tasks" by name:
//
//	defaults:                      # for each task of this document (optional)
//	  queue: local/native
//	tasks:
//	  build:
//	    command: make && mkdir -p public && cp app public/
//	    artifacts: {public/app: public/app}
//	    maxRunTime: 10m
//	  test:
//	    needs: [build]             # starts when build has completed
//	    command: |
//	      queue=$TASKCLUSTER_ROOT_URL/api/queue/v1
//	      curl -sSfLO --compressed $queue/task/$TASK_ID_BUILD/artifacts/public/app
//
// A task has either a command (the short form) or a payload:
//
//	command       a string: a script for "sh -e" (a failing line ends it);
//	              a list of strings: a program and its arguments;
//	              a list of such lists: several, one after the other
//	env           environment variables; values are taken as written
//	maxRunTime    seconds, or a span such as "10m"; default 1h
//	artifacts     either a map "artifact name: path", where a path that ends
//	              with / is a directory, or a list as in the worker's payload
//	payload       the whole payload, handed to the worker as it is
//
// and any of
//
//	needs         names of tasks that must be done before
//	dependencies  taskIds outside these files that must be done before
//	requires      all-completed (default) or all-resolved
//	queue         task queue, such as local/native
//	priority      lowest (default) … highest
//	retries       0 to 49, default 5
//	deadline      default "1 day"; a span from now, or a date in RFC 3339
//	expires       default: the queue's, a year after the deadline
//	metadata      name, description, owner, source; each has a default
//	routes, scopes, tags, extra, schedulerId, projectId   as published
//
// A short-form task finds the taskId of each task that it needs in its
// environment: TASK_ID_BUILD for build, TASK_ID_UNIT_TEST for unit-test. In
// payload, extra, env and artifacts, {$taskId: build} stands for build's taskId.
//
// Defaults may give any key but command, payload, needs and artifacts. Maps
// (env, tags, metadata) are joined, the task's own entry wins; env and
// maxRunTime apply to tasks in the short form.
//
// Several documents and files make one graph; names are unique in all of it.
// What is not listed here is refused, with file and line.
package graph

import (
	"slices"
	"strings"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
)

// Limits of the input. A decision task's graph of 20,000 tasks fits well.
const (
	maxSource = 32 << 20  // bytes of one file
	maxNodes  = 4_000_000 // YAML nodes of a graph, with aliases expanded
	maxDepth  = 100       // nesting

	maxProblems = 20 // that an Error lists: enough to work on
)

// Source is the text of one file, with the name that errors give it.
type Source struct {
	Name string
	Text []byte
}

// Options are what a graph takes from its surroundings.
type Options struct {
	Now       time.Time // all dates are counted from it
	GroupID   string    // task group to join; "" makes a new one
	TaskQueue string    // for tasks that give none
	Owner     string    // default of metadata.owner
	Source    string    // default of metadata.source; http(s), ssh or git@
}

// Graph is a set of tasks of one task group.
type Graph struct {
	GroupID string
	Tasks   []*Task // in the order of the files
}

// Task is a task to be created.
type Task struct {
	Name       string
	ID         string
	Needs      []*Task
	Definition queue.CreateTaskRequest
}

// Expand reads sources and returns their graph, or an *Error with everything
// that is wrong with them.
func Expand(sources []Source, o Options) (*Graph, error) {
	r := &reader{options: o, nodes: maxNodes, byName: map[string]*spec{}}
	for _, s := range sources {
		r.source(s)
	}
	if len(r.specs) == 0 && len(r.problems) == 0 {
		r.problems = append(r.problems, "there is no task in the input")
	}
	r.connect()
	if len(r.problems) > 0 {
		return nil, &Error{Problems: r.problems}
	}
	g := r.graph()
	if len(r.problems) > 0 {
		return nil, &Error{Problems: r.problems}
	}
	return g, nil
}

// Error lists what is wrong with the files of a graph.
type Error struct {
	Problems []string // each "file:line: what"
}

func (e *Error) Error() string { return strings.Join(e.Problems, "\n") }

// Levels splits the tasks so that each needs only tasks of earlier levels.
func (g *Graph) Levels() [][]*Task {
	depth := make(map[*Task]int, len(g.Tasks))
	var levels [][]*Task
	for _, t := range g.ordered() {
		d := 0
		for _, n := range t.Needs {
			d = max(d, depth[n]+1)
		}
		depth[t] = d
		if d == len(levels) {
			levels = append(levels, nil)
		}
		levels[d] = append(levels[d], t)
	}
	return levels
}

// ordered returns the tasks with every task behind those that it needs. There
// are no cycles in a Graph. It keeps its own stack: a chain may be very long.
func (g *Graph) ordered() []*Task {
	waiting := make(map[*Task]int, len(g.Tasks))
	dependents := make(map[*Task][]*Task, len(g.Tasks))
	var order []*Task
	for _, t := range g.Tasks {
		waiting[t] = len(t.Needs)
		for _, n := range t.Needs {
			dependents[n] = append(dependents[n], t)
		}
		if len(t.Needs) == 0 {
			order = append(order, t)
		}
	}
	for i := 0; i < len(order); i++ {
		for _, d := range dependents[order[i]] {
			if waiting[d]--; waiting[d] == 0 {
				order = append(order, d)
			}
		}
	}
	return order
}

// graph fills in dates and identifiers. The specs are connected and sound, but
// for values in which a {$taskId: name} may still be wrong.
func (r *reader) graph() *Graph {
	g := &Graph{GroupID: r.options.GroupID}
	if g.GroupID == "" {
		if len(r.specs) == 1 {
			g.GroupID = r.specs[0].id // as the queue does by default
		} else {
			g.GroupID = slugid.Nice().String()
		}
	}
	tasks := make(map[*spec]*Task, len(r.specs))
	for _, s := range r.specs {
		t := &Task{Name: s.name, ID: s.id}
		tasks[s] = t
		g.Tasks = append(g.Tasks, t)
	}
	for i, s := range r.specs {
		t := g.Tasks[i]
		seen := map[string]bool{}
		depend := func(id string) {
			if !seen[id] {
				seen[id] = true
				t.Definition.Dependencies = append(t.Definition.Dependencies, id)
			}
		}
		d := &t.Definition
		for _, n := range s.needed {
			t.Needs = append(t.Needs, tasks[n])
			depend(n.id)
		}
		for _, id := range s.dependencies {
			depend(id)
		}
		d.TaskQueueID = s.queue
		d.SchedulerID, d.ProjectID, d.TaskGroupID = s.schedulerID, s.projectID, g.GroupID
		d.Requires, d.Priority, d.Retries = s.requires, s.priority, s.retries
		d.Routes, d.Scopes, d.Tags = s.routes, s.scopes, s.tags
		d.Created, d.Deadline, d.Expires = client.At(r.options.Now), client.At(s.deadline), client.At(s.expires)
		d.Metadata = queue.TaskMetadata{
			Name:        s.metadata["name"],
			Description: s.metadata["description"],
			Owner:       s.metadata["owner"],
			Source:      s.metadata["source"],
		}
		d.Payload = r.payload(s)
		if s.extra != nil {
			d.Extra = r.object(s, s.extra)
		}
	}
	return g
}

// variable is the name of the environment variable that holds the taskId of
// the task with that name.
func variable(name string) string {
	return "TASK_ID_" + strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z':
			return c - 'a' + 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			return c
		}
		return '_'
	}, name)
}

// connect resolves names, refuses cycles and fills in defaults.
func (r *reader) connect() {
	for _, s := range r.specs {
		variables := map[string]string{}
		for _, n := range s.needs {
			other := r.byName[n.Value]
			switch {
			case other == nil:
				r.fail(s.file, n, "task %q needs %q, but no task has that name (a taskId outside these files goes under dependencies)", s.name, n.Value)
				continue
			case other == s:
				r.fail(s.file, n, "task %q needs itself", s.name)
				continue
			case slices.Contains(s.needed, other):
				r.fail(s.file, n, "task %q needs %q twice", s.name, n.Value)
				continue
			}
			s.needed = append(s.needed, other)
			if s.payload != nil {
				continue
			}
			v := variable(other.name)
			if first, taken := variables[v]; taken {
				r.fail(s.file, n, "tasks %q and %q, which %q needs, would share the variable %s: rename one", first, other.name, s.name, v)
			}
			if _, taken := s.env[v]; taken {
				r.fail(s.file, n, "task %q sets %s in env, but that variable holds the taskId of %q", s.name, v, other.name)
			}
			variables[v] = other.name
		}
	}
	if len(r.problems) == 0 {
		r.refuseCycles()
	}
}

// refuseCycles reports one cycle, if there is any, by name.
func (r *reader) refuseCycles() {
	waiting := make(map[*spec]int, len(r.specs))
	dependents := make(map[*spec][]*spec, len(r.specs))
	var ready []*spec
	for _, s := range r.specs {
		waiting[s] = len(s.needed)
		for _, n := range s.needed {
			dependents[n] = append(dependents[n], s)
		}
		if len(s.needed) == 0 {
			ready = append(ready, s)
		}
	}
	for len(ready) > 0 {
		s := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		delete(waiting, s)
		for _, d := range dependents[s] {
			if waiting[d]--; waiting[d] == 0 {
				ready = append(ready, d)
			}
		}
	}
	if len(waiting) == 0 {
		return
	}
	// Every waiting task needs a waiting task: walking along leads into a cycle.
	var at *spec
	for _, s := range r.specs {
		if _, ok := waiting[s]; ok {
			at = s
			break
		}
	}
	seen := map[*spec]int{}
	var path []string
	for {
		if start, again := seen[at]; again {
			path = append(path[start:], at.name)
			r.fail(at.file, at.node, "tasks need each other in a circle: %s", strings.Join(path, " needs "))
			return
		}
		seen[at] = len(path)
		path = append(path, at.name)
		for _, n := range at.needed {
			if _, ok := waiting[n]; ok {
				at = n
				break
			}
		}
	}
}

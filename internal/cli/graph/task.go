package graph

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"taskcluster/client"
	"taskcluster/internal/cli/relative"
	"taskcluster/internal/slugid"
)

// spec is a task as a file gives it.
type spec struct {
	file string
	node *yaml.Node // where it stands
	name string
	id   string

	command      [][]string
	payload      *yaml.Node
	env          map[string]*yaml.Node
	maxRunTime   int64 // seconds
	artifacts    *yaml.Node
	needs        []*yaml.Node
	needed       []*spec
	dependencies []string
	requires     string
	queue        string
	priority     string
	retries      *int
	routes       []string
	scopes       []string
	tags         map[string]string
	metadata     map[string]string
	deadline     time.Time
	expires      time.Time
	extra        *yaml.Node
	schedulerID  string
	projectID    string
}

const defaultRunTime = 3600 // seconds

// The published names and forms, so that a mistake is shown with its line.
var (
	priorities = []string{"highest", "very-high", "high", "medium", "low", "very-low", "lowest"}
	requires   = []string{"all-completed", "all-resolved"}
	metadata   = []string{"name", "description", "owner", "source"}
	taskQueue  = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,38}/[a-z]([-a-z0-9]{0,36}[a-z0-9])?$`)
	scheduler  = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,38}$`)
	project    = regexp.MustCompile(`^[a-zA-Z0-9._/-]{1,500}$`)
	origin     = regexp.MustCompile(`^(https?://|ssh://|git@)`)
)

// task reads the entries of one task on top of the defaults.
func (r *reader) task(file, name string, node *yaml.Node, entries []entry, defaults *spec) *spec {
	s := &spec{}
	if defaults != nil {
		*s = *defaults
		s.env, s.tags, s.metadata = maps.Clone(s.env), maps.Clone(s.tags), maps.Clone(s.metadata)
	}
	s.file, s.node, s.name = file, node, name
	before := len(r.problems)
	r.keys(s, entries)
	if len(r.problems) > before {
		return s
	}
	switch {
	case s.command == nil && s.payload == nil:
		r.fail(file, node, "task %q has neither command nor payload", name)
	case s.payload != nil:
		for _, e := range entries {
			switch e.key.Value {
			case "command", "env", "maxRunTime", "artifacts":
				r.fail(file, e.key, "task %q has a payload, which is complete: put %s into it", name, e.key.Value)
			}
		}
	}
	if s.queue == "" {
		s.queue = r.options.TaskQueue
	}
	if s.queue == "" {
		r.fail(file, node, "task %q has no queue; add one, or give --task-queue", name)
	}
	if s.maxRunTime == 0 {
		s.maxRunTime = defaultRunTime
	}
	if s.deadline.IsZero() {
		s.deadline = r.options.Now.Add(24 * time.Hour)
	}
	if !s.expires.IsZero() && s.expires.Before(s.deadline) {
		r.fail(file, node, "task %q expires before its deadline", name)
	}
	if s.metadata == nil {
		s.metadata = map[string]string{}
	}
	for key, value := range map[string]string{
		"name":        name,
		"description": "",
		"owner":       r.options.Owner,
		"source":      r.options.Source,
	} {
		if _, ok := s.metadata[key]; !ok {
			s.metadata[key] = value
		}
	}
	return s
}

// keys reads entries into s.
func (r *reader) keys(s *spec, entries []entry) {
	for _, e := range entries {
		key, n := e.key.Value, e.value
		switch key {
		case "command":
			s.command = r.command(s, n)
		case "payload":
			s.payload = n
		case "env":
			s.env = r.env(s, n)
		case "maxRunTime":
			s.maxRunTime = r.seconds(s, n)
		case "artifacts":
			s.artifacts = n
		case "needs":
			s.needs = r.list(s, n, key)
		case "dependencies":
			items := r.list(s, n, key)
			s.dependencies = texts(items)
			for _, item := range items {
				if _, err := slugid.Parse(item.Value); err != nil {
					r.fail(s.file, item, "dependencies are taskIds, which %q is not; a task of these files goes under needs", item.Value)
				}
			}
		case "requires":
			s.requires = r.oneOf(s, n, key, requires)
		case "queue":
			s.queue = r.matching(s, n, key, taskQueue, "such as local/native")
		case "priority":
			s.priority = r.oneOf(s, n, key, priorities)
		case "retries":
			s.retries = r.retries(s, n)
		case "routes":
			s.routes = texts(r.list(s, n, key))
		case "scopes":
			s.scopes = texts(r.list(s, n, key))
		case "tags":
			s.tags = r.strings(s, n, key, s.tags)
		case "metadata":
			s.metadata = r.metadata(s, n)
		case "deadline":
			s.deadline = r.moment(s, n, key)
		case "expires":
			s.expires = r.moment(s, n, key)
		case "extra":
			s.extra = n
		case "schedulerId":
			s.schedulerID = r.matching(s, n, key, scheduler, "1 to 38 letters, digits, - and _")
		case "projectId":
			s.projectID = r.matching(s, n, key, project, "letters, digits and . _ / -")
		default:
			r.fail(s.file, e.key, "unknown key %q; a task has %s", key,
				"command, env, maxRunTime, artifacts, payload, needs, dependencies, requires, queue, priority, retries, "+
					"deadline, expires, metadata, routes, scopes, tags, extra, schedulerId, projectId")
		}
	}
}

// text reads a scalar as it is written.
func (r *reader) text(s *spec, n *yaml.Node, what string) string {
	n = follow(n)
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		r.fail(s.file, n, "%s must be a string", what)
		return ""
	}
	return n.Value
}

// list reads a list of strings.
func (r *reader) list(s *spec, n *yaml.Node, what string) []*yaml.Node {
	n = follow(n)
	if n.Kind != yaml.SequenceNode {
		r.fail(s.file, n, "%s must be a list of strings", what)
		return nil
	}
	var out []*yaml.Node
	for _, item := range n.Content {
		item = follow(item)
		if !r.visit(s.file, item) {
			return nil
		}
		r.text(s, item, "each of "+what)
		out = append(out, item)
	}
	return out
}

func texts(nodes []*yaml.Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Value)
	}
	return out
}

func (r *reader) oneOf(s *spec, n *yaml.Node, what string, allowed []string) string {
	text := r.text(s, n, what)
	if text != "" && !slices.Contains(allowed, text) {
		r.fail(s.file, n, "%s must be one of %s", what, strings.Join(allowed, ", "))
	}
	return text
}

func (r *reader) matching(s *spec, n *yaml.Node, what string, pattern *regexp.Regexp, form string) string {
	text := r.text(s, n, what)
	if !pattern.MatchString(text) {
		r.fail(s.file, n, "%s is %s, which %q is not", what, form, text)
	}
	return text
}

// strings reads a map of strings on top of base, which is s's own.
func (r *reader) strings(s *spec, n *yaml.Node, what string, base map[string]string) map[string]string {
	entries, ok := r.mapping(s.file, n, what)
	if !ok {
		return base
	}
	if base == nil {
		base = make(map[string]string, len(entries))
	}
	for _, e := range entries {
		base[e.key.Value] = r.text(s, e.value, what+"."+e.key.Value)
	}
	return base
}

func (r *reader) env(s *spec, n *yaml.Node) map[string]*yaml.Node {
	entries, ok := r.mapping(s.file, n, "env")
	env := s.env
	if env == nil && ok {
		env = make(map[string]*yaml.Node, len(entries))
	}
	for _, e := range entries {
		if name := e.key.Value; name == "" || strings.ContainsAny(name, "=\x00") {
			r.fail(s.file, e.key, "%q cannot be the name of an environment variable", name)
		}
		if value := follow(e.value); value.Kind != yaml.MappingNode {
			r.text(s, value, "env."+e.key.Value)
		}
		env[e.key.Value] = e.value
	}
	return env
}

func (r *reader) metadata(s *spec, n *yaml.Node) map[string]string {
	entries, _ := r.mapping(s.file, n, "metadata")
	for _, e := range entries {
		if !slices.Contains(metadata, e.key.Value) {
			r.fail(s.file, e.key, "unknown key %q; metadata has %s", e.key.Value, strings.Join(metadata, ", "))
		}
		if e.key.Value == "source" && !origin.MatchString(e.value.Value) {
			r.fail(s.file, e.value, "metadata.source must begin with http://, https://, ssh:// or git@")
		}
	}
	return r.strings(s, n, "metadata", s.metadata)
}

func (r *reader) retries(s *spec, n *yaml.Node) *int {
	v, err := strconv.Atoi(r.text(s, n, "retries"))
	if err != nil || v < 0 || v > 49 {
		r.fail(s.file, n, "retries must be a whole number from 0 to 49")
	}
	return &v
}

func (r *reader) seconds(s *spec, n *yaml.Node) int64 {
	text := r.text(s, n, "maxRunTime")
	if v, err := strconv.ParseInt(text, 10, 64); err == nil {
		if v < 1 || v > 1<<53 {
			r.fail(s.file, n, "maxRunTime must be at least 1 second")
		}
		return v
	}
	span, err := relative.Parse(text)
	if err != nil {
		r.fail(s.file, n, "maxRunTime: %v", err)
	} else if span < time.Second {
		r.fail(s.file, n, "maxRunTime must be at least 1 second")
	}
	return int64(span / time.Second)
}

// moment reads a date, or a span from now.
func (r *reader) moment(s *spec, n *yaml.Node, what string) time.Time {
	text := r.text(s, n, what)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		var span time.Duration
		if span, err = relative.Parse(text); err != nil {
			r.fail(s.file, n, "%s: %v, or a date like 2030-01-31T12:00:00Z", what, err)
			return time.Time{}
		}
		at = r.options.Now.Add(span)
	}
	if year := at.UTC().Year(); !at.After(r.options.Now) || year > 9999 {
		r.fail(s.file, n, "%s must be in the future, before the year 10000", what)
	}
	return at
}

// command reads a script, a program with arguments, or a list of such.
func (r *reader) command(s *spec, n *yaml.Node) [][]string {
	n = follow(n)
	if n.Kind == yaml.ScalarNode {
		script := r.text(s, n, "command")
		if strings.TrimSpace(script) == "" {
			r.fail(s.file, n, "command is empty")
		}
		return [][]string{{"sh", "-ec", script}}
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.fail(s.file, n, "command must be a script, a list of strings, or a list of such lists")
		return nil
	}
	if follow(n.Content[0]).Kind == yaml.ScalarNode {
		return [][]string{r.arguments(s, n)}
	}
	var commands [][]string
	for _, item := range n.Content {
		commands = append(commands, r.arguments(s, follow(item)))
	}
	return commands
}

func (r *reader) arguments(s *spec, n *yaml.Node) []string {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.fail(s.file, n, "a command in a list is a list of strings itself, not empty: [program, argument, …]")
		return nil
	}
	return texts(r.list(s, n, "command"))
}

// payload is the payload of a task: its own, or generic-worker's for the
// short form.
func (r *reader) payload(s *spec) json.RawMessage {
	if s.payload != nil {
		return r.object(s, s.payload)
	}
	p := map[string]any{"command": s.command, "maxRunTime": s.maxRunTime}
	env := make(map[string]string, len(s.env)+len(s.needed))
	for name, n := range s.env {
		if n = follow(n); n.Kind == yaml.ScalarNode {
			env[name] = n.Value
		} else if v, ok := r.value(s, n, 0); ok {
			text, ok := v.(string)
			if !ok {
				r.fail(s.file, n, "env.%s must be a string or {$taskId: name}", name)
			}
			env[name] = text
		}
	}
	for _, n := range s.needed {
		env[variable(n.name)] = n.id
	}
	if len(env) > 0 {
		p["env"] = env
	}
	if s.artifacts != nil {
		p["artifacts"] = r.artifactList(s, follow(s.artifacts))
	}
	return r.encode(s, s.node, p)
}

// artifactList brings artifacts into the form of the worker's payload.
func (r *reader) artifactList(s *spec, n *yaml.Node) []any {
	var list []any
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if a := r.artifact(s, item, "an artifact"); a != nil {
				list = append(list, a)
			}
		}
	case yaml.MappingNode:
		entries, _ := r.mapping(s.file, n, "artifacts")
		for _, e := range entries {
			a := map[string]any{"type": "file"}
			if e.value.Kind == yaml.ScalarNode {
				path := r.text(s, e.value, "the path of artifact "+e.key.Value)
				if bare := strings.TrimRight(path, "/"); bare != path {
					a["type"], path = "directory", bare
				}
				a["path"] = path
			} else if a = r.artifact(s, e.value, fmt.Sprintf("artifact %q", e.key.Value)); a == nil {
				continue
			} else if _, named := a["name"]; named {
				r.fail(s.file, e.value, "artifact %q has a second name", e.key.Value)
			}
			a["name"] = e.key.Value
			list = append(list, a)
		}
	default:
		r.fail(s.file, n, "artifacts must be a map of names to paths, or a list")
	}
	return list
}

// artifact reads one artifact; its expiry may be a span.
func (r *reader) artifact(s *spec, n *yaml.Node, what string) map[string]any {
	entries, ok := r.mapping(s.file, n, what)
	if !ok {
		return nil
	}
	a := make(map[string]any, len(entries))
	for _, e := range entries {
		if e.key.Value == "expires" {
			a["expires"] = client.At(r.moment(s, e.value, "expires"))
			continue
		}
		if a[e.key.Value], ok = r.value(s, e.value, 0); !ok {
			return nil
		}
	}
	return a
}

// object encodes a map.
func (r *reader) object(s *spec, n *yaml.Node) json.RawMessage {
	v, ok := r.value(s, n, 0)
	if !ok {
		return nil
	}
	if _, ok := v.(map[string]any); !ok {
		r.fail(s.file, n, "must be a map")
		return nil
	}
	return r.encode(s, n, v)
}

func (r *reader) encode(s *spec, n *yaml.Node, v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		r.fail(s.file, n, "%v", err)
	}
	return text
}

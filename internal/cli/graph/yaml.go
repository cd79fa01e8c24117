package graph

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"taskcluster/internal/slugid"
)

// reader collects the tasks of all sources, and what is wrong with them.
type reader struct {
	options  Options
	nodes    int // how many more nodes may be visited
	specs    []*spec
	byName   map[string]*spec
	problems []string
}

// fail notes a problem at a node.
func (r *reader) fail(file string, n *yaml.Node, format string, args ...any) {
	r.problem(fmt.Sprintf("%s:%d: ", file, n.Line) + fmt.Sprintf(format, args...))
}

func (r *reader) problem(text string) {
	switch {
	case len(r.problems) < maxProblems:
		r.problems = append(r.problems, text)
	case len(r.problems) == maxProblems:
		r.problems = append(r.problems, "(and more)")
	}
}

// source reads the documents of one file.
func (r *reader) source(s Source) {
	if len(s.Text) > maxSource {
		r.problem(fmt.Sprintf("%s: is larger than %d MiB", s.Name, maxSource>>20))
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(s.Text))
	for {
		var document yaml.Node
		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			r.problem(s.Name + ": " + strings.TrimPrefix(err.Error(), "yaml: "))
			return
		}
		if len(document.Content) != 1 {
			continue
		}
		root := document.Content[0]
		if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
			continue // an empty document, as after a final ---
		}
		r.document(s.Name, root)
	}
}

// document reads one task, or the tasks under "tasks".
func (r *reader) document(file string, root *yaml.Node) {
	entries, ok := r.mapping(file, root, "a document")
	if !ok {
		return
	}
	var tasks, defaults *yaml.Node
	for _, e := range entries {
		switch e.key.Value {
		case "tasks":
			tasks = e.value
		case "defaults":
			defaults = e.value
		}
	}
	if tasks == nil {
		r.add(r.task(file, r.onlyName(file, entries), root, entries, nil))
		return
	}
	for _, e := range entries {
		if e.value != tasks && e.value != defaults {
			r.fail(file, e.key, "unknown key %q beside tasks: only defaults may stand there", e.key.Value)
		}
	}
	var base *spec
	if defaults != nil {
		entries, ok := r.mapping(file, defaults, "defaults")
		if !ok {
			return
		}
		for _, e := range entries {
			switch e.key.Value {
			case "command", "payload", "needs", "artifacts":
				r.fail(file, e.key, "%q cannot be a default", e.key.Value)
				return
			}
		}
		base = &spec{file: file, node: defaults}
		r.keys(base, entries)
	}
	entries, ok = r.mapping(file, tasks, "tasks")
	if !ok {
		return
	}
	for _, e := range entries {
		if body, ok := r.mapping(file, e.value, fmt.Sprintf("task %q", e.key.Value)); ok {
			r.add(r.task(file, e.key.Value, e.key, body, base))
		}
	}
}

// onlyName is the name of a document's only task: of its metadata, or else of
// the file.
func (r *reader) onlyName(file string, entries []entry) string {
	for _, e := range entries {
		if e.key.Value != "metadata" || e.value.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i+1 < len(e.value.Content); i += 2 {
			if e.value.Content[i].Value == "name" {
				return follow(e.value.Content[i+1]).Value
			}
		}
	}
	return strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
}

// add takes a task in, unless its name is taken.
func (r *reader) add(s *spec) {
	if s.name == "" || len(s.name) > 255 || strings.ContainsFunc(s.name, unicode.IsControl) {
		r.fail(s.file, s.node, "a task's name has 1 to 255 characters, none of them a control character")
		return
	}
	if other := r.byName[s.name]; other != nil {
		r.fail(s.file, s.node, "there is already a task %q, at %s:%d", s.name, other.file, other.node.Line)
		return
	}
	s.id = slugid.Nice().String()
	r.byName[s.name] = s
	r.specs = append(r.specs, s)
}

// entry is one pair of a YAML mapping.
type entry struct{ key, value *yaml.Node }

// mapping returns the entries of a map in order: keys are strings, and each
// occurs once. Merge keys (<<) are expanded, an own entry wins.
func (r *reader) mapping(file string, n *yaml.Node, what string) ([]entry, bool) {
	return r.entries(file, n, what, 0)
}

// entries is mapping, merges deep inside merge keys.
func (r *reader) entries(file string, n *yaml.Node, what string, merges int) ([]entry, bool) {
	n = follow(n)
	if merges > maxDepth {
		r.fail(file, n, "%s merges more than %d maps into each other", what, maxDepth)
		return nil, false
	}
	if !r.visit(file, n) {
		return nil, false
	}
	if n.Kind != yaml.MappingNode {
		r.fail(file, n, "%s must be a map of keys to values", what)
		return nil, false
	}
	var entries, merged []entry
	index := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := follow(n.Content[i]), follow(n.Content[i+1])
		if key.Kind != yaml.ScalarNode {
			r.fail(file, key, "%s: a key must be a string", what)
			return nil, false
		}
		if key.ShortTag() == "!!merge" {
			more, ok := r.merge(file, value, what, merges+1)
			if !ok {
				return nil, false
			}
			merged = append(merged, more...)
			continue
		}
		if index[key.Value] {
			r.fail(file, key, "%s has the key %q twice", what, key.Value)
			return nil, false
		}
		index[key.Value] = true
		entries = append(entries, entry{key, value})
	}
	for _, e := range merged {
		if !index[e.key.Value] {
			index[e.key.Value] = true
			entries = append(entries, e)
		}
	}
	return entries, true
}

// merge returns the entries that a merge key brings in: of a map or several.
func (r *reader) merge(file string, n *yaml.Node, what string, merges int) ([]entry, bool) {
	if n.Kind != yaml.SequenceNode {
		return r.entries(file, n, what, merges)
	}
	var all []entry
	for _, item := range n.Content {
		entries, ok := r.entries(file, item, what, merges)
		if !ok {
			return nil, false
		}
		all = append(all, entries...)
	}
	return all, true
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// visit counts a node, so that aliases within aliases (or an alias of itself)
// come to an end.
func (r *reader) visit(file string, n *yaml.Node) bool {
	if r.nodes == 0 {
		r.fail(file, n, "the files hold more than %d values, or an alias contains itself", maxNodes)
	}
	r.nodes--
	return r.nodes >= 0
}

// value turns a node into what encoding/json writes as the same value. A map
// {$taskId: name} becomes the taskId of the task with that name.
func (r *reader) value(s *spec, n *yaml.Node, depth int) (any, bool) {
	n = follow(n)
	if depth > maxDepth {
		r.fail(s.file, n, "values are nested more than %d deep", maxDepth)
		return nil, false
	}
	switch n.Kind {
	case yaml.MappingNode:
		entries, ok := r.mapping(s.file, n, "a value")
		if !ok {
			return nil, false
		}
		if len(entries) == 1 && entries[0].key.Value == "$taskId" {
			return r.reference(s, entries[0].value)
		}
		m := make(map[string]any, len(entries))
		for _, e := range entries {
			if m[e.key.Value], ok = r.value(s, e.value, depth+1); !ok {
				return nil, false
			}
		}
		return m, true
	case yaml.SequenceNode:
		if !r.visit(s.file, n) {
			return nil, false
		}
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			var ok bool
			if list[i], ok = r.value(s, item, depth+1); !ok {
				return nil, false
			}
		}
		return list, true
	}
	if !r.visit(s.file, n) {
		return nil, false
	}
	return r.scalar(s.file, n)
}

// reference resolves {$taskId: name}. Only tasks that are needed, and the task
// itself, can be named: of no other is it certain that it has run.
func (r *reader) reference(s *spec, n *yaml.Node) (any, bool) {
	if n.Value == s.name {
		return s.id, true
	}
	for _, other := range s.needed {
		if other.name == n.Value {
			return other.id, true
		}
	}
	r.fail(s.file, n, "$taskId: task %q does not need %q; add it to needs", s.name, n.Value)
	return nil, false
}

// scalar reads a single value. Dates stay the text they are.
func (r *reader) scalar(file string, n *yaml.Node) (any, bool) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp", "!!merge":
		return n.Value, true
	case "!!null":
		return nil, true
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return b, true
		}
	case "!!int":
		// As written when JSON allows it, so that no digit is lost.
		if text := strings.TrimPrefix(n.Value, "+"); json.Valid([]byte(text)) {
			return json.Number(text), true
		}
		var i int64
		if n.Decode(&i) == nil {
			return i, true
		}
	case "!!float":
		var f float64
		if n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			if json.Valid([]byte(n.Value)) {
				return json.Number(n.Value), true
			}
			return f, true
		}
	}
	r.fail(file, n, "%s cannot be written in JSON", strconv.Quote(n.Value))
	return nil, false
}

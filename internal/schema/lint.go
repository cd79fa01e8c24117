package schema

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v2"
)

// linter finds what JSON schema would silently ignore in a source.
type linter struct {
	name string         // "queue/v1/task.json"
	docs map[string]any // all documents of the service by name
	errs []error
}

func (l *linter) fail(at, format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf("%s#%s: %s", l.name, at, fmt.Sprintf(format, args...)))
}

func (l *linter) schema(v any, at string) {
	if _, ok := v.(bool); ok {
		return
	}
	s, ok := v.(yaml.MapSlice)
	if !ok {
		l.fail(at, "a schema must be a mapping or a boolean")
		return
	}
	for _, m := range s {
		key := m.Key.(string)
		below := at + "/" + key
		if !keywords[key] {
			l.fail(at, "unknown keyword %q", key)
			continue
		}
		switch key {
		case "properties", "definitions":
			props, ok := m.Value.(yaml.MapSlice)
			if !ok {
				l.fail(below, "must be a mapping")
			}
			for _, p := range props {
				l.schema(p.Value, below+"/"+p.Key.(string))
			}
		case "items", "additionalProperties", "propertyNames":
			l.schema(m.Value, below)
		case "oneOf", "anyOf", "allOf":
			list, ok := m.Value.([]any)
			if !ok {
				l.fail(below, "must be a list")
			}
			for i, e := range list {
				l.schema(e, below+"/"+strconv.Itoa(i))
			}
		case "$ref":
			l.ref(m.Value, below)
		case "pattern":
			p, _ := m.Value.(string)
			if _, err := CompilePattern(p); err != nil || p == "" {
				l.fail(below, "pattern %v does not compile: %v", m.Value, err)
			}
		case "required":
			l.required(s, m.Value, below)
		}
	}
}

func (l *linter) ref(v any, at string) {
	ref, _ := v.(string)
	if ref == draft06 {
		return
	}
	file, pointer, hash := strings.Cut(ref, "#")
	name := l.name
	if file != "" {
		name = path.Join(path.Dir(l.name), file)
	}
	if !hash || strings.HasPrefix(ref, "/") || strings.Contains(ref, ":") {
		l.fail(at, "%q must be relative and contain a #", ref)
		return
	}
	target, ok := l.docs[name]
	for _, word := range strings.Split(pointer, "/")[1:] {
		target, ok = child(target, word)
		if !ok {
			break
		}
	}
	if !ok {
		l.fail(at, "%q leads nowhere", ref)
	}
}

func (l *linter) required(s yaml.MapSlice, v any, at string) {
	names, ok := v.([]any)
	props, declared := child(s, "properties")
	if !ok || !declared {
		l.fail(at, "must be a list, beside properties")
		return
	}
	for _, name := range names {
		text, _ := name.(string)
		if _, ok := child(props, text); !ok {
			l.fail(at, "%v is not among the properties", name)
		}
	}
}

func child(v any, key string) (any, bool) {
	m, _ := v.(yaml.MapSlice)
	for _, e := range m {
		if e.Key == key {
			return e.Value, true
		}
	}
	return nil, false
}

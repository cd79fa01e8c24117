package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

const (
	draft06    = "http://json-schema.org/draft-06/schema#"
	metaschema = "/schemas/common/metaschema.json#"
)

// keywords are the schema keywords that a source may use. Anything else is
// most likely a misspelling, which JSON schema would silently ignore.
var keywords = map[string]bool{
	"$id": true, "$schema": true, "$ref": true, "title": true, "description": true, "default": true,
	"type": true, "enum": true, "const": true, "format": true, "pattern": true,
	"minLength": true, "maxLength": true, "minimum": true, "maximum": true,
	"items": true, "minItems": true, "maxItems": true, "uniqueItems": true,
	"properties": true, "required": true, "additionalProperties": true, "propertyNames": true,
	"minProperties": true, "maxProperties": true, "oneOf": true, "anyOf": true, "allOf": true, "definitions": true,
	"metadata": true, // name and version of a reference format
	"formt":    true, // sic: published so in manifest-v3
}

// Bundle compiles the YAML sources of a service (or, for the service "common",
// of this package) into the form that [Load] reads: one line of JSON per
// document, sorted by name, each beginning with its $id. Property order is
// that of the YAML.
//
// A mapping {$const: key} is replaced by that key's value in constants.yml.
// When it has further members the constant must be a mapping too, and they are
// laid over it. Refused are unknown and unused constants, unknown keywords,
// references without a target, patterns that do not compile, and required
// properties that are not declared.
func Bundle(src Source) ([]byte, error) {
	dir, prefix := "v1", src.Service+"/v1/"
	if src.Service == "common" {
		dir, prefix = ".", "common/"
	}
	files, err := fs.Glob(src.FS, path.Join(dir, "*.yml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	c, err := readConstants(src.FS)
	if err != nil {
		return nil, err
	}
	docs := map[string]any{}
	var names []string
	var errs []error
	for _, file := range files {
		if path.Base(file) == "constants.yml" {
			continue
		}
		name := prefix + strings.TrimSuffix(path.Base(file), ".yml") + ".json"
		doc, err := c.document(src, file, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			continue
		}
		docs[name] = doc
		names = append(names, name)
	}
	if len(names) == 0 && len(errs) == 0 {
		return nil, fmt.Errorf("schema: service %s has no schema sources in %s/*.yml", src.Service, dir)
	}
	for _, name := range names {
		l := linter{name: name, docs: docs}
		l.schema(docs[name], "")
		errs = append(errs, l.errs...)
	}
	if len(errs) == 0 {
		errs = append(errs, c.unused()...)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("schema: service %s: %w", src.Service, errors.Join(errs...))
	}
	var out bytes.Buffer
	for _, name := range names {
		writeJSON(&out, docs[name])
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

// constants substitutes {$const: key}.
type constants struct {
	values map[string]any
	used   map[string]bool
}

func readConstants(fsys fs.FS) (*constants, error) {
	c := &constants{values: map[string]any{}, used: map[string]bool{}}
	text, err := fs.ReadFile(fsys, "constants.yml")
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	} else if err != nil {
		return nil, err
	}
	all, err := readYAML(text)
	if err != nil {
		return nil, fmt.Errorf("constants.yml: %w", err)
	}
	for _, m := range all {
		c.values[m.Key.(string)] = m.Value
	}
	return c, nil
}

func (c *constants) unused() (errs []error) {
	for key := range c.values {
		if !c.used[key] {
			errs = append(errs, fmt.Errorf("constants.yml: %q is not used", key))
		}
	}
	return errs
}

// document reads one source and gives it its $id and $schema.
func (c *constants) document(src Source, file, name string) (any, error) {
	text, err := fs.ReadFile(src.FS, file)
	if err != nil {
		return nil, err
	}
	raw, err := readYAML(text)
	if err == nil && name == "common/values.schema.json" {
		raw, err = expandValues(raw)
	}
	if err != nil {
		return nil, err
	}
	v, err := c.resolve(raw, nil)
	if err != nil {
		return nil, err
	}
	body := v.(yaml.MapSlice)
	id, dialect := "/schemas/"+name+"#", any(metaschema)
	rest := make(yaml.MapSlice, 0, len(body)+2)
	for _, m := range body {
		switch m.Key {
		case "$id":
			if m.Value != id {
				return nil, fmt.Errorf("$id is %v, but the file name makes it %s", m.Value, id)
			}
		case "$schema":
			dialect = m.Value
		default:
			rest = append(rest, m)
		}
	}
	head := yaml.MapSlice{{Key: "$id", Value: id}, {Key: "$schema", Value: dialect}}
	return append(head, rest...), nil
}

// resolve returns v with constants replaced; active are the constants being
// resolved, to find cycles.
func (c *constants) resolve(v any, active []string) (any, error) {
	switch v := v.(type) {
	case yaml.MapSlice:
		var out yaml.MapSlice
		for _, m := range v {
			if m.Key != "$const" {
				continue
			}
			key, _ := m.Value.(string)
			value, known := c.values[key]
			if !known {
				return nil, fmt.Errorf("$const: %v is not in constants.yml", m.Value)
			}
			if slices.Contains(active, key) {
				return nil, fmt.Errorf("$const: %s contains itself", key)
			}
			c.used[key] = true
			value, err := c.resolve(value, append(active, key))
			if err != nil || len(v) == 1 {
				return value, err
			}
			base, ok := value.(yaml.MapSlice)
			if !ok {
				return nil, fmt.Errorf("$const: %s is not a mapping and cannot be extended", key)
			}
			out = slices.Clone(base)
		}
		for _, m := range v {
			if m.Key == "$const" {
				continue
			}
			value, err := c.resolve(m.Value, active)
			if err != nil {
				return nil, err
			}
			at := slices.IndexFunc(out, func(o yaml.MapItem) bool { return o.Key == m.Key })
			if at < 0 {
				out = append(out, yaml.MapItem{Key: m.Key, Value: value})
			} else {
				out[at].Value = value
			}
		}
		if out == nil {
			out = yaml.MapSlice{}
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = c.resolve(v[i], active); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

// readYAML reads a mapping, keeping its order and refusing keys that are not
// strings or stand twice.
func readYAML(text []byte) (yaml.MapSlice, error) {
	var doc yaml.MapSlice
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if err := checkKeys(doc); err != nil {
		return nil, err
	}
	return doc, nil
}

func checkKeys(v any) error {
	switch v := v.(type) {
	case yaml.MapSlice:
		seen := map[string]bool{}
		for _, m := range v {
			key, ok := m.Key.(string)
			if !ok {
				return fmt.Errorf("key %v must be quoted: YAML reads it as %T", m.Key, m.Key)
			}
			if seen[key] {
				return fmt.Errorf("key %q stands twice", key)
			}
			seen[key] = true
			if err := checkKeys(m.Value); err != nil {
				return err
			}
		}
	case []any:
		for _, e := range v {
			if err := checkKeys(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeJSON appends v without insignificant white space.
func writeJSON(out *bytes.Buffer, v any) {
	switch v := v.(type) {
	case yaml.MapSlice:
		out.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				out.WriteByte(',')
			}
			writeJSON(out, m.Key)
			out.WriteByte(':')
			writeJSON(out, m.Value)
		}
		out.WriteByte('}')
	case []any:
		out.WriteByte('[')
		for i := range v {
			if i > 0 {
				out.WriteByte(',')
			}
			writeJSON(out, v[i])
		}
		out.WriteByte(']')
	default:
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			panic(err) // YAML scalars are strings, numbers, booleans and null
		}
		out.Truncate(out.Len() - 1) // the encoder's newline
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// schema is the part of JSON schema that shapes types.
type schema struct {
	Ref                  string             `json:"$ref"`
	Title                string             `json:"title"`
	Description          string             `json:"description"`
	Type                 json.RawMessage    `json:"type"`
	Format               string             `json:"format"`
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Items                json.RawMessage    `json:"items"`
	OneOf                []*schema          `json:"oneOf"`
	AnyOf                []*schema          `json:"anyOf"`
	AllOf                []*schema          `json:"allOf"`
	Enum                 []json.RawMessage  `json:"enum"`
	Const                json.RawMessage    `json:"const"`
	Default              json.RawMessage    `json:"default"`
	Definitions          map[string]*schema `json:"definitions"`

	boolean *bool // set if the schema is just true or false
}

// UnmarshalJSON reads a schema, which may be a boolean.
func (s *schema) UnmarshalJSON(text []byte) error {
	if string(text) == "true" || string(text) == "false" {
		value := string(text) == "true"
		*s = schema{boolean: &value}
		return nil
	}
	type plain schema
	return json.Unmarshal(text, (*plain)(s))
}

// typeName returns the type if there is exactly one.
func (s *schema) typeName() string {
	var name string
	if len(s.Type) == 0 || json.Unmarshal(s.Type, &name) != nil {
		return ""
	}
	return name
}

// item returns the schema of all elements of an array, nil if they differ or
// nothing is said.
func (s *schema) item() *schema {
	var item schema
	if len(s.Items) == 0 || s.Items[0] == '[' || json.Unmarshal(s.Items, &item) != nil {
		return nil
	}
	return &item
}

// isObject reports whether the schema describes an object with known members.
func (s *schema) isObject() bool {
	t := s.typeName()
	return len(s.Properties) > 0 && (t == "object" || len(s.Type) == 0)
}

// isOpen reports whether the schema says in so many words that an object may
// have other members than those it names.
func (s *schema) isOpen() bool {
	a := s.AdditionalProperties
	return a != nil && a.boolean != nil && *a.boolean
}

// isEmptyObject reports whether the schema describes an object without members.
func (s *schema) isEmptyObject() bool {
	a := s.AdditionalProperties
	return s.typeName() == "object" && len(s.Properties) == 0 && a != nil && a.boolean != nil && !*a.boolean
}

// location says where a schema stands: the document, such as
// "queue/v1/task.json", and the way into it.
type location struct {
	file    string
	pointer string // "/properties/runs/items", or empty
}

func (l location) at(steps ...string) location {
	for _, step := range steps {
		l.pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(step)
	}
	return l
}

// documents reads and keeps schema documents.
type documents struct {
	read  reader
	files map[string]*schema
}

func (d *documents) root(file string) (*schema, error) {
	if s, ok := d.files[file]; ok {
		return s, nil
	}
	text, err := d.read("schemas/" + file)
	if err != nil {
		return nil, err
	}
	s := new(schema)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("schemas/%s: %w", file, err)
	}
	d.files[file] = s
	return s, nil
}

// target returns what a $ref at some location leads to. The reference may be
// relative, or absolute with any root URL.
func (l location) target(ref string) location {
	file, pointer, _ := strings.Cut(ref, "#")
	switch _, below, absolute := strings.Cut(file, "/schemas/"); {
	case file == "":
		file = l.file
	case absolute:
		file = below
	default:
		file = path.Join(path.Dir(l.file), file)
	}
	return location{file, pointer}
}

// lookup returns the schema at a location, which may be a $ref again.
func (d *documents) lookup(l location) (*schema, error) {
	s, err := d.root(l.file)
	if err != nil || l.pointer == "" {
		return s, err
	}
	missing := fmt.Errorf("schemas/%s#%s: no such schema", l.file, l.pointer)
	steps := strings.Split(strings.TrimPrefix(l.pointer, "/"), "/")
	for i := 0; i < len(steps) && s != nil; i++ {
		name := ""
		if i+1 < len(steps) {
			name = strings.NewReplacer("~1", "/", "~0", "~").Replace(steps[i+1])
		}
		switch steps[i] {
		case "properties":
			s, i = s.Properties[name], i+1
		case "definitions":
			s, i = s.Definitions[name], i+1
		case "items":
			s = s.item()
		case "additionalProperties":
			s = s.AdditionalProperties
		default:
			return nil, missing
		}
	}
	if s == nil {
		return nil, missing
	}
	return s, nil
}

// resolve follows references until there is a schema that is none.
func (d *documents) resolve(l location, s *schema) (location, *schema, error) {
	for range 16 {
		if s.Ref == "" {
			return l, s, nil
		}
		l = l.target(s.Ref)
		var err error
		if s, err = d.lookup(l); err != nil {
			return l, nil, err
		}
	}
	return l, nil, fmt.Errorf("schemas/%s#%s: too many references", l.file, l.pointer)
}

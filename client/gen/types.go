package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// kind is what matters about a Go type for its use in a field.
type kind int

const (
	kindRaw kind = iota
	kindString
	kindNumber
	kindBool
	kindTime
	kindSlice
	kindMap
	kindStruct
)

// goType is a Go type expression.
type goType struct {
	expr string
	kind kind
	def  *structType // for kindStruct
}

// structType is a struct to be declared.
type structType struct {
	name   string
	doc    []string
	fields []field
}

type field struct {
	name, json string
	typ        goType
	required   bool
	def        json.RawMessage // the default
	doc        string
}

// namedType is a declared type that is not a struct.
type namedType struct {
	name, expr string
	doc        []string
}

// typeSet makes Go types of schemas.
type typeSet struct {
	docs    *documents
	service string
	names   map[string]location // who has a name; the zero location reserves one
	structs map[location]*structType
	named   map[location]*namedType
}

// reserve keeps the names of all documents that a document refers to, before
// any name is made up for a part of one.
func (t *typeSet) reserve(file string, seen map[string]bool) error {
	if seen[file] {
		return nil
	}
	seen[file] = true
	if !strings.HasPrefix(file, t.service+"/") {
		return fmt.Errorf("schemas/%s is of another service", file)
	}
	root, err := t.docs.root(file)
	if err != nil {
		return err
	}
	name := rootName(file)
	if holder, taken := t.names[name]; taken {
		return fmt.Errorf("schemas/%s: name %s is taken by %v", file, name, holder)
	}
	t.names[name] = location{file: file}
	var visit func(s *schema) error
	visit = func(s *schema) error {
		if s == nil {
			return nil
		}
		if s.Ref != "" {
			if err := t.reserve(location{file: file}.target(s.Ref).file, seen); err != nil {
				return err
			}
		}
		parts := slices.Concat(s.OneOf, s.AnyOf, s.AllOf, []*schema{s.item(), s.AdditionalProperties})
		for _, members := range []map[string]*schema{s.Properties, s.Definitions} {
			for _, key := range slices.Sorted(maps.Keys(members)) {
				parts = append(parts, members[key])
			}
		}
		for _, part := range parts {
			if err := visit(part); err != nil {
				return err
			}
		}
		return nil
	}
	return visit(root)
}

func rootName(file string) string {
	return goName(strings.TrimSuffix(path.Base(file), ".json"))
}

// nameFor makes a name for the struct at a location: the document's name, and
// the names of the members that lead to it.
func (t *typeSet) nameFor(l location) string {
	name := rootName(l.file)
	steps := strings.Split(strings.TrimPrefix(l.pointer, "/"), "/")
	for i := 0; l.pointer != "" && i < len(steps); i++ {
		switch steps[i] {
		case "properties", "definitions":
			i++
			name += goName(steps[i])
		case "oneOf", "anyOf", "allOf":
			i++
		case "items":
			name = singular(name)
		case "additionalProperties":
			name += "Value"
		}
	}
	unique := name
	for n := 2; ; n++ {
		holder, taken := t.names[unique]
		if !taken || holder == l {
			t.names[unique] = l
			return unique
		}
		unique = name + strconv.Itoa(n)
	}
}

func singular(name string) string {
	switch {
	case strings.HasSuffix(name, "ies"):
		return strings.TrimSuffix(name, "ies") + "y"
	case strings.HasSuffix(name, "uses"):
		return strings.TrimSuffix(name, "es")
	case strings.HasSuffix(name, "s") && !strings.HasSuffix(name, "ss") && !strings.HasSuffix(name, "us"):
		return strings.TrimSuffix(name, "s")
	}
	return name + "Item"
}

var raw = goType{"json.RawMessage", kindRaw, nil}

// typeOf returns the Go type of a schema.
func (t *typeSet) typeOf(l location, s *schema) (goType, error) {
	l, s, err := t.docs.resolve(l, s)
	if err != nil {
		return raw, err
	}
	typ, err := t.inline(l, s)
	if err != nil || l.pointer != "" || typ.kind != kindSlice && typ.kind != kindMap {
		return typ, err
	}
	name := t.nameFor(l)
	t.named[l] = &namedType{name, typ.expr, t.describe(name, l, s)}
	return goType{name, typ.kind, nil}, nil
}

func (t *typeSet) inline(l location, s *schema) (goType, error) {
	switch s.typeName() {
	case "string":
		if s.Format == "date-time" {
			return goType{"client.Time", kindTime, nil}, nil
		}
		return goType{"string", kindString, nil}, nil
	case "integer":
		return goType{"int", kindNumber, nil}, nil
	case "number":
		return goType{"float64", kindNumber, nil}, nil
	case "boolean":
		return goType{"bool", kindBool, nil}, nil
	case "array":
		item := s.item()
		if item == nil {
			return goType{"[]json.RawMessage", kindSlice, nil}, nil
		}
		element, err := t.typeOf(l.at("items"), item)
		return goType{"[]" + element.expr, kindSlice, nil}, err
	case "object", "":
	default:
		return raw, nil
	}
	if s.isObject() && s.isOpen() {
		return goType{"map[string]any", kindMap, nil}, nil // a struct would lose the members without a name
	}
	if s.isObject() {
		return t.structOf(l, s, []branch{{l, s}}, true)
	}
	for _, alternatives := range []struct {
		step    string
		schemas []*schema
		all     bool
	}{{"allOf", s.AllOf, true}, {"oneOf", s.OneOf, false}, {"anyOf", s.AnyOf, false}} {
		if len(alternatives.schemas) > 0 {
			return t.alternatives(l, s, alternatives.step, alternatives.schemas, alternatives.all)
		}
	}
	if a := s.AdditionalProperties; a != nil && a.boolean == nil {
		value, err := t.typeOf(l.at("additionalProperties"), a)
		return goType{"map[string]" + value.expr, kindMap, nil}, err
	}
	if len(s.Type) == 0 && allStrings(s) {
		return goType{"string", kindString, nil}, nil
	}
	return raw, nil
}

// allStrings reports whether enum or const leave only strings.
func allStrings(s *schema) bool {
	values := s.Enum
	if len(s.Const) > 0 {
		values = append(values, s.Const)
	}
	for _, v := range values {
		if v[0] != '"' {
			return false
		}
	}
	return len(values) > 0
}

// branch is one of several schemas that together make a struct.
type branch struct {
	at location
	s  *schema
}

// alternatives makes one struct of several object schemas. If they are not all
// objects, it is their common type, or raw JSON.
func (t *typeSet) alternatives(l location, s *schema, step string, schemas []*schema, all bool) (goType, error) {
	var branches []branch
	objects := true
	var common goType
	for i, alternative := range schemas {
		at, resolved, err := t.docs.resolve(l.at(step, strconv.Itoa(i)), alternative)
		if err != nil {
			return raw, err
		}
		branches = append(branches, branch{at, resolved})
		if resolved.isObject() || resolved.isEmptyObject() {
			continue
		}
		objects = false
		typ := raw
		if resolved.typeName() != "object" && len(resolved.AllOf)+len(resolved.OneOf)+len(resolved.AnyOf) == 0 {
			if typ, err = t.inline(at, resolved); err != nil {
				return raw, err
			}
		}
		if i > 0 && typ.expr != common.expr {
			typ = raw
		}
		common = typ
	}
	anyObject := slices.ContainsFunc(branches, func(b branch) bool { return b.s.isObject() })
	switch {
	case objects && anyObject:
		return t.structOf(l, s, branches, all)
	case objects || anyObject:
		return raw, nil
	}
	return common, nil
}

// structOf declares a struct with the members of all branches. A member is
// required if all branches (or with all, any branch) require it.
func (t *typeSet) structOf(l location, s *schema, branches []branch, all bool) (goType, error) {
	if known, ok := t.structs[l]; ok {
		return goType{known.name, kindStruct, known}, nil
	}
	name := t.nameFor(l)
	def := &structType{name: name, doc: t.describe(name, l, s)}
	t.structs[l] = def // before its members, which may lead back here

	members := map[string]*field{}
	values := map[string][]string{}
	for _, b := range branches {
		for _, key := range slices.Sorted(maps.Keys(b.s.Properties)) {
			property := b.s.Properties[key]
			at, resolved, err := t.docs.resolve(b.at.at("properties", key), property)
			if err != nil {
				return raw, err
			}
			typ, err := t.typeOf(at, resolved)
			if err != nil {
				return raw, err
			}
			f := members[key]
			if f == nil {
				f = &field{json: key, typ: typ}
				members[key] = f
			} else if f.typ.expr != typ.expr {
				f.typ = raw
			}
			f.def = property.Default
			if f.def == nil {
				f.def = resolved.Default
			}
			f.doc = cmp.Or(f.doc, property.Description, property.Title, resolved.Description, resolved.Title)
			values[key] = append(values[key], enumValues(resolved)...)
		}
	}
	for key, f := range members {
		requiring := 0
		for _, b := range branches {
			if slices.Contains(b.s.Required, key) {
				requiring++
			}
		}
		f.required = requiring == len(branches) || all && requiring > 0
		if v := values[key]; len(v) > 0 && f.typ.kind == kindString {
			seen := map[string]bool{}
			v = slices.DeleteFunc(v, func(s string) bool { defer func() { seen[s] = true }(); return seen[s] })
			f.doc = strings.TrimSpace(f.doc + "\nOne of: " + strings.Join(v, ", ") + ".")
		}
	}
	taken := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		f := members[key]
		f.name = goName(key)
		for taken[f.name] {
			f.name += "_"
		}
		taken[f.name] = true
		def.fields = append(def.fields, *f)
	}
	if len(branches) > 1 && !all {
		def.doc = append(def.doc, "", fmt.Sprintf("It has %d forms; each uses some of the fields.", len(branches)))
	}
	return goType{name, kindStruct, def}, nil
}

func enumValues(s *schema) []string {
	values := s.Enum
	if len(s.Const) > 0 {
		values = []json.RawMessage{s.Const}
	}
	var out []string
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// describe makes the comment of a type.
func (t *typeSet) describe(name string, l location, s *schema) []string {
	where := "schemas/" + l.file
	if l.pointer != "" {
		where += "#" + l.pointer
	}
	doc := []string{name + " is " + where + "."}
	if text := strings.TrimSpace(cmp.Or(s.Description, s.Title)); text != "" {
		doc = append(append(doc, ""), wrap(text)...)
	}
	return doc
}

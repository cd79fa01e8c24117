package scopes

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Template is what an API method declares as the scopes it requires: an
// expression with parameters. The zero value says that the method is public.
type Template struct {
	root   *node
	params []Param
}

// Param is a parameter that a template refers to.
type Param struct {
	Name string
	Kind Kind
}

// Kind is the type of a template's parameter.
type Kind uint8

// The kinds of parameters, by where they are used: in a text as <name>, as "in"
// of a for, and as the condition of an if.
const (
	String Kind = iota
	Array
	Boolean
)

func (k Kind) String() string {
	switch k {
	case Array:
		return "array"
	case Boolean:
		return "boolean"
	}
	return "string"
}

type nodeKind uint8

const (
	nodeText nodeKind = iota
	nodeAllOf
	nodeAnyOf
	nodeFor
	nodeIf
)

// node is one element of a template.
type node struct {
	kind nodeKind
	text text   // of a text; "each" of a for
	name string // the variable of a for; the condition of an if
	in   string // the array of a for
	sub  []node // members of AllOf and AnyOf; "then" and perhaps "else" of an if
}

// text is a string split at its parameters: literals[0], params[0],
// literals[1], ... and a last literal.
type text struct {
	literals []string
	params   []string
}

// ParseTemplate reads the published JSON form of a template:
//
//	"text:<param>"                          a scope
//	{"AllOf": [...]}, {"AnyOf": [...]}      distinct templates
//	{"for": "x", "in": "xs", "each": "<x>"} one scope for each element of xs
//	{"if": "b", "then": ..., "else": ...}   else may be absent
//
// The keys must be exactly these. A for may be only inside AllOf or AnyOf,
// since it renders to any number of scopes. No parameter may be used as two
// kinds. The limits are those of ParseExpr.
func ParseTemplate(json []byte) (Template, error) {
	v, err := decode(json)
	if err != nil {
		return Template{}, fmt.Errorf("scope template %w", err)
	}
	root, err := nodeOf(v, false)
	if err != nil {
		return Template{}, fmt.Errorf("scope template %w", err)
	}
	t := Template{root: &root}
	if err := root.collect(&t.params, ""); err != nil {
		return Template{}, fmt.Errorf("scope template %w", err)
	}
	return t, nil
}

// MustParseTemplate is ParseTemplate for declarations in source code. It panics
// if the template is not valid.
func MustParseTemplate(json string) Template {
	t, err := ParseTemplate([]byte(json))
	if err != nil {
		panic(err)
	}
	return t
}

func nodeOf(v value, inComposite bool) (node, error) {
	switch {
	case v.kind == isText:
		t, err := textOf(v.text)
		return node{kind: nodeText, text: t}, err
	case v.only("AllOf"):
		return compositeOf(nodeAllOf, "AllOf", v.fields["AllOf"])
	case v.only("AnyOf"):
		return compositeOf(nodeAnyOf, "AnyOf", v.fields["AnyOf"])
	case v.only("for", "in", "each"):
		name, in, each := v.fields["for"], v.fields["in"], v.fields["each"]
		switch {
		case !inComposite:
			return node{}, errors.New(`contains a "for" that is not inside AllOf or AnyOf`)
		case !isParamName(name) || !isParamName(in):
			return node{}, errors.New(`contains a "for" whose "for" or "in" is not the name of a parameter`)
		case each.kind != isText:
			return node{}, errors.New(`contains a "for" whose "each" is not a string`)
		}
		t, err := textOf(each.text)
		return node{kind: nodeFor, name: name.text, in: in.text, text: t}, err
	case v.only("if", "then"), v.only("if", "then", "else"):
		if !isParamName(v.fields["if"]) {
			return node{}, errors.New(`contains an "if" that is not the name of a parameter`)
		}
		n := node{kind: nodeIf, name: v.fields["if"].text}
		for _, key := range [...]string{"then", "else"} {
			branch, ok := v.fields[key]
			if !ok {
				continue
			}
			sub, err := nodeOf(branch, inComposite)
			if err != nil {
				return node{}, err
			}
			n.sub = append(n.sub, sub)
		}
		return n, nil
	}
	return node{}, errors.New("must consist of strings and of objects with exactly the key AllOf, the key AnyOf, the keys for, in and each, or the keys if, then and perhaps else")
}

func compositeOf(kind nodeKind, key string, list value) (node, error) {
	if list.kind != isList {
		return node{}, fmt.Errorf("contains a value of %s that is not an array", key)
	}
	n := node{kind: kind, sub: make([]node, len(list.list))}
	seen := make(map[string]bool, len(list.list))
	for i, element := range list.list {
		var err error
		if n.sub[i], err = nodeOf(element, true); err != nil {
			return node{}, err
		}
		form := string(n.sub[i].appendJSON(nil))
		if seen[form] {
			return node{}, fmt.Errorf("contains %s twice in one %s", form, key)
		}
		seen[form] = true
	}
	return n, nil
}

// textOf splits s at each <name>. Other angle brackets stand for themselves.
func textOf(s string) (text, error) {
	if !Valid(s) {
		return text{}, fmt.Errorf("contains %q, which is not a scope", s)
	}
	var t text
	literal := 0 // where the current literal begins
	for i := 0; i < len(s); i++ {
		if s[i] != '<' {
			continue
		}
		end := i + 1 + nameLen(s[i+1:])
		if end == i+1 || end == len(s) || s[end] != '>' {
			continue
		}
		t.literals = append(t.literals, s[literal:i])
		t.params = append(t.params, s[i+1:end])
		literal, i = end+1, end
	}
	t.literals = append(t.literals, s[literal:])
	return t, nil
}

// nameLen returns how much of s is a parameter name: a letter, then letters,
// digits and underscores.
func nameLen(s string) int {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return i
		}
	}
	return len(s)
}

func isParamName(v value) bool {
	return v.kind == isText && v.text != "" && nameLen(v.text) == len(v.text)
}

// collect adds the parameters of n to params, except bound, the variable of the
// for around it.
func (n *node) collect(params *[]Param, bound string) error {
	add := func(name string, kind Kind) error {
		for _, p := range *params {
			if p.Name == name {
				if p.Kind != kind {
					return fmt.Errorf("uses the parameter %s both as %s and as %s", name, p.Kind, kind)
				}
				return nil
			}
		}
		*params = append(*params, Param{name, kind})
		return nil
	}
	switch n.kind {
	case nodeFor:
		if err := add(n.in, Array); err != nil {
			return err
		}
		bound = n.name
	case nodeIf:
		if err := add(n.name, Boolean); err != nil {
			return err
		}
	}
	for _, name := range n.text.params {
		if name == bound {
			continue
		}
		if err := add(name, String); err != nil {
			return err
		}
	}
	for i := range n.sub {
		if err := n.sub[i].collect(params, ""); err != nil {
			return err
		}
	}
	return nil
}

// IsPublic reports whether t is the zero Template: no scopes are required.
func (t Template) IsPublic() bool { return t.root == nil }

// Params returns the parameters of t in the order of their first use. Variables
// of a for are not among them.
func (t Template) Params() []Param { return slices.Clone(t.params) }

// MarshalJSON returns t as it is published in references, keys sorted. A public
// method has no scopes there; the zero Template gives null.
func (t Template) MarshalJSON() ([]byte, error) {
	if t.root == nil {
		return []byte("null"), nil
	}
	return t.root.appendJSON(nil), nil
}

func (n *node) appendJSON(dst []byte) []byte {
	switch n.kind {
	case nodeFor:
		dst = append(dst, `{"each":`...)
		dst = n.text.appendJSON(dst)
		dst = append(dst, `,"for":"`+n.name+`","in":"`+n.in+`"}`...)
		return dst
	case nodeIf:
		dst = append(dst, '{')
		if len(n.sub) == 2 {
			dst = append(dst, `"else":`...)
			dst = append(n.sub[1].appendJSON(dst), ',')
		}
		dst = append(dst, `"if":"`+n.name+`","then":`...)
		return append(n.sub[0].appendJSON(dst), '}')
	case nodeAllOf, nodeAnyOf:
		if n.kind == nodeAllOf {
			dst = append(dst, `{"AllOf":[`...)
		} else {
			dst = append(dst, `{"AnyOf":[`...)
		}
		for i := range n.sub {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = n.sub[i].appendJSON(dst)
		}
		return append(dst, `]}`...)
	}
	return n.text.appendJSON(dst)
}

func (t text) appendJSON(dst []byte) []byte {
	var b strings.Builder
	for i, literal := range t.literals {
		if i > 0 {
			b.WriteString("<" + t.params[i-1] + ">")
		}
		b.WriteString(literal)
	}
	return appendJSONString(dst, b.String())
}

// Render puts the values of p into t. A String parameter takes a string, an int
// or an int64, an Array a []string, a Boolean a bool. Values are put in as they
// are, without escaping. Values that t does not use are ignored. The result is
// public if t is, or if it is an if that is false and has no else.
//
// A value that is needed and missing or of another type is an error; it is one
// of the program, not of the caller of an API.
func (t Template) Render(p map[string]any) (e Expr, public bool, err error) {
	return t.render(&values{all: p})
}

// RenderStrings is Render for templates all of whose parameters are strings,
// such as those of a route. get returns the value of a parameter and whether
// there is one; it may be called twice for a parameter.
func (t Template) RenderStrings(get func(name string) (string, bool)) (Expr, bool, error) {
	for _, p := range t.params {
		if p.Kind != String {
			return Expr{}, false, fmt.Errorf("scope template needs the parameter %s, which is not a string but %s", p.Name, p.Kind)
		}
	}
	return t.render(&values{get: get})
}

func (t Template) render(v *values) (e Expr, public bool, err error) {
	if t.root == nil {
		return Expr{}, true, nil
	}
	if t.root.kind == nodeText {
		scope, err := t.root.text.render(v)
		return One(scope), false, err
	}
	out, err := t.root.appendTo(nil, v)
	if err != nil {
		return Expr{}, false, err
	}
	if len(out) == 0 { // an if; nothing else outside AllOf and AnyOf can be empty
		return Expr{}, true, nil
	}
	return out[0], false, nil
}

// values are the parameters of one rendering: all or get, and the variable of
// the for that is being rendered.
type values struct {
	all         map[string]any
	get         func(string) (string, bool)
	bound, elem string
}

func (v *values) str(name string) (string, error) {
	if v.bound == name {
		return v.elem, nil
	}
	if v.get != nil {
		if s, ok := v.get(name); ok {
			return s, nil
		}
		return "", fmt.Errorf("scope template parameter %s is missing", name)
	}
	switch x := v.all[name].(type) {
	case string:
		return x, nil
	case int:
		return strconv.Itoa(x), nil
	case int64:
		return strconv.FormatInt(x, 10), nil
	}
	return "", v.wrong(name, String)
}

// wrong returns the error for a parameter that is not of the given kind. It
// does not show the value.
func (v *values) wrong(name string, kind Kind) error {
	x, ok := v.all[name]
	if !ok {
		return fmt.Errorf("scope template parameter %s is missing", name)
	}
	return fmt.Errorf("scope template parameter %s must be of kind %s but is a %T", name, kind, x)
}

// appendTo appends what n renders to: nothing, an expression, or several.
func (n *node) appendTo(dst []Expr, v *values) ([]Expr, error) {
	switch n.kind {
	case nodeText:
		scope, err := n.text.render(v)
		return append(dst, One(scope)), err
	case nodeFor:
		list, ok := v.all[n.in].([]string)
		if !ok {
			return nil, v.wrong(n.in, Array)
		}
		v.bound = n.name
		defer func() { v.bound = "" }()
		dst = slices.Grow(dst, len(list))
		for _, elem := range list {
			v.elem = elem
			scope, err := n.text.render(v)
			if err != nil {
				return nil, err
			}
			dst = append(dst, One(scope))
		}
		return dst, nil
	case nodeIf:
		yes, ok := v.all[n.name].(bool)
		switch {
		case !ok:
			return nil, v.wrong(n.name, Boolean)
		case yes:
			return n.sub[0].appendTo(dst, v)
		case len(n.sub) == 2:
			return n.sub[1].appendTo(dst, v)
		}
		return dst, nil
	}
	sub := make([]Expr, 0, len(n.sub))
	for i := range n.sub {
		var err error
		if sub, err = n.sub[i].appendTo(sub, v); err != nil {
			return nil, err
		}
	}
	if n.kind == nodeAllOf {
		return append(dst, AllOf(sub...)), nil
	}
	return append(dst, AnyOf(sub...)), nil
}

func (t *text) render(v *values) (string, error) {
	if len(t.params) == 0 {
		return t.literals[0], nil
	}
	n := 0
	for _, literal := range t.literals {
		n += len(literal)
	}
	for _, name := range t.params {
		s, err := v.str(name)
		if err != nil {
			return "", err
		}
		n += len(s)
	}
	var b strings.Builder
	b.Grow(n)
	for i, literal := range t.literals {
		if i > 0 {
			s, err := v.str(t.params[i-1])
			if err != nil {
				return "", err
			}
			b.WriteString(s)
		}
		b.WriteString(literal)
	}
	return b.String(), nil
}

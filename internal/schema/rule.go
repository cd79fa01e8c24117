package schema

import (
	"fmt"
	"math"
	"strconv"
)

// rule is a schema prepared for filling in defaults and for the quick pass of
// [Schema.Accept]. A $ref is replaced by its target, so rules may be cyclic.
type rule struct {
	kinds                   kinds // of values allowed
	integer                 bool  // numbers must be integers
	slow                    bool  // holds keywords that the quick pass leaves to the library
	enum                    []string
	numEnum                 []string // literals
	pattern                 func(string) bool
	format                  func(string) bool
	patternText, formatName string // as published
	minLen                  int
	maxLen                  int     // -1: none
	min, max                float64 // may be infinite

	items    *rule
	maxItems int // -1: none
	unique   bool

	props      []property
	index      map[string]int
	required   int   // how many of the properties
	defaulting bool  // some have defaults
	additional *rule // nil: forbidden

	all     []*rule
	choices []*rule // anyOf, or oneOf; slow unless no two can hold
	oneOf   bool

	unchecked bool // scalars have no other condition than their kind
}

// anything allows all values. It is never changed.
var anything = func() *rule {
	r := newRule()
	r.additional, r.unchecked = r, true
	return r
}()

func newRule() *rule {
	return &rule{kinds: anyKind, maxLen: -1, maxItems: -1, min: math.Inf(-1), max: math.Inf(1)}
}

type property struct {
	name     string
	rule     *rule
	required bool
	fallback *node  // the default, or nil
	insert   []byte // `"name":default`
	trusted  bool   // the default satisfies the rule
}

// kinds is a set of jsonKind.
type kinds byte

func (k kinds) has(x jsonKind) bool { return k&(1<<x) != 0 }

const anyKind = kinds(1<<null | 1<<boolean | 1<<number | 1<<text | 1<<array | 1<<object)

type ruleCompiler struct {
	set   *Set
	fresh []*rule // made by this compiler
}

// finish settles what needs the rules complete.
func (c *ruleCompiler) finish() {
	for _, r := range c.fresh {
		r.unchecked = !r.enumerated() && r.pattern == nil && r.format == nil && r.minLen == 0 && r.maxLen < 0 &&
			!r.integer && math.IsInf(r.min, -1) && math.IsInf(r.max, 1)
		// Defaults come before alternatives, which the quick pass tries first.
		r.slow = r.slow || len(r.props) > 64 || r.choices != nil && (r.props != nil || r.items != nil)
	}
	for _, r := range c.fresh {
		for i := range r.props {
			if p := &r.props[i]; p.fallback != nil {
				r.defaulting = true
				q := scanner{src: string(p.fallback.raw), within: 1}
				p.trusted = q.value(p.rule, 0) && q.pos == len(q.src)
			}
		}
	}
}

// exclusive reports whether no value can satisfy two of the schemas: each
// requires one property to have a string that no other allows.
func exclusive(alternatives []*rule) bool {
	for _, p := range alternatives[0].props {
		seen := map[string]bool{}
		for _, r := range alternatives {
			i, ok := r.index[p.name]
			if !ok || !r.props[i].required || r.kinds != 1<<object {
				break
			}
			if values := r.props[i].rule.enum; len(values) == 1 && len(r.props[i].rule.numEnum) == 0 && !r.props[i].rule.slow {
				seen[values[0]] = true
			}
		}
		if len(seen) == len(alternatives) {
			return true
		}
	}
	return false
}

// rule prepares the schema n of the document called name. The lock is held.
func (c *ruleCompiler) rule(n *node, name string) (*rule, error) {
	if ref := n.member("$ref"); n.kind == object && ref != nil && ref.kind == text {
		if ref.str == draft06 {
			return &rule{kinds: anyKind, slow: true}, nil
		}
		target, name, err := c.set.resolve(name, ref.str)
		if err != nil {
			return nil, err
		}
		return c.rule(target, name)
	}
	if r := c.set.rules[n]; r != nil {
		return r, nil
	}
	r := newRule()
	c.set.rules[n] = r
	c.fresh = append(c.fresh, r)
	return r, c.fill(r, n, name)
}

func (c *ruleCompiler) fill(r *rule, n *node, name string) (err error) {
	if n.kind != object {
		return fmt.Errorf("a schema must be an object, not %s", n.raw)
	}
	r.additional = anything
	for _, m := range n.members {
		v := m.value
		switch m.name {
		case "$id", "$schema", "title", "description", "default", "definitions", "metadata", "formt", "required":
		case "type":
			err = r.allow(v)
		case "enum":
			for _, e := range v.items {
				switch e.kind {
				case text:
					r.enum = append(r.enum, e.str)
				case number:
					r.numEnum = append(r.numEnum, string(e.raw))
				default:
					r.slow = true
				}
			}
		case "pattern":
			r.patternText = v.str
			r.pattern, err = matcher(v.str)
		case "format":
			r.formatName = v.str
			for _, f := range stringFormats {
				if f.name == v.str {
					r.format = f.ok
				}
			}
			r.slow = r.slow || r.format == nil
		case "minLength":
			r.minLen, err = strconv.Atoi(string(v.raw))
		case "maxLength":
			r.maxLen, err = strconv.Atoi(string(v.raw))
		case "maxItems":
			r.maxItems, err = strconv.Atoi(string(v.raw))
		case "minimum":
			r.min, err = bound(v)
		case "maximum":
			r.max, err = bound(v)
		case "uniqueItems":
			r.unique = v.raw[0] == 't'
		case "items":
			r.items, err = c.rule(v, name)
		case "additionalProperties":
			switch {
			case v.kind == object:
				r.additional, err = c.rule(v, name)
			case v.raw[0] == 'f':
				r.additional = nil
			}
		case "properties":
			err = c.properties(r, n, v, name)
		case "allOf":
			r.slow = true
			for _, e := range v.items {
				sub, err := c.rule(e, name)
				if err != nil {
					return err
				}
				r.all = append(r.all, sub)
			}
		case "oneOf", "anyOf":
			r.oneOf = m.name == "oneOf"
			for _, e := range v.items {
				sub, err := c.rule(e, name)
				if err != nil {
					return err
				}
				r.choices = append(r.choices, sub)
			}
			r.slow = r.slow || n.member("oneOf") != nil && (n.member("anyOf") != nil || !exclusive(r.choices))
		default:
			r.slow = true
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

func bound(v *node) (float64, error) { return strconv.ParseFloat(string(v.raw), 64) }

// allow reads the types of values.
func (r *rule) allow(v *node) error {
	list := v.items
	if v.kind == text {
		list = []*node{v}
	}
	r.kinds = 0
	fractions := false
	for _, t := range list {
		switch t.str {
		case "null":
			r.kinds |= 1 << null
		case "boolean":
			r.kinds |= 1 << boolean
		case "number", "integer":
			r.kinds |= 1 << number
			fractions = fractions || t.str == "number"
			r.integer = !fractions
		case "string":
			r.kinds |= 1 << text
		case "array":
			r.kinds |= 1 << array
		case "object":
			r.kinds |= 1 << object
		default:
			return fmt.Errorf("unknown type %s", t.raw)
		}
	}
	return nil
}

// types names the types of values allowed.
func (r *rule) types() (names []string) {
	numeric := "number"
	if r.integer {
		numeric = "integer"
	}
	for _, k := range []struct {
		kind jsonKind
		name string
	}{{null, "null"}, {boolean, "boolean"}, {number, numeric}, {text, "string"}, {array, "array"}, {object, "object"}} {
		if r.kinds.has(k.kind) {
			names = append(names, k.name)
		}
	}
	return names
}

func (c *ruleCompiler) properties(r *rule, n, v *node, name string) error {
	needed := map[string]bool{}
	if list := n.member("required"); list != nil {
		for _, e := range list.items {
			needed[e.str] = true
		}
	}
	r.index = make(map[string]int, len(v.members))
	for i, m := range v.members {
		sub, err := c.rule(m.value, name)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		p := property{name: m.name, rule: sub, required: needed[m.name], fallback: m.value.member("default")}
		if p.fallback != nil {
			p.insert = append(append(append(p.insert, m.raw...), ':'), p.fallback.raw...)
		}
		r.props = append(r.props, p)
		r.index[m.name] = i
		if p.required {
			r.required++
		}
	}
	return nil
}

// defaults writes the defaults into n, and reports whether there were any to
// write. Alternatives (oneOf, anyOf) are left alone, as by Ajv.
func (r *rule) defaults(n *node) (changed bool) {
	for _, sub := range r.all {
		changed = sub.defaults(n) || changed
	}
	switch n.kind {
	case object:
		for i := range r.props {
			p := &r.props[i]
			if have := n.member(p.name); have != nil {
				changed = p.rule.defaults(have) || changed
			} else if p.fallback != nil {
				raw := p.insert[:len(p.insert)-len(p.fallback.raw)-1]
				n.members = append(n.members, member{p.name, raw, p.fallback})
				changed = true
			}
		}
	case array:
		if r.items != nil {
			for _, e := range n.items {
				changed = r.items.defaults(e) || changed
			}
		}
	}
	return changed
}

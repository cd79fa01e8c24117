package scopes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Expr is a scope expression: a scope, AnyOf or AllOf. It is immutable. The
// zero value requires the empty scope, so that it grants nothing by accident.
type Expr struct {
	op    op
	scope string
	sub   []Expr
}

type op uint8

const (
	opScope op = iota
	opAllOf
	opAnyOf
)

func (o op) key() string {
	if o == opAllOf {
		return "AllOf"
	}
	return "AnyOf"
}

// One returns the expression that requires one scope.
func One(scope string) Expr { return Expr{scope: scope} }

// AllOf returns the expression that requires all of sub. Without any it is
// satisfied by every set.
func AllOf(sub ...Expr) Expr { return Expr{op: opAllOf, sub: sub} }

// AnyOf returns the expression that requires at least one of sub. Without any
// it is satisfied by no set.
func AnyOf(sub ...Expr) Expr { return Expr{op: opAnyOf, sub: sub} }

// ParseExpr reads the JSON form of an expression: a valid scope, {"AllOf":
// [...]} or {"AnyOf": [...]} with no other key. It refuses what is longer than
// MaxExprBytes or nested deeper than MaxExprDepth.
func ParseExpr(json []byte) (Expr, error) {
	v, err := decode(json)
	if err != nil {
		return Expr{}, fmt.Errorf("scope expression %w", err)
	}
	e, err := exprOf(v)
	if err != nil {
		return Expr{}, fmt.Errorf("scope expression %w", err)
	}
	return e, nil
}

func exprOf(v value) (Expr, error) {
	if v.kind == isText {
		if !Valid(v.text) {
			return Expr{}, fmt.Errorf("contains %q, which is not a scope", v.text)
		}
		return One(v.text), nil
	}
	for _, o := range [...]op{opAllOf, opAnyOf} {
		if !v.only(o.key()) {
			continue
		}
		list := v.fields[o.key()]
		if list.kind != isList {
			return Expr{}, fmt.Errorf("contains a value of %s that is not an array", o.key())
		}
		e := Expr{op: o, sub: make([]Expr, len(list.list))}
		for i, element := range list.list {
			var err error
			if e.sub[i], err = exprOf(element); err != nil {
				return Expr{}, err
			}
		}
		return e, nil
	}
	return Expr{}, errors.New("must consist of strings and of objects whose only key is AllOf or AnyOf")
}

// MarshalJSON implements json.Marshaler.
func (e Expr) MarshalJSON() ([]byte, error) { return e.appendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler; see ParseExpr.
func (e *Expr) UnmarshalJSON(json []byte) (err error) {
	*e, err = ParseExpr(json)
	return err
}

func (e Expr) appendJSON(dst []byte) []byte {
	if e.op == opScope {
		return appendJSONString(dst, e.scope)
	}
	dst = append(dst, `{"`...)
	dst = append(dst, e.op.key()...)
	dst = append(dst, `":[`...)
	for i, sub := range e.sub {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = sub.appendJSON(dst)
	}
	return append(dst, `]}`...)
}

// String returns e as the messages of 403 replies show it: one scope bare, a
// composite as JSON indented by two spaces.
func (e Expr) String() string {
	if e.op == opScope {
		return e.scope
	}
	var b bytes.Buffer
	_ = json.Indent(&b, e.appendJSON(nil), "", "  ") // appendJSON makes valid JSON
	return b.String()
}

// SatisfiedBy reports whether s satisfies e.
func (e Expr) SatisfiedBy(s Set) bool {
	switch e.op {
	case opAllOf:
		for i := range e.sub {
			if !e.sub[i].SatisfiedBy(s) {
				return false
			}
		}
		return true
	case opAnyOf:
		for i := range e.sub {
			if e.sub[i].SatisfiedBy(s) {
				return true
			}
		}
		return false
	}
	return s.Has(e.scope)
}

// Satisfying returns the required scopes by which s satisfies e, those of every
// satisfied branch of an AnyOf among them, normalised and not nil. If s does
// not satisfy e it returns nil and false.
func (e Expr) Satisfying(s Set) (used []string, ok bool) {
	used, ok = e.appendSatisfying(nil, s)
	if !ok {
		return nil, false
	}
	return Normalize(used), true
}

// appendSatisfying returns dst as it was if s does not satisfy e.
func (e Expr) appendSatisfying(dst []string, s Set) ([]string, bool) {
	if e.op == opScope {
		if !s.Has(e.scope) {
			return dst, false
		}
		return append(dst, e.scope), true
	}
	before, any := len(dst), false
	for i := range e.sub {
		var ok bool
		dst, ok = e.sub[i].appendSatisfying(dst, s)
		any = any || ok
		if !ok && e.op == opAllOf {
			return dst[:before], false
		}
	}
	return dst, any || e.op == opAllOf
}

// Unsatisfied returns what of e is missing in s, and whether anything is.
// Satisfied members of an AllOf are left out, an AnyOf is kept whole unless one
// of its branches is satisfied, and composites of one member collapse into it.
func (e Expr) Unsatisfied(s Set) (Expr, bool) {
	if e.op == opScope {
		if s.Has(e.scope) {
			return Expr{}, false
		}
		return e, true
	}
	var rest []Expr
	for i := range e.sub {
		missing, any := e.sub[i].Unsatisfied(s)
		switch {
		case any:
			rest = append(rest, missing)
		case e.op == opAnyOf:
			return Expr{}, false
		}
	}
	switch {
	case len(rest) == 1:
		return rest[0], true
	case len(rest) == 0 && e.op == opAllOf:
		return Expr{}, false
	}
	return Expr{op: e.op, sub: rest}, true
}

package scopes

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Role says that whoever has the scope "assume:<ID>" also has Scopes. If ID
// ends in a star, the token <..> in a scope stands for what the holder has in
// the star's place.
type Role struct {
	ID     string
	Scopes []string
}

// CycleError says that roles grant each other in a circle.
type CycleError struct {
	Cycle []string // ids of roles, the first repeated at the end
}

func (e *CycleError) Error() string {
	return "Roles may not contain dependency cycles, found: 'assume:" +
		strings.Join(e.Cycle, "' -> 'assume:") + "'"
}

// InvalidScopeError says that a scope of a parameterised role is ambiguous.
type InvalidScopeError struct {
	Role    string // its id
	Scope   string
	Problem string
}

func (e *InvalidScopeError) Error() string {
	return fmt.Sprintf("parameterized scope '%s' %s", e.Scope, e.Problem)
}

const token = "<..>"

// compiled is a set of roles made ready for expansion. Three facts carry it:
//
// Roles lie in the order of Compare of their ids. So the roles that the holder
// of "assume:q*" has are a range, those whose ids begin with q; in it every
// parameter is "*".
//
// Each role knows the closest prefix role that encloses it (up). So the prefix
// roles whose prefixes begin "assume:x" are a chain, found from the place of x
// in the order.
//
// Every scope that some role grants whatever its holder has in the star's
// place, and what it grants for the parameter "*", is known beforehand. These
// scopes have numbers in the order of Compare, and an expansion is mostly a set
// of numbers: it needs neither comparisons nor sorting.
type compiled struct {
	roles  []compiledRole
	scopes []string // distinct, in the order of Compare
	covers []int32  // for each scope the number after the last one it satisfies
	links  []link   // for each scope the roles it gives
}

type compiledRole struct {
	id     string
	text   string // id without the star of a prefix role
	prefix bool
	up     int32 // the prefix role with the longest prefix of text; -1 if none
	// Numbers of scopes: granted always, and granted for the parameter "*".
	fixed, star []int32
	params      []param // granted for other parameters
}

// param is a scope with a token: before + parameter + after.
type param struct{ before, after string }

// link is the roles that a scope "assume:x" gives: roles[lo:hi], those of
// prefix roles with the parameter "*", and up with all that enclose it, with
// the rest of x as the parameter.
type link struct{ lo, hi, up int32 }

var noLink = link{up: -1}

func (l link) empty() bool { return l.lo == l.hi && l.up < 0 }

func compile(roles []Role) (*compiled, error) {
	c := &compiled{roles: make([]compiledRole, len(roles))}
	interned := map[string]int32{}
	intern := func(scope string) int32 {
		i, ok := interned[scope]
		if !ok {
			i = int32(len(interned))
			interned[scope] = i
			c.scopes = append(c.scopes, scope)
		}
		return i
	}
	for i, role := range roles {
		r := &c.roles[i]
		r.id = role.ID
		r.text, r.prefix = cutStar(role.ID)
		for _, scope := range role.Scopes {
			before, after, ok := strings.Cut(scope, token)
			if !ok || !r.prefix {
				r.fixed = append(r.fixed, intern(scope))
				continue
			}
			if problem := checkParam(scope); problem != "" {
				return nil, &InvalidScopeError{Role: role.ID, Scope: scope, Problem: problem}
			}
			r.star = append(r.star, intern(before+"*"))
			r.params = append(r.params, param{before, after})
		}
	}
	c.numberScopes(interned)
	slices.SortStableFunc(c.roles, func(a, b compiledRole) int {
		return compareCut(a.text, a.prefix, b.text, b.prefix)
	})
	for i := range c.roles {
		c.roles[i].up = c.enclosing(i-1, c.roles[i].text)
	}
	c.links = make([]link, len(c.scopes))
	for i, scope := range c.scopes {
		c.links[i] = c.link(scope)
	}
	if cycle := c.cycle(); cycle != nil {
		return nil, &CycleError{cycle}
	}
	return c, nil
}

// checkParam returns what is wrong with a scope of a prefix role that has a
// token; "" if nothing is.
func checkParam(scope string) string {
	switch {
	case strings.Count(scope, token) > 1:
		return "contains multiple '" + token + "'"
	case strings.HasSuffix(scope, "*"+token):
		return "ends with '*" + token + "' which implies an ambiguous kleene"
	}
	return ""
}

// numberScopes sorts the scopes, gives each its place as its number and finds
// what it covers.
func (c *compiled) numberScopes(interned map[string]int32) {
	slices.SortFunc(c.scopes, Compare)
	number := make([]int32, len(c.scopes)) // by the number of first occurrence
	c.covers = make([]int32, len(c.scopes))
	for i, scope := range c.scopes {
		number[interned[scope]] = int32(i)
		c.covers[i] = int32(c.coveredEnd(i+1, scope))
	}
	for i := range c.roles {
		for _, list := range [...][]int32{c.roles[i].fixed, c.roles[i].star} {
			for j := range list {
				list[j] = number[list[j]]
			}
		}
	}
}

// coveredEnd returns the number of the first scope, from number i on, that
// scope does not satisfy, where scope belongs directly before i.
func (c *compiled) coveredEnd(i int, scope string) int {
	base, star := cutStar(scope)
	if !star {
		return i
	}
	return i + sort.Search(len(c.scopes)-i, func(j int) bool {
		return !strings.HasPrefix(c.scopes[i+j], base)
	})
}

// assumed returns x if scope is "assume:x", and "*" if scope is a star scope
// that satisfies every such scope.
func assumed(scope string) (x string, ok bool) {
	const prefix = "assume:"
	if strings.HasPrefix(scope, prefix) {
		return scope[len(prefix):], true
	}
	if base, star := cutStar(scope); star && strings.HasPrefix(prefix, base) {
		return "*", true
	}
	return "", false
}

// link returns the roles that scope gives.
func (c *compiled) link(scope string) link {
	x, ok := assumed(scope)
	if !ok {
		return noLink
	}
	base, star := cutStar(x)
	var lo, hi int
	if star {
		lo = sort.Search(len(c.roles), func(i int) bool { return c.roles[i].text >= base })
		hi = lo + sort.Search(len(c.roles)-lo, func(i int) bool {
			return !strings.HasPrefix(c.roles[lo+i].text, base)
		})
	} else {
		hi = sort.Search(len(c.roles), func(i int) bool { return c.roles[i].text > x })
		for lo = hi; lo > 0 && c.roles[lo-1].text == x && !c.roles[lo-1].prefix; {
			lo--
		}
	}
	return link{int32(lo), int32(hi), c.enclosing(lo-1, base)}
}

// enclosing returns the prefix role with the longest prefix of text among
// roles[:i+1], none of which is after text; -1 if there is none.
//
// What lies between a prefix of text and text itself begins with that prefix.
// So each prefix role sought encloses roles[i], or is it.
func (c *compiled) enclosing(i int, text string) int32 {
	if i < 0 {
		return -1
	}
	p := int32(i)
	if !c.roles[i].prefix {
		p = c.roles[i].up
	}
	for p >= 0 && !strings.HasPrefix(text, c.roles[p].text) {
		p = c.roles[p].up
	}
	return p
}

// cycle returns the ids of roles that depend on each other in a circle, nil if
// there are none. A role depends on those that its scopes give, with "*" for
// each parameter. The search follows the order of the ids, so its result does
// not depend on the order in which the roles were given.
func (c *compiled) cycle() []string {
	s := cycleSearch{
		compiled:   c,
		roles:      make([]uint8, len(c.roles)),
		scopesDone: make([]bool, len(c.scopes)),
	}
	for i := range c.roles {
		if s.role(int32(i)) {
			return s.found
		}
	}
	return nil
}

// cycleSearch is a depth-first search over roles and the scopes between them.
type cycleSearch struct {
	*compiled
	roles      []uint8 // roleNew, roleOpen, roleDone
	scopesDone []bool
	path       []int32 // open roles
	found      []string
}

const (
	roleNew uint8 = iota
	roleOpen
	roleDone
)

func (s *cycleSearch) role(i int32) bool {
	switch s.roles[i] {
	case roleDone:
		return false
	case roleOpen:
		for _, r := range append(s.path[slices.Index(s.path, i):], i) {
			s.found = append(s.found, s.compiled.roles[r].id)
		}
		return true
	}
	s.roles[i] = roleOpen
	s.path = append(s.path, i)
	r := &s.compiled.roles[i]
	for _, list := range [...][]int32{r.fixed, r.star} {
		for _, n := range list {
			if s.scope(n) {
				return true
			}
		}
	}
	s.path = s.path[:len(s.path)-1]
	s.roles[i] = roleDone
	return false
}

func (s *cycleSearch) scope(n int32) bool {
	if s.scopesDone[n] {
		return false
	}
	l := s.links[n]
	for i := l.lo; i < l.hi; i++ {
		if s.role(i) {
			return true
		}
	}
	for i := l.up; i >= 0; i = s.compiled.roles[i].up {
		if s.role(i) {
			return true
		}
	}
	s.scopesDone[n] = true
	return false
}

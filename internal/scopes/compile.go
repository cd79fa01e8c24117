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
// place, what it grants for the parameter "*", and what follows from these, is
// known beforehand. These scopes have numbers in the order of Compare, and an
// expansion is mostly a set of numbers: it needs neither comparisons nor
// sorting.
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
type link struct {
	lo, hi, up int32
	// If known is set, the numbers of the scopes that up and those around it
	// grant for their parameters are derived. Otherwise they are to be worked
	// out.
	known   bool
	derived []int32
}

var noLink = link{up: -1}

func (l link) empty() bool { return l.lo == l.hi && l.up < 0 }

// maxDerived is how many bytes of scopes that follow from those in roles are
// worked out beforehand, each scope taken for scopeOverhead more than its
// length. Parameters can make more than anybody wants to keep.
const maxDerived = 8 << 20

// interner gives scopes numbers in the order in which they come up.
type interner struct {
	numbers map[string]int32
	scopes  []string
}

func (in *interner) number(scope string) int32 {
	n, ok := in.numbers[scope]
	if !ok {
		n = int32(len(in.scopes))
		in.numbers[scope] = n
		in.scopes = append(in.scopes, scope)
	}
	return n
}

func compile(roles []Role, maxDerived int) (*compiled, error) {
	c := &compiled{roles: make([]compiledRole, len(roles))}
	in := &interner{numbers: map[string]int32{}}
	for i, role := range roles {
		r := &c.roles[i]
		r.id = role.ID
		r.text, r.prefix = cutStar(role.ID)
		for _, scope := range role.Scopes {
			before, after, ok := strings.Cut(scope, token)
			if !ok || !r.prefix {
				r.fixed = append(r.fixed, in.number(scope))
				continue
			}
			if problem := checkParam(scope); problem != "" {
				return nil, &InvalidScopeError{Role: role.ID, Scope: scope, Problem: problem}
			}
			r.star = append(r.star, in.number(before+"*"))
			r.params = append(r.params, param{before, after})
		}
	}
	slices.SortStableFunc(c.roles, func(a, b compiledRole) int {
		return compareCut(a.text, a.prefix, b.text, b.prefix)
	})
	for i := range c.roles {
		c.roles[i].up = c.enclosing(i-1, c.roles[i].text)
	}
	c.linkNew(in)
	if cycle := c.cycle(); cycle != nil {
		return nil, &CycleError{cycle}
	}
	c.derive(in, maxDerived)
	c.order()
	return c, nil
}

// linkNew takes over the scopes that have been interned since the last call.
func (c *compiled) linkNew(in *interner) {
	c.scopes = in.scopes
	for _, scope := range c.scopes[len(c.links):] {
		c.links = append(c.links, c.link(scope))
	}
}

// derive works out what known scopes give through parameters, until there is
// nothing new or it is more than so many bytes.
func (c *compiled) derive(in *interner, most int) {
	bytes := 0
	for i := 0; i < len(c.scopes); i++ {
		l := &c.links[i]
		x, _ := assumed(c.scopes[i])
		for p := l.up; p >= 0; p = c.roles[p].up {
			parameter := x[len(c.roles[p].text):]
			for _, param := range c.roles[p].params {
				scope := param.with(parameter)
				if bytes += len(scope) + scopeOverhead; bytes > most {
					l.derived = nil
					c.linkNew(in)
					return
				}
				l.derived = append(l.derived, in.number(scope))
			}
		}
		l.known = true
		c.linkNew(in)
	}
}

// with puts in the parameter. If that ends in a star, what follows is dropped.
func (p param) with(parameter string) string {
	if _, star := cutStar(parameter); star {
		return p.before + parameter
	}
	return p.before + parameter + p.after
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

// order sorts the scopes, gives each its place as its number and finds what it
// covers.
func (c *compiled) order() {
	order := make([]int32, len(c.scopes))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return Compare(c.scopes[a], c.scopes[b]) })
	scopes, links := make([]string, len(order)), make([]link, len(order))
	number := make([]int32, len(order))
	for i, old := range order {
		scopes[i], links[i], number[old] = c.scopes[old], c.links[old], int32(i)
	}
	c.scopes, c.links = scopes, links
	renumber := func(list []int32) {
		for i := range list {
			list[i] = number[list[i]]
		}
	}
	for i := range c.roles {
		renumber(c.roles[i].fixed)
		renumber(c.roles[i].star)
	}
	c.covers = make([]int32, len(order))
	for i := range c.scopes {
		renumber(c.links[i].derived)
		c.covers[i] = int32(c.coveredEnd(i+1, c.scopes[i]))
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
	return link{lo: int32(lo), hi: int32(hi), up: c.enclosing(lo-1, base)}
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

package scopes

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// Resolver expands scopes by a fixed set of roles. Compile makes one; it may be
// used by several goroutines at once and must not be copied. When a role
// changes, compile a new one.
type Resolver struct {
	roles   *compiled
	queries sync.Pool
	cache   *cache
	most    int        // bytes that one expansion may derive
	large   sync.Mutex // held by an expansion that has derived more than largeExpansion
}

const (
	// maxExpansion is how many bytes of scopes one expansion may derive, each
	// scope taken for scopeOverhead more than its length. It counts only what is
	// made by putting a holder's parameter into a role's scopes: what roles grant
	// as it stands is no more than what is stored. Real deployments derive a few
	// kilobytes.
	maxExpansion = 16 << 20
	// largeExpansion is from where on an expansion waits until it is the only
	// such one, so that many at once need no more memory than one.
	largeExpansion = 1 << 20
	scopeOverhead  = 64
)

// ExpansionError says that scopes expand to more than anybody can use.
type ExpansionError struct {
	Role string // id of one of the prefix roles that make so many
	Most int    // how many bytes one expansion may derive
}

func (e *ExpansionError) Error() string {
	return fmt.Sprintf("The scopes cannot be expanded: roles with parameters, 'assume:%s' among them, make more than %d MiB of other scopes of them. "+
		"Change these roles so that fewer of their scopes that have '%s' lead to another role.", e.Role, e.Most>>20, token)
}

// Compile makes the Resolver of a set of roles. The order of roles does not
// matter. The error is an *InvalidScopeError or a *CycleError.
func Compile(roles []Role) (*Resolver, error) {
	c, err := compile(roles, maxDerived)
	if err != nil {
		return nil, err
	}
	return newResolver(c), nil
}

func newResolver(c *compiled) *Resolver {
	r := &Resolver{roles: c, cache: newCache(maxCachedSets, maxCachedBytes), most: maxExpansion}
	r.queries.New = func() any {
		return &query{
			compiled: c,
			granted:  newBitset(len(c.scopes)),
			fixed:    newBitset(len(c.roles)),
			starred:  newBitset(len(c.roles)),
			seen:     map[string]struct{}{},
		}
	}
	return r
}

// Expand returns scopes with everything that roles grant to their holder, role
// by role until nothing is added, in normal form. It does not add
// "assume:anonymous". The latest results are remembered. The error is an
// *ExpansionError.
func (r *Resolver) Expand(scopes []string) (Set, error) {
	if len(scopes) == 0 {
		return Set{}, nil
	}
	hash := r.cache.hash(scopes)
	if set, ok := r.cache.get(hash, scopes); ok {
		return set, nil
	}
	// The result outlives the call, but the memory that the caller's strings
	// are part of should not.
	own := cloneStrings(scopes)
	set, derived, err := r.expand(own)
	if err != nil {
		return Set{}, err
	}
	r.cache.put(hash, own, set, derived)
	return set, nil
}

// Uncached is Expand without the memory.
func (r *Resolver) Uncached(scopes []string) (Set, error) {
	if len(scopes) == 0 {
		return Set{}, nil
	}
	set, _, err := r.expand(scopes)
	return set, err
}

// expand also tells how many bytes it derived at most.
func (r *Resolver) expand(scopes []string) (set Set, derived int, err error) {
	if !isNormal(scopes) {
		scopes = Normalize(scopes)
	}
	q := r.queries.Get().(*query)
	list, err := q.expand(r, scopes)
	if q.alone {
		r.large.Unlock()
	}
	derived = q.derived
	if q.reset() {
		r.queries.Put(q)
	}
	return Set{list}, derived, err
}

// cloneStrings returns a copy of list whose strings share one new array.
func cloneStrings(list []string) []string {
	joined := strings.Join(list, "")
	out := make([]string, len(list))
	for i, s := range list {
		out[i], joined = joined[:len(s)], joined[len(s):]
	}
	return out
}

// query is the state of one expansion.
type query struct {
	*compiled
	granted bitset   // known scopes
	fixed   bitset   // roles whose fixed scopes are granted
	starred bitset   // roles whose scopes for the parameter "*" are granted
	others  []placed // scopes that are not among the known ones
	seen    map[string]struct{}
	work    []holding
	out     []string
	derived int  // bytes that were derived, those that were known already included
	alone   bool // Resolver.large is held
}

// placed is a scope and the number that it comes before.
type placed struct {
	scope string
	at    int32
}

// holding is a scope "assume:..." whose roles are still to be granted.
type holding struct {
	scope string
	link  *link
}

func (q *query) expand(r *Resolver, scopes []string) ([]string, error) {
	for _, scope := range scopes {
		q.add(scope)
	}
	for n := len(q.work); n > 0; n = len(q.work) {
		h := q.work[n-1]
		q.work[n-1] = holding{}
		q.work = q.work[:n-1]
		for i := h.link.lo; i < h.link.hi; i++ {
			q.grantStar(i)
		}
		for i := h.link.up; i >= 0; i = q.roles[i].up {
			q.grantFixed(i)
			if !h.link.known {
				x, _ := assumed(h.scope)
				if !q.grantParameter(r, i, x[len(q.roles[i].text):]) {
					return nil, &ExpansionError{Role: q.roles[i].id, Most: r.most}
				}
			}
		}
		for _, n := range h.link.derived {
			q.addKnown(n)
		}
	}
	return q.result(), nil
}

// add grants one scope.
func (q *query) add(scope string) {
	base, star := cutStar(scope)
	at, known := find(q.scopes, base, star)
	if known {
		q.addKnown(int32(at))
		return
	}
	if _, ok := assumed(scope); ok {
		if _, ok := q.seen[scope]; ok {
			return
		}
		q.seen[scope] = struct{}{}
		if l := q.link(scope); !l.empty() {
			q.work = append(q.work, holding{scope, &l})
		}
	}
	q.others = append(q.others, placed{scope, int32(at)})
}

func (q *query) addKnown(n int32) {
	if !q.granted.add(n) {
		return
	}
	if l := &q.links[n]; !l.empty() {
		q.work = append(q.work, holding{q.scopes[n], l})
	}
}

func (q *query) grantFixed(i int32) {
	if !q.fixed.add(i) {
		return
	}
	for _, n := range q.roles[i].fixed {
		q.addKnown(n)
	}
}

// grantStar grants role i with the parameter "*".
func (q *query) grantStar(i int32) {
	if !q.starred.add(i) {
		return
	}
	q.grantFixed(i)
	for _, n := range q.roles[i].star {
		q.addKnown(n)
	}
}

// grantParameter grants what role i grants for a parameter, and reports whether
// that was not too much. If the role was granted with "*" it has nothing to add,
// since that satisfies all that other parameters give.
func (q *query) grantParameter(r *Resolver, i int32, parameter string) bool {
	if q.starred.has(i) {
		return true
	}
	for _, p := range q.roles[i].params {
		scope := p.with(parameter)
		// Also what is not new counts: it takes time.
		q.derived += len(scope) + scopeOverhead
		if q.derived > r.most {
			return false
		}
		if q.derived > largeExpansion && !q.alone {
			r.large.Lock()
			q.alone = true
		}
		q.add(scope)
	}
	return true
}

// result merges known and other scopes into the normal form. What the scope
// emitted last covers is skipped; it is the only one that can cover the next.
func (q *query) result() []string {
	slices.SortFunc(q.others, func(a, b placed) int { return Compare(a.scope, b.scope) })
	next := int32(0) // the first number not yet dealt with
	for _, o := range q.others {
		next = q.emit(next, o.at)
		if before := len(q.out); before > 0 && Satisfies(q.out[before-1], o.scope) {
			continue
		}
		q.out = append(q.out, o.scope)
		next = max(next, int32(q.coveredEnd(int(o.at), o.scope)))
	}
	q.emit(next, int32(len(q.scopes)))
	return slices.Clone(q.out)
}

// emit puts out the granted scopes with numbers from next up to end and returns
// the first number that is neither dealt with nor covered.
func (q *query) emit(next, end int32) int32 {
	for next = q.granted.next(next); next < end; next = q.granted.next(next) {
		q.out = append(q.out, q.scopes[next])
		next = q.covers[next]
	}
	return max(next, end)
}

// reset makes q ready for the next expansion. It reports whether q is small
// enough to keep.
func (q *query) reset() bool {
	const most = 1 << 12
	if len(q.seen) > most || cap(q.others) > most || cap(q.out) > 2*max(most, len(q.scopes)) {
		return false
	}
	q.derived, q.alone = 0, false
	clear(q.granted)
	clear(q.fixed)
	clear(q.starred)
	clear(q.seen)
	clear(q.others)
	clear(q.out)
	clear(q.work) // not empty after an error
	q.others, q.out, q.work = q.others[:0], q.out[:0], q.work[:0]
	return true
}

// bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) has(i int32) bool { return b[i>>6]&(1<<(i&63)) != 0 }

// add adds i and reports whether it was new.
func (b bitset) add(i int32) bool {
	word, bit := &b[i>>6], uint64(1)<<(i&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// next returns the smallest member that is at least i; 64 times the length of b
// or more if there is none.
func (b bitset) next(i int32) int32 {
	word := int(i >> 6)
	if word >= len(b) {
		return i
	}
	rest := b[word] &^ (1<<(i&63) - 1)
	for rest == 0 {
		if word++; word == len(b) {
			return int32(word << 6)
		}
		rest = b[word]
	}
	return int32(word<<6 + bits.TrailingZeros64(rest))
}

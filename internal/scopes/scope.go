// Package scopes is the permission language of the platform: scope strings,
// normalised sets of them, the expressions and templates that API methods
// require, and the expansion of roles.
//
// Everything here is pure and does no I/O. Every value may be used by several
// goroutines at once. Scopes are compared as bytes; no locale is involved.
//
// Roles may not contain dependency cycles; that bound is published. It leaves
// acyclic roles with parameters that branch, which could give their holder a
// number of scopes exponential in their depth. So there are two more bounds:
// Resolver.Growth tells how much roles can grow a holder's scopes, for whoever
// accepts roles, and one expansion derives up to 16 MiB of scopes and fails
// beyond, whatever roles there are.
package scopes

import (
	"slices"
	"strings"
)

// Valid reports whether s is a scope at all: any string, also the empty one,
// of printable ASCII characters and spaces.
func Valid(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// Satisfies reports whether a holder of pattern has scope: they are equal, or
// pattern ends in a star and scope begins with what precedes that star. A star
// that ends scope is compared as text.
func Satisfies(pattern, scope string) bool {
	if base, star := cutStar(pattern); star && strings.HasPrefix(scope, base) {
		return true
	}
	return pattern == scope
}

// Compare orders scopes as the platform publishes them and returns -1, 0 or 1.
// One trailing star is put aside, the rest is compared byte by byte, and of two
// that then are equal the starred one comes first: "*", "", "a*", "a", "aa".
func Compare(a, b string) int {
	aBase, aStar := cutStar(a)
	bBase, bStar := cutStar(b)
	return compareCut(aBase, aStar, bBase, bStar)
}

func compareCut(a string, aStar bool, b string, bStar bool) int {
	if c := strings.Compare(a, b); c != 0 || aStar == bStar {
		return c
	}
	if aStar {
		return -1
	}
	return 1
}

// Normalize returns the normal form of a set of scopes: sorted by Compare,
// without duplicates and without scopes that another one satisfies. The result
// is never nil and shares no memory with s.
func Normalize(s []string) []string {
	out := make([]string, len(s))
	copy(out, s)
	slices.SortFunc(out, Compare)
	kept := out[:0]
	for _, scope := range out {
		kept = appendNormal(kept, scope)
	}
	clear(out[len(kept):])
	return kept
}

// appendNormal appends scope to the normalised list unless it is covered by it.
// Calls must come in the order of Compare; then the last element is the only
// one that can cover the next.
func appendNormal(list []string, scope string) []string {
	if n := len(list); n > 0 && Satisfies(list[n-1], scope) {
		return list
	}
	return append(list, scope)
}

// isNormal reports whether s is in normal form already.
func isNormal(s []string) bool {
	for i := 1; i < len(s); i++ {
		if Compare(s[i-1], s[i]) >= 0 || Satisfies(s[i-1], s[i]) {
			return false
		}
	}
	return true
}

// cutStar returns s without one trailing star, and whether there was one.
func cutStar(s string) (base string, star bool) {
	if n := len(s); n > 0 && s[n-1] == '*' {
		return s[:n-1], true
	}
	return s, false
}

// find returns the index of the first element of list, which is sorted by
// Compare, that is not less than base (with a star after it if star is set),
// and whether the element there is equal to it.
func find(list []string, base string, star bool) (int, bool) {
	lo, hi := 0, len(list)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		b, s := cutStar(list[mid])
		switch c := compareCut(b, s, base, star); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

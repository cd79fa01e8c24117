package scopes

import (
	"slices"
	"strings"
)

// The functions of this file say what the others must do, as plainly as
// possible and at any cost.

func oracleSatisfies(pattern, scope string) bool {
	if pattern == scope {
		return true
	}
	if pattern == "" || pattern[len(pattern)-1] != '*' {
		return false
	}
	stem := pattern[:len(pattern)-1]
	return len(scope) >= len(stem) && scope[:len(stem)] == stem
}

// oracleNormalize sorts by two keys and removes what another scope satisfies.
// Of two that satisfy each other, as "a*" and "a**" do, it keeps the first.
func oracleNormalize(in []string) []string {
	s := slices.Clone(in)
	slices.SortFunc(s, func(a, b string) int {
		if c := strings.Compare(strings.TrimSuffix(a, "*"), strings.TrimSuffix(b, "*")); c != 0 {
			return c
		}
		return len(b) - len(a) // the starred one is the longer one
	})
	s = slices.Compact(s)
	out := []string{}
	for i, scope := range s {
		covered := false
		for j, other := range s {
			if i != j && oracleSatisfies(other, scope) && (j < i || !oracleSatisfies(scope, other)) {
				covered = true
			}
		}
		if !covered {
			out = append(out, scope)
		}
	}
	return out
}

func oracleAssumed(scope string) (string, bool) {
	switch scope {
	case "*", "a*", "as*", "ass*", "assu*", "assum*", "assume*":
		return "*", true
	}
	return strings.CutPrefix(scope, "assume:")
}

// oracleMatch reports whether a holder of "assume:x" has the role, and with
// which parameter.
func oracleMatch(x, roleID string) (parameter string, ok bool) {
	xStar := strings.HasSuffix(x, "*")
	xStem := strings.TrimSuffix(x, "*")
	if !strings.HasSuffix(roleID, "*") {
		return "", x == roleID || xStar && strings.HasPrefix(roleID, xStem)
	}
	p := roleID[:len(roleID)-1]
	if strings.HasPrefix(xStem, p) {
		return x[len(p):], true
	}
	return "*", xStar && strings.HasPrefix(p, xStem)
}

func oracleSubstitute(scope, roleID, parameter string) string {
	i := strings.Index(scope, "<..>")
	if i < 0 || !strings.HasSuffix(roleID, "*") {
		return scope
	}
	if strings.HasSuffix(parameter, "*") {
		return scope[:i] + parameter
	}
	return scope[:i] + parameter + scope[i+4:]
}

// oracleExpand is the published reference algorithm.
func oracleExpand(roles []Role, input []string) []string {
	work := oracleNormalize(input)
	out := map[string]bool{}
	all := slices.Clone(work)
	for _, s := range work {
		out[s] = true
	}
	for len(work) > 0 {
		s := work[len(work)-1]
		work = work[:len(work)-1]
		x, ok := oracleAssumed(s)
		if !ok {
			continue
		}
		for _, role := range roles {
			parameter, ok := oracleMatch(x, role.ID)
			if !ok {
				continue
			}
			for _, scope := range role.Scopes {
				g := oracleSubstitute(scope, role.ID, parameter)
				if !out[g] {
					out[g] = true
					all = append(all, g)
					work = append(work, g)
				}
			}
		}
	}
	return oracleNormalize(all)
}

// oracleDepends reports whether role r depends on role s.
func oracleDepends(r, s Role) bool {
	for _, scope := range r.Scopes {
		if x, ok := oracleAssumed(oracleSubstitute(scope, r.ID, "*")); ok {
			if _, ok := oracleMatch(x, s.ID); ok {
				return true
			}
		}
	}
	return false
}

// oracleInvalid reports whether some role has an ambiguous scope.
func oracleInvalid(roles []Role) bool {
	for _, r := range roles {
		if !strings.HasSuffix(r.ID, "*") {
			continue
		}
		for _, s := range r.Scopes {
			if strings.Count(s, "<..>") > 1 || strings.HasSuffix(s, "*<..>") {
				return true
			}
		}
	}
	return false
}

// oracleCyclic takes away roles that depend on none that is left. What stays
// is in a cycle or leads to one.
func oracleCyclic(roles []Role) bool {
	left := slices.Clone(roles)
	for {
		var keep []Role
		for _, r := range left {
			if slices.ContainsFunc(left, func(s Role) bool { return oracleDepends(r, s) }) {
				keep = append(keep, r)
			}
		}
		if len(keep) == len(left) {
			return len(left) > 0
		}
		left = keep
	}
}

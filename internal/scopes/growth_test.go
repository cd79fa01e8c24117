package scopes

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// doubling returns roles x00-* to x<levels-1>-* of which each gives the next
// twice, with other parameters: 2^levels scopes follow from "assume:x00-q".
func doubling(levels int) []Role {
	var roles []Role
	for i := range levels {
		next := fmt.Sprintf("assume:x%02d-<..>", i+1)
		roles = append(roles, Role{fmt.Sprintf("x%02d-*", i), []string{next + "a", next + "b"}})
	}
	return roles
}

func TestGrowth(t *testing.T) {
	for _, c := range []struct {
		name   string
		roles  []Role
		role   string
		scopes int
	}{
		{"nothing", nil, "", 0},
		{"no parameters", []Role{{"a", []string{"assume:b", "<..>"}}, {"b", []string{"x"}}, {"c*", []string{"y"}}}, "", 0},
		{"one", []Role{{"a*", []string{"x<..>", "y"}}}, "a*", 1},
		{"the sum", []Role{{"a*", []string{"x<..>", "assume:b<..>"}}, {"b*", []string{"y<..>", "z<..>"}}}, "a*", 4},
		{"levels", doubling(3), "x00-*", 14},
		{"40 levels", doubling(40), "x00-*", maxGrowth},
		{"every path counts", []Role{{"a*", []string{"assume:b<..>", "assume:b<..>"}}, {"b*", []string{"x<..>"}}}, "a*", 4},
		{"roles that enclose each other, before and within the parameter",
			[]Role{{"a*", []string{"assume:bb<..>"}}, {"b*", []string{"1<..>"}}, {"bb*", []string{"2<..>"}}, {"bbb*", []string{"3<..>"}}}, "a*", 4},
		{"roles that exclude each other",
			[]Role{{"a*", []string{"assume:b<..>"}}, {"b-1*", []string{"x<..>"}}, {"b-2*", []string{"x<..>", "y<..>"}}, {"b-2", []string{"z"}}}, "a*", 3},
		{"what triggers it", append(doubling(3), Role{"trigger", []string{"assume:x00-q", "assume:x01-q"}}), "trigger", 20},
		{"a star triggers nothing", append(doubling(3), Role{"trigger", []string{"assume:x*"}}), "x00-*", 14},
		{"what is fixed counts once", append(doubling(3),
			Role{"f", []string{"assume:x00-q"}}, Role{"g", []string{"assume:f"}}, Role{"h*", []string{"assume:f<..>"}}), "f", 14},
	} {
		r := mustCompile(t, c.roles)
		if role, n := r.Growth(); role != c.role || n != c.scopes {
			t.Errorf("%s: %q makes %d, want %q and %d", c.name, role, n, c.role, c.scopes)
		}
	}
}

// TestGrowthOfDeployments: what deployments have is far from any bound.
func TestGrowthOfDeployments(t *testing.T) {
	for name, c := range map[string]struct {
		roles []Role
		most  int
	}{
		"chain of 500":  {chain(500), 1000},
		"chain of 5000": {chain(5000), 10_000},
		"5000 roles":    {manyRoles(5000), 1000},
	} {
		if role, n := mustCompile(t, c.roles).Growth(); n > c.most {
			t.Errorf("%s: %q makes %d", name, role, n)
		}
	}
	roles, _ := realRoles(t)
	role, n := mustCompile(t, roles).Growth()
	t.Logf("real roles: %q makes %d", role, n)
	if n > 1000 {
		t.Errorf("real roles: %q makes %d", role, n)
	}
}

// TestExpansionBound: however many scopes follow, an expansion ends, with
// little memory, and the Resolver stays usable.
func TestExpansionBound(t *testing.T) {
	for _, trigger := range []string{"", "assume:x00-q"} {
		roles := doubling(40)
		if trigger != "" {
			roles = append(roles, Role{"trigger", []string{trigger}}, Role{"trigger*", []string{"assume:x00-<..>"}})
		}
		r := mustCompile(t, roles)
		inputs := [][]string{{"assume:x00-q"}, {"assume:x00-r*"}, {"y", "assume:x20-q"}, {"assume:trigger", "assume:x00-q"}}
		var group sync.WaitGroup
		for _, in := range inputs {
			group.Go(func() {
				for _, expand := range []func([]string) (Set, error){r.Expand, r.Uncached} {
					set, err := expand(in)
					if in[0] == "assume:x00-r*" { // one scope a level
						if err != nil || set.Len() != 41 {
							t.Errorf("%q: %d scopes, %v", in, set.Len(), err)
						}
						continue
					}
					var many *ExpansionError
					if !errors.As(err, &many) || many.Most != maxExpansion || !strings.HasPrefix(many.Role, "x") || set.Len() != 0 {
						t.Errorf("%q: %d scopes, %v", in, set.Len(), err)
					}
				}
			})
		}
		group.Wait()
		for _, x := range []string{"x36-q", "x35-*", "x38-aab"} {
			checkExpansion(t, r, roles, []string{"assume:" + x})
		}
	}
	// Few scopes can be long.
	long := strings.Repeat("y", 1<<20)
	r := mustCompile(t, []Role{{"a*", []string{"b<..>" + long, "c<..>" + long}}, {"d*", slices.Repeat([]string{"e<..>"}, 100)}})
	if set, err := r.Expand([]string{"assume:a" + long}); err != nil || set.Len() != 3 {
		t.Error(set.Len(), err)
	}
	if _, err := r.Expand([]string{"assume:d" + long}); err == nil {
		t.Error("time is not bounded")
	}
}

// TestDerivedBound: also what compiling works out beforehand has its bound in
// bytes, and what is left out is worked out when it is needed.
func TestDerivedBound(t *testing.T) {
	long := strings.Repeat("y", 1<<20)
	var roles []Role
	for i := range 40 {
		roles = append(roles, Role{fmt.Sprintf("l%02d-*", i), []string{fmt.Sprintf("assume:l%02d-<..>", i+1) + long}})
	}
	roles = append(roles, Role{"start", []string{"assume:l00-"}})
	r := mustCompile(t, roles)
	total := 0
	for _, scope := range r.roles.scopes {
		total += len(scope)
	}
	if total > 60<<20 { // 40 MB are stored
		t.Errorf("%d bytes are kept", total)
	}
	if _, err := r.Expand([]string{"assume:start"}); err == nil {
		t.Error("the bound of an expansion does not hold")
	}
	checkExpansion(t, r, roles, []string{"assume:l37-"})
}

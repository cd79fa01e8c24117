package scopes

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"taskcluster/internal/testenv"
)

func mustCompile(t testing.TB, roles []Role) *Resolver {
	t.Helper()
	r, err := Compile(roles)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must expands scopes by r.Expand or r.Uncached.
func must(t interface{ Fatalf(string, ...any) }, expand func([]string) (Set, error), scopes []string) Set {
	set, err := expand(scopes)
	if err != nil {
		t.Fatalf("%q: %v", scopes, err)
	}
	return set
}

// rules reads "pattern: scope, scope" lines. A scope is granted twice: as
// "assume:scope", so that it can match other rules, and as "out:scope", to be
// seen in the result whatever the query covers.
func rules(text string) []Role {
	var roles []Role
	for line := range strings.Lines(text) {
		pattern, scopes, _ := strings.Cut(strings.TrimSpace(line), ": ")
		role := Role{ID: pattern}
		for scope := range strings.SplitSeq(scopes, ", ") {
			role.Scopes = append(role.Scopes, "assume:"+scope, "out:"+scope)
		}
		roles = append(roles, role)
	}
	return roles
}

func TestExpandVectors(t *testing.T) {
	long := `a: b
		b: cc, eX*
		c*: dYY
		d*: eZZZ
		e*: f<..>g
		ff*: h<..>j*
		hej: hello
		hej2: hello2
		h*: H
		a:*: q<..>
		q*: Q`
	for _, c := range []struct{ rules, input, want string }{
		{"c*: C", "c", "C"},
		{"c*: C", "cccc", "C"},
		{"c*: C", "c*", "C"},
		{"c*: C", "*", "C"},
		{"d*: D<..>", "d", "D"},
		{"d*: D<..>", "dX", "DX"},
		{"d*: D<..>", "d*", "D*"},
		{"d*: D<..>", "dXY*", "DXY*"},
		{"d*: D<..>", "*", "D*"},
		{"e*: E<..>F", "e", "EF"},
		{"e*: E<..>F", "eXYZ", "EXYZF"},
		{"e*: E<..>F", "e*", "E*"},
		{"e*: E<..>F", "eXY*", "EXY*"},
		{"a*a: A", "a", ""},
		{"a*a: A", "a*", "A"},
		{"a*a: A", "a*a", "A"},
		{"a*a: A", "a*a*", "A"},
		{"a*a: A", "a*aa*", ""},
		{"a*a: A", "aba", ""},
		{"a*a: A", "*", "A"},
		{"a*: A<..>X\naa*: AA<..>X\nab*: AB<..>X", "aa", "AaX, AAX"},
		{"a*: A<..>X\naa*: AA<..>X\nab*: AB<..>X", "aa*", "Aa*, AA*"},
		{"a*: A<..>X\naa*: AA<..>X\nab*: AB<..>X", "ab", "AbX, ABX"},
		{"a*: A<..>X\naa*: AA<..>X\nab*: AB<..>X", "a*", "A*"},
		{"a*: A<..>*", "aa", "Aa*"},
		{"a*: A<..>*", "a", "A*"},
		{long, "a", "b, cc, dYY, eZZZ, fZZZg, eX*, fX*"},
		{long, "a:a", "qa, Q"},
		{long, "efy", "ffyg, hygj*, H"},
		{long, "ffe", "hej*, hello, hello2, H"},
		{long, "e*", "f*, h*, H"},
		{long, "f*", "h*, H"},
		{long, "ff", "hj*, H"},
		{long, "hh", "H"},
		{long, "*", "q*, b, cc, eX*, dYY, eZZZ, f*, h*, H, Q"},
		{long, "z", ""},
		{"x: X<..>", "x", "X<..>"}, // plain text in an exact role
		{"b: B\nb*: P<..>\nb*x: S", "b", "B, P"},
		{"b: B\nb*: P<..>\nb*x: S", "b*", "B, P*, S"},
		{"b: B\nb*: P<..>\nb*x: S", "b*x", "P*x, S"},
	} {
		roles := rules(c.rules)
		r := mustCompile(t, roles)
		var got []string
		for _, scope := range must(t, r.Uncached, []string{"assume:" + c.input}).Slice() {
			if s, ok := strings.CutPrefix(scope, "out:"); ok {
				got = append(got, s)
			}
		}
		want := []string{}
		if c.want != "" {
			want = Normalize(strings.Split(c.want, ", "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q with %q: %q, want %q", c.rules, c.input, got, want)
		}
		checkExpansion(t, r, roles, []string{"assume:" + c.input})
	}
}

// checkExpansion compares one expansion with the reference algorithm.
func checkExpansion(t interface {
	Helper()
	Fatalf(string, ...any)
}, r *Resolver, roles []Role, input []string) {
	t.Helper()
	want := oracleExpand(roles, input)
	got := [][]string{must(t, r.Uncached, input).Slice(), must(t, r.Expand, input).Slice(), must(t, r.Expand, input).Slice()}
	if len(roles) < 100 { // also with nothing or little worked out beforehand
		for _, most := range []int{0, 100, 300} {
			c, err := compile(roles, most)
			if err != nil {
				t.Fatalf("%q: %v", roles, err)
			}
			got = append(got, must(t, newResolver(c).Uncached, input).Slice())
		}
	}
	for _, got := range got {
		if !slices.Equal(got, want) {
			t.Fatalf("%q with %q:\ngot  %q\nwant %q", input, roles, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	roles := []Role{
		{"project-admin:*", []string{"assume:admin-role:project-<..>/*"}},
		{"admin-role:*", []string{"auth:create-role:<..>"}},
		{"thing-id:*", []string{"assume:other:*", "x"}},
		{"-", []string{"dash"}},
		{"with space/and%percent", []string{"odd"}},
	}
	r := mustCompile(t, roles)
	for _, c := range []struct{ input, want string }{
		{"", ""},
		{"b a ab* ab", "a ab* b"},
		{"assume:project-admin:proj1", "assume:admin-role:project-proj1/* assume:project-admin:proj1 auth:create-role:project-proj1/*"},
		{"assume:project-admin:proj*", "assume:admin-role:project-proj* assume:project-admin:proj* auth:create-role:project-proj*"},
		{"assume:-", "assume:- dash"},
		{"assume:anonymous", "assume:anonymous"},
		{"assumed:-", "assumed:-"},
		{"assume", "assume"},
		{"b*", "b*"},
		{"assume:none:x assume:*", "assume:* auth:create-role:* dash odd x"},
		{"assume:thing-id:test", "assume:other:* assume:thing-id:test x"},
	} {
		got := must(t, r.Expand, strings.Fields(c.input))
		if !slices.Equal(got.Slice(), strings.Fields(c.want)) {
			t.Errorf("Expand(%q) = %q", c.input, got.Slice())
		}
	}
	for _, all := range []string{"*", "a*", "as*", "ass*", "assu*", "assum*", "assume*", "assume:*"} {
		got := must(t, r.Expand, []string{all})
		if !got.HasAll([]string{all, "dash", "odd", "x", "auth:create-role:*"}) {
			t.Errorf("%q gives only %q", all, got.Slice())
		}
		checkExpansion(t, r, roles, []string{all})
	}
}

func TestInvalidParameters(t *testing.T) {
	for _, c := range []struct{ id, scope, want string }{
		{"a*", "b<..>c<..>", "parameterized scope 'b<..>c<..>' contains multiple '<..>'"},
		{"a*", "*<..><..>", "parameterized scope '*<..><..>' contains multiple '<..>'"},
		{"a*", "b*<..>", "parameterized scope 'b*<..>' ends with '*<..>' which implies an ambiguous kleene"},
		{"a*", "b*<..>x", ""},
		{"a*", "b<..>*", ""},
		{"a", "b<..>c<..>", ""},
		{"a", "b*<..>", ""},
		{"a*b", "b*<..>", ""},
	} {
		_, err := Compile([]Role{{"z", nil}, {c.id, []string{"ok", c.scope}}})
		if c.want == "" {
			if err != nil {
				t.Errorf("%q in %q: %v", c.scope, c.id, err)
			}
			continue
		}
		var invalid *InvalidScopeError
		if !errors.As(err, &invalid) || err.Error() != c.want || invalid.Role != c.id || invalid.Scope != c.scope {
			t.Errorf("%q in %q: %v", c.scope, c.id, err)
		}
	}
}

func TestCycles(t *testing.T) {
	for _, c := range []struct {
		roles []Role
		want  string // the cycle; "" for none
	}{
		{[]Role{{"a", []string{"assume:b"}}, {"b", []string{"assume:a"}}}, "'assume:a' -> 'assume:b' -> 'assume:a'"},
		{[]Role{{"a", []string{"assume:a"}}}, "'assume:a' -> 'assume:a'"},
		{[]Role{{"a", []string{"*"}}}, "'assume:a' -> 'assume:a'"},
		{[]Role{{"a", []string{"assum*"}}}, "'assume:a' -> 'assume:a'"},
		{[]Role{{"a*", []string{"assume:a"}}}, "'assume:a*' -> 'assume:a*'"},
		{[]Role{{"a*", []string{"<..>"}}}, "'assume:a*' -> 'assume:a*'"},
		{[]Role{{"a*", []string{"assume:b<..>"}}, {"b*", []string{"assume:a<..>x"}}}, "'assume:a*' -> 'assume:b*' -> 'assume:a*'"},
		{[]Role{{"test*", []string{"assume:other<..>x"}}, {"other*", []string{"assume:te<..>"}}}, "'assume:other*' -> 'assume:test*' -> 'assume:other*'"},
		{[]Role{
			{"test-1:*", []string{"assume:test-2:prefix-<..>/some-suffix"}},
			{"test-2:*", []string{"assume:test-1:prefix/<..>#some-suffix"}},
		}, "'assume:test-1:*' -> 'assume:test-2:*' -> 'assume:test-1:*'"},
		{[]Role{{"a", []string{"assume:c"}}, {"c", []string{"assume:d"}}, {"d", []string{"assume:e"}}, {"e", []string{"assume:c"}}},
			"'assume:c' -> 'assume:d' -> 'assume:e' -> 'assume:c'"},
		{[]Role{{"a*", []string{"assume:b<..>"}}, {"bx", []string{"assume:ay"}}}, "'assume:a*' -> 'assume:bx' -> 'assume:a*'"},
		{[]Role{{"a", []string{"assume:b", "assume:c"}}, {"b", []string{"assume:c"}}, {"c", []string{"z"}}}, ""},
		{[]Role{{"a", []string{"assume:b<..>"}}, {"b<", []string{"assume:a"}}}, ""},
		{[]Role{{"a", []string{"assume:missing"}}}, ""},
	} {
		for range 20 {
			rand.Shuffle(len(c.roles), func(i, j int) { c.roles[i], c.roles[j] = c.roles[j], c.roles[i] })
			_, err := Compile(c.roles)
			var cycle *CycleError
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%q: %v", c.roles, err)
			case c.want != "" && (!errors.As(err, &cycle) || err.Error() != "Roles may not contain dependency cycles, found: "+c.want):
				t.Errorf("%q: %v", c.roles, err)
			}
		}
	}
}

// chain returns n roles of which each gives the next, with a parameter.
func chain(n int) []Role {
	var roles []Role
	for i := range n {
		roles = append(roles, Role{
			ID:     fmt.Sprintf("link-%05d:*", i),
			Scopes: []string{fmt.Sprintf("assume:link-%05d:<..>", i+1), fmt.Sprintf("scope-%05d:<..>", i)},
		})
	}
	return roles
}

func TestChains(t *testing.T) {
	roles := chain(500)
	rand.Shuffle(len(roles), func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })
	r := mustCompile(t, roles)
	for _, parameter := range []string{"x", "", "x*", "*"} {
		input := []string{"assume:link-00000:" + parameter}
		got := must(t, r.Expand, input)
		if got.Len() != 1001 || !got.Has("scope-00499:"+parameter) || !got.Has("assume:link-00500:"+parameter) {
			t.Errorf("%q gives %d scopes", input, got.Len())
		}
		checkExpansion(t, r, roles, input)
	}
	for range 100 {
		closed := append(slices.Clone(roles), Role{"link-00500:x", []string{"assume:link-00000:y"}})
		rand.Shuffle(len(closed), func(i, j int) { closed[i], closed[j] = closed[j], closed[i] })
		_, err := Compile(closed)
		var cycle *CycleError
		if !errors.As(err, &cycle) || len(cycle.Cycle) != 502 {
			t.Fatalf("the cycle of 501 roles is not found: %v", err)
		}
	}
}

// TestDiamonds: 60 levels of two paths each are 2^60 paths, but few scopes.
func TestDiamonds(t *testing.T) {
	var roles []Role
	for i := range 60 {
		for _, side := range []string{"l", "r"} {
			roles = append(roles, Role{
				ID:     fmt.Sprintf("%02d-%s-*", i, side),
				Scopes: []string{fmt.Sprintf("assume:%02d-l-<..>", i+1), fmt.Sprintf("assume:%02d-r-<..>", i+1)},
			})
		}
	}
	r := mustCompile(t, roles)
	for _, parameter := range []string{"x", "x*", "*"} {
		if got := must(t, r.Expand, []string{"assume:00-l-" + parameter}); got.Len() != 121 {
			t.Errorf("%q: %d scopes", parameter, got.Len())
		}
	}
	checkExpansion(t, r, roles, []string{"assume:00-r-y"})
}

// TestBranchingParameters: 2^40 scopes follow from one role. Nobody can ask for
// them, but compiling the roles must not try, and must get the rest right.
func TestBranchingParameters(t *testing.T) {
	roles := []Role{{"start", []string{"assume:level-00:"}}}
	for i := range 40 {
		roles = append(roles, Role{
			ID:     fmt.Sprintf("level-%02d:*", i),
			Scopes: []string{fmt.Sprintf("assume:level-%02d:<..>a", i+1), fmt.Sprintf("assume:level-%02d:<..>b", i+1)},
		})
	}
	r := mustCompile(t, roles)
	if n := len(r.roles.scopes); n > 100+maxDerived/scopeOverhead {
		t.Errorf("%d scopes are worked out beforehand", n)
	}
	for _, x := range []string{"level-36:", "level-36:x", "level-35:aab", "level-36:a*"} {
		checkExpansion(t, r, roles, []string{"assume:" + x})
	}
	if got := must(t, r.Uncached, []string{"assume:*"}).Slice(); !slices.Equal(got, []string{"assume:*"}) {
		t.Errorf("assume:* gives %d scopes", len(got))
	}
}

// manyRoles returns n roles in layers, with plain, prefix and parameterised
// ones among them.
func manyRoles(n int) []Role {
	var roles []Role
	for i := range n {
		layer := i * 10 / n
		role := Role{ID: fmt.Sprintf("layer-%d:repo/%d", layer, i)}
		role.Scopes = []string{fmt.Sprintf("queue:route:%d.*", i), fmt.Sprintf("secrets:get:%d", i%97)}
		if i%3 == 0 {
			role.ID += ":*"
			role.Scopes = append(role.Scopes, fmt.Sprintf("index:%d:<..>", i))
		}
		if layer < 9 {
			next := i + n/10
			role.Scopes = append(role.Scopes,
				fmt.Sprintf("assume:layer-%d:repo/%d:x", layer+1, next),
				fmt.Sprintf("assume:layer-%d:repo/%d*", layer+1, next/10))
			if i%3 == 0 {
				role.Scopes = append(role.Scopes, fmt.Sprintf("assume:layer-%d:repo/%d:<..>", layer+1, next-next%3))
			}
		}
		roles = append(roles, role)
	}
	return roles
}

func TestManyRoles(t *testing.T) {
	roles := manyRoles(150)
	r := mustCompile(t, roles)
	for _, role := range roles {
		for _, x := range []string{role.ID, role.ID + "x", role.ID[:len(role.ID)-1] + "*", role.ID[:len(role.ID)/2] + "*", role.ID + "y*"} {
			checkExpansion(t, r, roles, []string{"assume:" + x})
		}
	}
}

type realRole struct {
	RoleID         string
	Scopes         []string
	ExpandedScopes []string
}

func realRoles(t testing.TB) ([]Role, []realRole) {
	t.Helper()
	text, err := os.ReadFile(testenv.Shared(t, "vectors/roles.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []realRole
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	var roles []Role
	for _, r := range all {
		roles = append(roles, Role{r.RoleID, r.Scopes})
	}
	return roles, all
}

func TestRealRoles(t *testing.T) {
	roles, all := realRoles(t)
	rand.Shuffle(len(roles), func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })
	r := mustCompile(t, roles)
	queries := 0
	for i, role := range all {
		if got := must(t, r.Expand, []string{"assume:" + role.RoleID}).Slice(); !slices.Equal(got, role.ExpandedScopes) {
			t.Errorf("%s: %d scopes instead of %d, or others", role.RoleID, len(got), len(role.ExpandedScopes))
		}
		id := strings.TrimSuffix(role.RoleID, "*")
		inputs := []string{
			id + "x", id + "x*", id + "/y:z", id + "*",
			id[:len(id)/2] + "*", id[:len(id)*3/4] + "*", id[:i%(len(id)+1)] + "*",
		}
		for _, x := range []string{inputs[i%7], inputs[(i+3)%7]} { // the reference algorithm is slow
			checkExpansion(t, r, roles, []string{"assume:" + x})
		}
		queries += 3
		if i%5 == 0 {
			checkExpansion(t, r, roles, slices.Concat(all[(i*7)%len(all)].Scopes, role.Scopes))
			queries++
		}
	}
	t.Logf("%d roles, %d queries", len(roles), queries)
}

// checkRoles draws roles and compares validity, cycles and expansions with the
// plain algorithms.
func checkRoles(t *rapid.T) {
	// With layers a role gives only later ones, so that most sets are acyclic.
	layered := rapid.IntRange(0, 3).Draw(t, "layered") > 0
	text := rapid.StringOfN(rapid.SampledFrom([]rune("ab*:")), 0, 3, -1)
	tail := rapid.SampledFrom([]string{"", "", "*", "<..>", "<..>*", "<..>a", "*<..>b", "<..>*a", "a*", "**"})
	const layers = 5
	head := func(layer int) string {
		if layered {
			return string(rune('p' + layer))
		}
		return ""
	}
	var roles []Role
	for range rapid.IntRange(1, 9).Draw(t, "roles") {
		layer := rapid.IntRange(0, layers-1).Draw(t, "layer")
		role := Role{ID: head(layer) + text.Draw(t, "id") + rapid.SampledFrom([]string{"", "*", "*"}).Draw(t, "star")}
		for range rapid.IntRange(0, 4).Draw(t, "scopes") {
			scope := rapid.SampledFrom([]string{"o", "", "assume", "O"}).Draw(t, "head")
			if layer < layers-1 && rapid.IntRange(0, 2).Draw(t, "gives") > 0 {
				scope = "assume:" + head(rapid.IntRange(layer+1, layers-1).Draw(t, "to"))
			} else if scope == "" && layered {
				scope = "n"
			}
			role.Scopes = append(role.Scopes, scope+text.Draw(t, "scope")+tail.Draw(t, "tail"))
		}
		roles = append(roles, role)
	}
	r, err := Compile(roles)
	if oracleInvalid(roles) {
		var invalid *InvalidScopeError
		if !errors.As(err, &invalid) {
			t.Fatalf("%q: the error is %v", roles, err)
		}
		return
	}
	if oracleCyclic(roles) {
		var cycle *CycleError
		if !errors.As(err, &cycle) {
			t.Fatalf("%q: the error is %v", roles, err)
		}
		checkCycle(t, roles, cycle.Cycle)
		return
	}
	if err != nil {
		t.Fatalf("%q: %v", roles, err)
	}
	for range 4 {
		var input []string
		for range rapid.IntRange(0, 3).Draw(t, "inputs") {
			s := "assume:" + head(rapid.IntRange(0, layers-1).Draw(t, "of")) + text.Draw(t, "x")
			switch rapid.IntRange(0, 5).Draw(t, "form") {
			case 0:
				s += "*"
			case 1:
				s = s[:rapid.IntRange(0, len(s)).Draw(t, "cut")] + "*"
			case 2:
				s = "o" + s[len("assume:"):]
			case 3:
				s += "**"
			}
			input = append(input, s)
		}
		checkExpansion(t, r, roles, input)
	}
}

// checkCycle checks that the ids are those of roles that depend on each other.
func checkCycle(t *rapid.T, roles []Role, cycle []string) {
	if len(cycle) < 2 || cycle[0] != cycle[len(cycle)-1] {
		t.Fatalf("%q is not a cycle", cycle)
	}
	byID := func(id string) (found []Role) {
		for _, r := range roles {
			if r.ID == id {
				found = append(found, r)
			}
		}
		return found
	}
	for i := range cycle[1:] {
		if !slices.ContainsFunc(byID(cycle[i]), func(r Role) bool {
			return slices.ContainsFunc(byID(cycle[i+1]), func(s Role) bool { return oracleDepends(r, s) })
		}) {
			t.Fatalf("%q: %q does not depend on %q", roles, cycle[i], cycle[i+1])
		}
	}
}

func TestRolesRandomly(t *testing.T) { rapid.Check(t, checkRoles) }

func FuzzExpand(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkRoles)) }

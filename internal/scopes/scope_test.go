package scopes

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestValid(t *testing.T) {
	for _, c := range []struct {
		s     string
		valid bool
	}{
		{"", true},
		{" ", true},
		{"queue:create-task:lowest:p/w", true},
		{"a b~", true},
		{"*", true},
		{"a*b", true},
		{"**a", true},
		{"**", true},
		{"foo:**", true},
		{"foo:***", true},
		{"a\n", false},
		{"a\x1f", false},
		{"a\x7f", false},
		{"é", false},
		{"\xff", false},
	} {
		if got := Valid(c.s); got != c.valid {
			t.Errorf("Valid(%q) = %v", c.s, got)
		}
	}
}

func TestSatisfies(t *testing.T) {
	for _, c := range []struct {
		pattern, scope string
		want           bool
	}{
		{"a*", "a", true},
		{"a*", "ab", true},
		{"a*", "a*", true},
		{"a*", "ab*", true},
		{"ab*", "a*", false},
		{"ab*", "a", false},
		{"a", "a", true},
		{"a", "a*", false},
		{"a", "ab", false},
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "anything", true},
		{"a*b", "a*b", true},
		{"a*b", "axb", false},
		{"a**", "a*", true},
		{"a**", "a", false},
		{"a**", "a*b", true},
	} {
		if got := Satisfies(c.pattern, c.scope); got != c.want {
			t.Errorf("Satisfies(%q, %q) = %v", c.pattern, c.scope, got)
		}
	}
}

func TestOrder(t *testing.T) {
	want := []string{"*", "", "a*", "a", "a(", "aa", "b"}
	for i, a := range want {
		for j, b := range want {
			got := Compare(a, b)
			if got < 0 != (i < j) || got > 0 != (i > j) || got < -1 || got > 1 {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func TestNormalize(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"b a b a", "a b"},
		{"ab a* b a", "a* b"},
		{"a*b ab* a*", "a*"},
		{"a** a*", "a*"},
		{"a** a*b a", "a a**"},
		{"x a *", "*"},
		{"aa a( a", "a a( aa"},
		{"queue:b queue:a* queue:ab queue:a", "queue:a* queue:b"},
	} {
		in := strings.Fields(c.in)
		before := slices.Clone(in)
		got := Normalize(in)
		if got == nil || !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("Normalize(%q) = %q, want %q", c.in, got, c.want)
		}
		if !slices.Equal(in, before) {
			t.Errorf("Normalize changed its argument to %q", in)
		}
	}
}

func TestSet(t *testing.T) {
	var empty Set
	if empty.Has("") || empty.Has("*") || empty.Len() != 0 || empty.Slice() == nil || !empty.HasAll(nil) {
		t.Error("the zero Set is not the empty set")
	}
	if NewSet("").Has("a") || !NewSet("").Has("") {
		t.Error("the empty scope is a scope like others")
	}
	stars := NewSet("a**", "a!", "a b", "b")
	for scope, want := range map[string]bool{"a*": true, "a**": true, "a*b": true, "a": false, "a!": true, "a!*": false, "ab": false} {
		if stars.Has(scope) != want {
			t.Errorf("%q has %q: %v", stars.Slice(), scope, !want)
		}
	}
	in := []string{"b", "a*"}
	s := NewSet(in...)
	in[0], in[1] = "x", "y"
	if got := s.Slice(); !slices.Equal(got, []string{"a*", "b"}) {
		t.Errorf("the set shares its argument's array: %q", got)
	}
	_ = append(s.Slice(), "z") // has no room, so it makes a new array
	if got := NewSet("b", "a*").Union(NewSet("ab", "c*", "b*")).Slice(); !slices.Equal(got, []string{"a*", "b*", "c*"}) {
		t.Errorf("Union = %q", got)
	}
	if got := s.Missing([]string{"c", "a", "b*", "b"}); !slices.Equal(got, []string{"c", "b*"}) {
		t.Errorf("Missing = %q", got)
	}
	if s.Missing([]string{"a", "b"}) != nil || !s.HasAll([]string{"a", "b"}) || s.HasAll([]string{"a", "c"}) {
		t.Error("HasAll and Missing disagree")
	}
}

// dense gives scopes of which many satisfy each other.
var dense = rapid.StringOfN(rapid.SampledFrom([]rune("ab! *")), 0, 5, -1)

func TestSetsRandomly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(dense, 0, 12).Draw(t, "a")
		b := rapid.SliceOfN(dense, 0, 12).Draw(t, "b")
		checkSets(t, a, b, rapid.SliceOfN(dense, 0, 6).Draw(t, "scopes"))
	})
}

func checkSets(t interface{ Fatalf(string, ...any) }, a, b, scopes []string) {
	s, o := NewSet(a...), NewSet(b...)
	if want := oracleNormalize(a); !slices.Equal(s.Slice(), want) {
		t.Fatalf("Normalize(%q) = %q, want %q", a, s.Slice(), want)
	}
	if !isNormal(s.Slice()) {
		t.Fatalf("isNormal(%q) is false", s.Slice())
	}
	if isNormal(a) != slices.Equal(a, s.Slice()) {
		t.Fatalf("isNormal(%q) is wrong", a)
	}
	if want := oracleNormalize(slices.Concat(s.Slice(), o.Slice())); !slices.Equal(s.Union(o).Slice(), want) {
		t.Fatalf("%q united with %q is %q, want %q", a, b, s.Union(o).Slice(), want)
	}
	for _, scope := range slices.Concat(scopes, a, b) {
		want := slices.ContainsFunc(s.Slice(), func(p string) bool { return oracleSatisfies(p, scope) })
		if got := s.Has(scope); got != want {
			t.Fatalf("%q has %q: %v, want %v", s.Slice(), scope, got, want)
		}
	}
}

func FuzzSatisfies(f *testing.F) {
	f.Add("a*", "ab")
	f.Add("a** a* b", "a*")
	f.Add("a! a** a*b", "a*")
	f.Fuzz(func(t *testing.T, pattern, scope string) {
		if got, want := Satisfies(pattern, scope), oracleSatisfies(pattern, scope); got != want {
			t.Errorf("Satisfies(%q, %q) = %v, want %v", pattern, scope, got, want)
		}
		if a, b := Compare(pattern, scope), Compare(scope, pattern); a != -b || (a == 0) != (pattern == scope) {
			t.Errorf("Compare(%q, %q) is not an order: %d, %d", pattern, scope, a, b)
		}
		if len(pattern)+len(scope) < 200 {
			checkSets(t, strings.Split(pattern, " "), strings.Split(scope, " "), []string{pattern, scope})
		}
	})
}

func BenchmarkSetHas(b *testing.B) {
	s := NewSet(manyScopes(1000)...)
	b.ReportAllocs()
	for b.Loop() {
		if !s.Has("queue:create-task:highest:proj-500/worker-7") || s.Has("queue:create-task:highest:zz/worker-7") {
			b.Fatal("wrong answer")
		}
	}
}

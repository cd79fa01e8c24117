package scopes

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func manyScopes(n int) []string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprintf("queue:create-task:highest:proj-%d/*", i))
	}
	return s
}

func TestExpr(t *testing.T) {
	for _, c := range []struct {
		expr, have string
		used       string // "-" for unsatisfied
		missing    string // "" for none
	}{
		{`"a"`, "a", "a", ``},
		{`"a"`, "b", "-", `"a"`},
		{`"ab"`, "a*", "ab", ``},
		{`"a*"`, "ab*", "-", `"a*"`},
		{`{"AllOf":[]}`, "", "", ``},
		{`{"AnyOf":[]}`, "*", "-", `{"AnyOf":[]}`},
		{`{"AllOf":["b","a","b"]}`, "a b", "a b", ``},
		{`{"AllOf":["a","b","c"]}`, "b", "-", `{"AllOf":["a","c"]}`},
		{`{"AllOf":["a","b","c"]}`, "b c", "-", `"a"`},
		{`{"AnyOf":["a","b","c"]}`, "c a", "a c", ``},
		{`{"AnyOf":["a","b"]}`, "c", "-", `{"AnyOf":["a","b"]}`},
		{`{"AnyOf":["a"]}`, "c", "-", `"a"`},
		{`{"AnyOf":["a",{"AllOf":["b","c"]}]}`, "b", "-", `{"AnyOf":["a","c"]}`},
		{`{"AnyOf":["a",{"AllOf":["b","c"]}]}`, "a b", "a", ``},
		{`{"AnyOf":["a",{"AllOf":["b","c"]}]}`, "a b c", "a b c", ``},
		{`{"AllOf":["a",{"AnyOf":["b","c"]}]}`, "b", "-", `"a"`},
		{`{"AllOf":["a",{"AnyOf":["b","c"]}]}`, "a", "-", `{"AnyOf":["b","c"]}`},
		{`{"AllOf":[{"AllOf":["a","b"]},{"AnyOf":[]}]}`, "a", "-", `{"AllOf":["b",{"AnyOf":[]}]}`},
		{`{"AnyOf":[{"AllOf":[]},"a"]}`, "", "", ``},
		{`{"AllOf":["ax","ay","a*"]}`, "a*", "a*", ``},
	} {
		e, err := ParseExpr([]byte(c.expr))
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
			continue
		}
		s := NewSet(strings.Fields(c.have)...)
		used, ok := e.Satisfying(s)
		if ok != (c.used != "-") || e.SatisfiedBy(s) != ok {
			t.Errorf("%s with %q: Satisfying %v, SatisfiedBy %v", c.expr, c.have, ok, e.SatisfiedBy(s))
		}
		if ok && (used == nil || !slices.Equal(used, strings.Fields(c.used))) || !ok && used != nil {
			t.Errorf("%s with %q used %q", c.expr, c.have, used)
		}
		missing, any := e.Unsatisfied(s)
		if any == ok {
			t.Errorf("%s with %q: satisfied and something is missing, or neither", c.expr, c.have)
		}
		if got, _ := json.Marshal(missing); any && string(got) != c.missing {
			t.Errorf("%s with %q misses %s", c.expr, c.have, got)
		}
		if got, _ := json.Marshal(e); string(got) != c.expr {
			t.Errorf("%s is written as %s", c.expr, got)
		}
		var again Expr
		if err := json.Unmarshal([]byte(c.expr), &again); err != nil || !reflect.DeepEqual(e, again) {
			t.Errorf("%s: Unmarshal gave %v, %v", c.expr, again, err)
		}
	}
	if NewSet("a").Has("") || (Expr{}).SatisfiedBy(NewSet("a")) {
		t.Error("the zero Expr is satisfied by any set")
	}
}

func TestExprString(t *testing.T) {
	e := AllOf(One("a<b>&c"), AnyOf(One(`q"`), One("c")), AnyOf())
	want := `{
  "AllOf": [
    "a<b>&c",
    {
      "AnyOf": [
        "q\"",
        "c"
      ]
    },
    {
      "AnyOf": []
    }
  ]
}`
	if e.String() != want {
		t.Errorf("got\n%s", e)
	}
	if got := One(`a<b> "c"`).String(); got != `a<b> "c"` {
		t.Errorf("one scope is shown as %s", got)
	}
}

func TestParseExprRefuses(t *testing.T) {
	deep := func(n int) string {
		return strings.Repeat(`{"AllOf":[`, n) + strings.Repeat(`]}`, n)
	}
	if _, err := ParseExpr([]byte(deep(MaxExprDepth / 2))); err != nil {
		t.Errorf("an expression of the greatest depth is refused: %v", err)
	}
	for _, in := range []string{
		``, `null`, `1`, `true`, `[]`, `["a"]`, `{}`, `"a" "b"`, `"a`, `{"AnyOf":[]`,
		`{"anyOf":[]}`, `{"ALLOF":[]}`, `{"AllOf":"a"}`, `{"AllOf":{}}`, `{"AllOf":[1]}`,
		`{"AllOf":[null]}`, `{"AllOf":[["a"]]}`, `{"AllOf":[],"AnyOf":[]}`, `{"AllOf":[],"x":1}`,
		`{"AllOf":["a"],"AllOf":[]}`, `{"AllOf":["a"],"\u0041llOf":[]}`,
		`"a\n"`, `"é"`, `"\ud800"`, `{"AllOf":["a","\u0000"]}`,
		deep(MaxExprDepth/2 + 1), deep(100_000), strings.Repeat("[", 1<<19),
		`"` + strings.Repeat("a", MaxExprBytes) + `"`,
	} {
		if e, err := ParseExpr([]byte(in)); err == nil {
			t.Errorf("%.50q is accepted as %v", in, e)
		} else if len(err.Error()) > 300 || !strings.HasPrefix(err.Error(), "scope expression ") {
			t.Errorf("%.50q: error %.300q", in, err)
		}
	}
}

// exprGen draws expressions of at most the given depth.
func exprGen(t *rapid.T, depth int) Expr {
	if depth == 0 || rapid.Bool().Draw(t, "leaf") {
		return One(dense.Draw(t, "scope"))
	}
	sub := []Expr{}
	for range rapid.IntRange(0, 3).Draw(t, "n") {
		sub = append(sub, exprGen(t, depth-1))
	}
	if rapid.Bool().Draw(t, "all") {
		return AllOf(sub...)
	}
	return AnyOf(sub...)
}

// TestExprLaws: what is missing is what must be added, and what was used is
// enough.
func TestExprLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := exprGen(t, 3)
		s := NewSet(rapid.SliceOfN(dense, 0, 6).Draw(t, "have")...)
		used, ok := e.Satisfying(s)
		rest, any := e.Unsatisfied(s)
		if ok != e.SatisfiedBy(s) || ok == any {
			t.Fatalf("%v with %q: %v, %v, %v", e, s.Slice(), ok, e.SatisfiedBy(s), any)
		}
		if ok && !e.SatisfiedBy(NewSet(used...)) {
			t.Fatalf("%v is not satisfied by %q, which it used", e, used)
		}
		if any {
			if rest.SatisfiedBy(s) {
				t.Fatalf("%v with %q misses %v, which is satisfied", e, s.Slice(), rest)
			}
			more := s.Union(NewSet(leaves(rest)...))
			if rest.SatisfiedBy(more) != e.SatisfiedBy(more) {
				t.Fatalf("%v with %q misses %v, but adding that decides otherwise", e, s.Slice(), rest)
			}
		}
		text, err := json.Marshal(e)
		again, err2 := ParseExpr(text)
		if err != nil || err2 != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("%v is read back as %v, %v, %v", e, again, err, err2)
		}
	})
}

func leaves(e Expr) []string {
	if e.op == opScope {
		return []string{e.scope}
	}
	var out []string
	for _, sub := range e.sub {
		out = append(out, leaves(sub)...)
	}
	return out
}

// oracleExpr reads an expression by way of map[string]any, which forgets keys
// that come twice.
func oracleExpr(v any) (Expr, error) {
	if s, ok := v.(string); ok {
		for _, r := range s {
			if r < 0x20 || r > 0x7e {
				return Expr{}, errors.New("not a scope")
			}
		}
		return One(s), nil
	}
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		return Expr{}, errors.New("not an expression")
	}
	for key, make := range map[string]func(...Expr) Expr{"AllOf": AllOf, "AnyOf": AnyOf} {
		list, ok := m[key].([]any)
		if !ok {
			continue
		}
		sub := []Expr{}
		for _, v := range list {
			e, err := oracleExpr(v)
			if err != nil {
				return Expr{}, err
			}
			sub = append(sub, e)
		}
		return make(sub...), nil
	}
	return Expr{}, errors.New("wrong key")
}

func FuzzParseExpr(f *testing.F) {
	f.Add([]byte(`"a"`))
	f.Add([]byte(`{"AllOf":["a",{"AnyOf":["b*","c<d>"]}]}`))
	f.Add([]byte(`{"AllOf":[],"AllOf":[]}`))
	f.Add([]byte(`{"AllOf":[],"anyOf":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := ParseExpr(in)
		var plain any
		want, wantErr := Expr{}, json.Unmarshal(in, &plain)
		if wantErr == nil {
			want, wantErr = oracleExpr(plain)
		}
		if err != nil {
			if wantErr == nil && !strings.Contains(err.Error(), "twice") && !strings.Contains(err.Error(), "nested deeper") && !strings.Contains(err.Error(), "longer than") {
				t.Fatalf("%q is refused: %v", in, err)
			}
			return
		}
		if wantErr != nil || !reflect.DeepEqual(e, want) {
			t.Fatalf("%q is read as %v, want %v, %v", in, e, want, wantErr)
		}
		out, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseExpr(out); err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("%s is read back as %v, %v", out, again, err)
		}
		_ = e.String()
	})
}

func BenchmarkExprSatisfiedBy(b *testing.B) {
	s := NewSet(manyScopes(1000)...)
	e := AllOf(
		One("queue:create-task:highest:proj-7/x"),
		AnyOf(One("nothing"), One("queue:create-task:highest:proj-77/x"), One("queue:create-task:highest:proj-777/x")),
	)
	b.ReportAllocs()
	for b.Loop() {
		if !e.SatisfiedBy(s) {
			b.Fatal("wrong answer")
		}
	}
}

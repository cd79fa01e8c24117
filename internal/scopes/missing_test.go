package scopes

import (
	"fmt"
	"slices"
	"testing"
)

func TestAlternatives(t *testing.T) {
	one := One
	for _, c := range []struct {
		expr Expr
		have []string
		want string
	}{
		{one("a"), nil, "[[a]]"},
		{one("a"), []string{"*"}, "[[]]"},
		{AllOf(), nil, "[[]]"},
		{AnyOf(), nil, "[]"},
		{AllOf(one("a"), AnyOf()), nil, "[]"},
		{AllOf(one("a"), one("b"), one("c")), []string{"b"}, "[[a c]]"},
		{AnyOf(AllOf(one("a"), one("b")), one("c"), one("a")), nil, "[[a] [c]]"},
		{AnyOf(AllOf(one("a"), one("b")), AllOf(one("c"), one("d"), one("e"))), []string{"c", "d"}, "[[e] [a b]]"},
		{AllOf(AnyOf(one("a"), one("b")), AnyOf(one("a"), one("c"))), nil, "[[a] [b c]]"},
		{AllOf(one("x"), AnyOf(one("a"), one("b"))), nil, "[[a x] [b x]]"},
		{AnyOf(one("a*"), one("ab")), nil, "[[ab]]"},
		{AllOf(one("a*"), one("ab")), nil, "[[a*]]"},
	} {
		sets, more := c.expr.Alternatives(NewSet(c.have...), 10)
		if got := fmt.Sprint(sets); got != c.want || more {
			t.Errorf("%s with %v: %s, want %s", c.expr, c.have, got, c.want)
		}
	}
	// Many combinations are bounded, and each that is told satisfies.
	var all []Expr
	for i := range 20 {
		all = append(all, AnyOf(one(fmt.Sprint("a", i)), one(fmt.Sprint("b", i)), one(fmt.Sprint("c", i))))
	}
	e := AllOf(all...)
	sets, more := e.Alternatives(Set{}, 5)
	if len(sets) != 5 || !more {
		t.Fatal(sets, more)
	}
	for i, set := range sets {
		if !e.SatisfiedBy(NewSet(set...)) {
			t.Errorf("%v does not satisfy", set)
		}
		for j := range set { // and none is too large
			if e.SatisfiedBy(NewSet(slices.Delete(slices.Clone(set), j, j+1)...)) {
				t.Errorf("%d: %v without %s satisfies", i, set, set[j])
			}
		}
	}
}

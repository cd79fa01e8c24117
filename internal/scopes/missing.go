package scopes

import (
	"cmp"
	"slices"
)

// maxAlternatives is how many sets Alternatives keeps on its way.
const maxAlternatives = 64

// Alternatives returns the smallest sets of scopes each of which would satisfy
// e if it were added to s: at most most of them, those of fewest scopes first,
// each normalised and none holding another. If s satisfies e there is one, which
// is empty; if nothing can satisfy e there is none. more tells that sets were
// left out.
func (e Expr) Alternatives(s Set, most int) (sets [][]string, more bool) {
	a := alternatives{have: s}
	sets = a.of(e)
	if len(sets) > most {
		sets, a.more = sets[:most], true
	}
	return sets, a.more
}

type alternatives struct {
	have Set
	more bool
}

func (a *alternatives) of(e Expr) [][]string {
	switch e.op {
	case opAllOf:
		var common []string // what is needed in any case
		sets := [][]string{nil}
		for i := range e.sub {
			sub := a.of(e.sub[i])
			if len(sub) == 0 {
				return nil
			}
			if len(sub) == 1 {
				common = append(common, sub[0]...)
				continue
			}
			product := make([][]string, 0, len(sets)*len(sub))
			for _, x := range sets {
				for _, y := range sub {
					product = append(product, append(slices.Clip(x), y...))
				}
			}
			sets = a.smallest(product)
		}
		if len(sets) == 1 {
			return [][]string{Normalize(append(sets[0], common...))}
		}
		for i := range sets {
			sets[i] = append(slices.Clip(sets[i]), common...)
		}
		return a.smallest(sets)
	case opAnyOf:
		var sets [][]string
		for i := range e.sub {
			sub := a.of(e.sub[i])
			if len(sub) == 1 && len(sub[0]) == 0 {
				return sub
			}
			sets = append(sets, sub...)
		}
		return a.smallest(sets)
	}
	if a.have.Has(e.scope) {
		return [][]string{{}}
	}
	return [][]string{{e.scope}}
}

// smallest leaves out sets that give what another one gives and more, and all
// but the smallest when there are too many.
func (a *alternatives) smallest(sets [][]string) [][]string {
	for i := range sets {
		sets[i] = Normalize(sets[i])
	}
	slices.SortFunc(sets, func(x, y []string) int {
		if n := cmp.Compare(len(x), len(y)); n != 0 {
			return n
		}
		return slices.Compare(x, y)
	})
	kept := make([][]string, 0, min(len(sets), maxAlternatives))
next:
	for _, set := range sets {
		gives := NewSet(set...)
		for i := 0; i < len(kept); i++ {
			if gives.HasAll(kept[i]) {
				continue next
			}
		}
		// One of the same size may be less: "a" than "a*".
		kept = slices.DeleteFunc(kept, func(k []string) bool { return NewSet(k...).HasAll(set) })
		if len(kept) == maxAlternatives {
			a.more = true
			break
		}
		kept = append(kept, set)
	}
	return kept
}

package scopes

// Growth returns the role whose parameters can make the most scopes, and a
// bound on how many: what the holder of one scope "assume:..." that gives it,
// and only roles that it leads to, is granted in place of <..>. The bound counts
// paths, so scopes that come about in several ways count as often. It is 0 if
// no role has parameters, and maxGrowth stands for anything above.
//
// The weight of a role is, for each of its scopes with <..>, one and the
// largest sum of the weights of those roles that one parameter can give
// together: prefix roles that enclose each other. To the role's own figure its
// scopes without <..> add what follows from them; they add nothing to the
// figures of others, because it is the same whoever is granted them.
func (r *Resolver) Growth() (role string, scopes int) {
	c := r.roles
	g := growth{
		compiled: c,
		weights:  make([]int, len(c.roles)),
		below:    make([]int, len(c.scopes)),
		chains:   make([]int, len(c.roles)),
	}
	for i := range c.roles {
		n := g.weight(int32(i))
		for _, f := range c.roles[i].fixed {
			n = min(maxGrowth, n+g.enclosing(c.links[f].up))
		}
		if n > scopes {
			role, scopes = c.roles[i].id, n
		}
	}
	return role, scopes
}

// maxGrowth is the largest figure of Growth.
const maxGrowth = 1_000_000_000

// growth is a depth-first search over the roles, which have no cycle. Figures
// are kept with one added, so that 0 is what is not known yet.
type growth struct {
	*compiled
	weights []int // of roles
	below   []int // of scopes: the largest sum of weights that it gives
	chains  []int // of roles: its weight with those around it; scratch
}

func (g *growth) weight(i int32) int {
	if g.weights[i] == 0 {
		n := 0
		for _, s := range g.roles[i].star {
			n = min(maxGrowth, n+1+g.most(s))
		}
		g.weights[i] = n + 1
	}
	return g.weights[i] - 1
}

// most is the largest sum of weights of roles that a scope gives together which
// begins like scope s, "assume:x*".
func (g *growth) most(s int32) int {
	if g.below[s] == 0 {
		l := g.links[s]
		around := g.enclosing(l.up)
		most := around
		for i := l.lo; i < l.hi; i++ {
			g.weight(i)
		}
		for i := l.lo; i < l.hi; i++ {
			if !g.roles[i].prefix {
				continue
			}
			g.chains[i] = around
			if up := g.roles[i].up; up >= l.lo {
				g.chains[i] = g.chains[up]
			}
			g.chains[i] = min(maxGrowth, g.chains[i]+g.weight(i))
			most = max(most, g.chains[i])
		}
		g.below[s] = most + 1
	}
	return g.below[s] - 1
}

// enclosing is the sum of the weights of role i and those around it.
func (g *growth) enclosing(i int32) int {
	n := 0
	for ; i >= 0; i = g.roles[i].up {
		n = min(maxGrowth, n+g.weight(i))
	}
	return n
}

package scopes

// Set is an immutable set of scopes in normal form. The zero value is the empty
// set. A Set is a slice header: copy it freely.
type Set struct {
	list []string
}

// NewSet returns the set of the given scopes. It keeps no reference to the
// argument's array.
func NewSet(scopes ...string) Set {
	if len(scopes) == 0 {
		return Set{}
	}
	return Set{Normalize(scopes)}
}

// Len returns the number of scopes in normal form.
func (s Set) Len() int { return len(s.list) }

// Bytes returns about how much memory the scopes take, if they share none.
func (s Set) Bytes() int {
	n := 0
	for _, scope := range s.list {
		n += len(scope) + 16 // the string's header
	}
	return n
}

// Slice returns the scopes in normal form. It is never nil. The array is shared
// with the set: callers must not modify its elements; appending is safe.
func (s Set) Slice() []string {
	if len(s.list) == 0 {
		return []string{}
	}
	return s.list[:len(s.list):len(s.list)]
}

// Has reports whether some member satisfies scope.
func (s Set) Has(scope string) bool {
	base, star := cutStar(scope)
	i, found := find(s.list, base, star)
	if found {
		return true
	}
	// Whatever lies between a star member p* and a scope that begins with p
	// begins with p itself and is not in a normal form that has p*. So only the
	// neighbour can satisfy scope.
	if i > 0 && Satisfies(s.list[i-1], scope) {
		return true
	}
	// There is one exception: "a**" satisfies "a*", which is before it.
	if star {
		_, found = find(s.list, scope, true)
	}
	return found
}

// HasAll reports whether every one of scopes is satisfied.
func (s Set) HasAll(scopes []string) bool {
	for _, scope := range scopes {
		if !s.Has(scope) {
			return false
		}
	}
	return true
}

// Missing returns those of scopes that are not satisfied, in the order given;
// nil if there are none.
func (s Set) Missing(scopes []string) []string {
	var missing []string
	for _, scope := range scopes {
		if !s.Has(scope) {
			missing = append(missing, scope)
		}
	}
	return missing
}

// Union returns the normalised union of two sets, by one linear merge.
func (s Set) Union(o Set) Set {
	a, b := s.list, o.list
	if len(a) == 0 {
		return o
	}
	if len(b) == 0 {
		return s
	}
	out := make([]string, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if Compare(a[0], b[0]) <= 0 {
			out, a = appendNormal(out, a[0]), a[1:]
		} else {
			out, b = appendNormal(out, b[0]), b[1:]
		}
	}
	for _, scope := range a {
		out = appendNormal(out, scope)
	}
	for _, scope := range b {
		out = appendNormal(out, scope)
	}
	return Set{out}
}

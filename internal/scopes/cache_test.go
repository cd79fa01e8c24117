package scopes

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestCache(t *testing.T) {
	c := newCache(3, 2000)
	key := func(s ...string) (uint64, []string) { return c.hash(s), s }
	put := func(s ...string) {
		h, s := key(s...)
		c.put(h, s, NewSet(s...), 0)
	}
	has := func(s ...string) bool {
		h, s := key(s...)
		set, ok := c.get(h, s)
		if ok && !slices.Equal(set.Slice(), Normalize(s)) {
			t.Errorf("%q gives %q", s, set.Slice())
		}
		return ok
	}
	put("a")
	put("b")
	put("c")
	if !has("a") {
		t.Error("a is forgotten early")
	}
	put("d")
	if has("b") || !has("a") || !has("c") || !has("d") {
		t.Error("what was used least recently must go, and only that")
	}
	put("a")
	if len(c.byHash) != 3 || !has("a") {
		t.Errorf("putting a set twice leaves %d", len(c.byHash))
	}
	put(strings.Repeat("x", 1700))
	if len(c.byHash) != 1 || !has(strings.Repeat("x", 1700)) {
		t.Errorf("%d sets in %d bytes", len(c.byHash), c.bytes)
	}
	put(strings.Repeat("x", 3000))
	if len(c.byHash) != 0 || c.bytes != 0 {
		t.Errorf("%d sets in %d bytes after one too large", len(c.byHash), c.bytes)
	}
	h, s := key("own")
	if c.put(h, s, NewSet("own"), 3000); len(c.byHash) != 0 {
		t.Error("a result's own bytes do not count")
	}
	h, s = key("a")
	c.put(h, s, NewSet("a"), 0)
	if _, ok := c.get(h, []string{"other"}); ok {
		t.Error("an equal hash is taken for an equal set")
	}
	if has("a", "") || has("", "a") || has() {
		t.Error("sets are confused")
	}
}

// TestCacheOwnsKeys: a caller may reuse its slice.
func TestCacheOwnsKeys(t *testing.T) {
	r := mustCompile(t, []Role{{"a", []string{"A"}}, {"b", []string{"B"}}})
	in := []string{"assume:a"}
	must(t, r.Expand, in)
	in[0] = "assume:b"
	if got := must(t, r.Expand, in).Slice(); !slices.Equal(got, []string{"B", "assume:b"}) {
		t.Errorf("got %q", got)
	}
	in[0] = "assume:a"
	if got := must(t, r.Expand, in).Slice(); !slices.Equal(got, []string{"A", "assume:a"}) {
		t.Errorf("got %q", got)
	}
}

func TestConcurrentExpand(t *testing.T) {
	roles := manyRoles(200)
	r := mustCompile(t, roles)
	r.cache = newCache(50, 1<<20) // so that sets are also forgotten
	want := make([][]string, len(roles))
	for i, role := range roles {
		want[i] = oracleExpand(roles, []string{"assume:" + role.ID, "x"})
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3 * len(roles) {
				i = (i*(g+3) + g) % len(roles)
				if got := must(t, r.Expand, []string{"assume:" + roles[i].ID, "x"}).Slice(); !slices.Equal(got, want[i]) {
					t.Errorf("%s: %d scopes instead of %d", roles[i].ID, len(got), len(want[i]))
				}
			}
		})
	}
	wg.Wait()
}

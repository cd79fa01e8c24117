package events

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, key string
		want         bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.c", false}, {"a.b", "a.b.c", false}, {"a.b.c", "a.b", false},
		{"*", "a", true}, {"*", "a.b", false}, {"*.*", "a.b", true}, {"a.*", "a", false}, {"*", "", true},
		{"#", "", true}, {"#", "a.b.c", true}, {"a.#", "a", true}, {"a.#", "a.b.c", true}, {"a.#", "b", false},
		{"#.c", "c", true}, {"#.c", "a.b.c", true}, {"#.c", "a.c.b", false}, {"a.#.c", "a.c", true}, {"a.#.c", "a.b.b.c", true},
		{"#.#", "", true}, {"#.*", "a", true}, {"*.#", "a", true}, {"*.#.*", "a", false}, {"*.#.*", "a.b", true},
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"a.", "a.", true}, {"a.*", "a.", true}, {".", ".", true},
		{"a*", "ab", false}, {"a#", "a", false}, {"**", "a", false},
		{"route.notify.#.on-completed.#", "route.notify.email.a@b.c.on-completed", true},
		{"route.notify.#.on-completed.#", "route.notify.on-completed.x.y", true},
		{"route.notify.#.on-completed.#", "route.notify.email.on-failed", false},
		{"primary.#", "primary.a.0._._.p.w.s.g._", true},
		{"primary.*.taskcluster-github.#", "primary.g.taskcluster-github._", true},
		{"#.a.#.a.#.a.#.b", strings.Repeat("a.", 200) + "c", false},
	} {
		if got := Match(c.pattern, c.key); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.key, got)
		}
	}
}

// FuzzMatch compares Match with the definition, written as it reads.
func FuzzMatch(f *testing.F) {
	f.Add("a.#.*.b", "a.a.b.b")
	f.Add("#.#.*", "")
	f.Add("*..#", ".a.")
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if len(pattern) > 14 || len(key) > 14 {
			return // the definition takes exponential time
		}
		if got, want := Match(pattern, key), naive(strings.Split(pattern, "."), strings.Split(key, ".")); got != want {
			t.Fatalf("Match(%q, %q) = %v", pattern, key, got)
		}
	})
}

func naive(pattern, key []string) bool {
	switch {
	case len(pattern) == 0:
		return len(key) == 0
	case pattern[0] == "#":
		for i := range len(key) + 1 {
			if naive(pattern[1:], key[i:]) {
				return true
			}
		}
		return false
	case len(key) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == key[0]) && naive(pattern[1:], key[1:])
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if !Match("route.notify.#.on-completed.#", "route.notify.email.somebody.on-completed") {
			b.Fatal("no match")
		}
	}
}

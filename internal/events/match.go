package events

import "strings"

// Match tells whether a routing key fits a topic pattern as AMQP 0-9-1 defines
// it: words are separated by dots, `*` stands for exactly one word, `#` for any
// number of words, none included. It needs time proportional to the product of
// the lengths at worst, and no memory: on a mismatch only the last `#` has to
// take one word more (the usual algorithm for wildcards).
//
// An empty key has one empty word, and an empty pattern fits only that.
func Match(pattern, key string) bool {
	p, k := 0, 0 // where the next word starts; len+1 = no more words
	star, mark := -1, 0
	for k <= len(key) {
		if p <= len(pattern) {
			pw := word(pattern, p)
			if pw == "#" {
				star, mark = p+2, k
				p = star
				continue
			}
			if kw := word(key, k); pw == "*" || pw == kw {
				p += len(pw) + 1
				k += len(kw) + 1
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark += len(word(key, mark)) + 1
		p, k = star, mark
	}
	for p <= len(pattern) && word(pattern, p) == "#" {
		p += 2
	}
	return p > len(pattern)
}

// word is the word of s that starts at i.
func word(s string, i int) string {
	if end := strings.IndexByte(s[i:], '.'); end >= 0 {
		return s[i : i+end]
	}
	return s[i:]
}

// Matches tells whether an event fits one of the bindings, by its key or one
// of its CC keys.
func Matches(bindings []Binding, e *Event) bool {
	for _, b := range bindings {
		if b.Exchange != e.Exchange {
			continue
		}
		if Match(b.Pattern, e.Key) {
			return true
		}
		for _, cc := range e.CC {
			if Match(b.Pattern, cc) {
				return true
			}
		}
	}
	return false
}

package schema

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// quick checks body and fills in defaults in one pass over the bytes, without
// building values. It knows only what is frequent: ok false says nothing, and
// the caller goes the long way. What it accepts, the long way accepts with the
// same result, white space aside; FuzzFastAgrees holds it to that.
func (sc *Schema) quick(body []byte) (doc []byte, ok bool) {
	if !utf8.Valid(body) {
		return nil, false
	}
	var keys [32]string // room that costs no allocation
	var inserts [16]insert
	q := scanner{src: string(body), keys: keys[:0], inserts: inserts[:0]}
	if !q.value(sc.rule, 0) {
		return nil, false
	}
	q.space()
	if q.pos != len(q.src) {
		return nil, false
	}
	if len(q.inserts) == 0 {
		return body, true
	}
	size := len(body)
	for _, in := range q.inserts {
		size += len(in.text) + 1
	}
	doc = make([]byte, 0, size)
	last := 0
	for _, in := range q.inserts {
		doc = append(doc, q.src[last:in.at]...)
		last = in.at
		if in.comma {
			doc = append(doc, ',')
		}
		doc = append(doc, in.text...)
	}
	return append(doc, q.src[last:]...), true
}

type insert struct {
	at    int
	comma bool
	text  []byte
}

type scanner struct {
	src     string
	pos     int
	inserts []insert
	keys    []string // of the open objects
	within  int      // alternatives, where no defaults are filled in
}

func (q *scanner) space() {
	for q.pos < len(q.src) {
		switch q.src[q.pos] {
		case ' ', '\t', '\n', '\r':
			q.pos++
		default:
			return
		}
	}
}

func (q *scanner) next(c byte) bool {
	q.space()
	if q.pos < len(q.src) && q.src[q.pos] == c {
		q.pos++
		return true
	}
	return false
}

func (q *scanner) value(r *rule, depth int) bool {
	if r.slow {
		return false
	}
	q.space()
	if q.pos >= len(q.src) {
		return false
	}
	if r.choices != nil && !q.choice(r, depth) {
		return false
	}
	switch c := q.src[q.pos]; c {
	case '{':
		return r.kinds.has(object) && depth < MaxDepth && q.object(r, depth+1)
	case '[':
		return r.kinds.has(array) && depth < MaxDepth && q.array(r, depth+1)
	case '"':
		s, plain, ok := q.text()
		return ok && r.kinds.has(text) && r.text(s, plain)
	case 't':
		return r.kinds.has(boolean) && !r.enumerated() && q.word("true")
	case 'f':
		return r.kinds.has(boolean) && !r.enumerated() && q.word("false")
	case 'n':
		return r.kinds.has(null) && !r.enumerated() && q.word("null")
	default:
		return r.kinds.has(number) && q.number(r)
	}
}

// choice finds an alternative that the value satisfies, and steps back.
func (q *scanner) choice(r *rule, depth int) bool {
	start := q.pos
	q.within++
	found := false
	for _, sub := range r.choices {
		keys := len(q.keys)
		found = q.value(sub, depth)
		q.keys = q.keys[:keys]
		q.pos = start
		if found {
			break
		}
	}
	q.within--
	return found
}

func (q *scanner) word(w string) bool {
	if !strings.HasPrefix(q.src[q.pos:], w) {
		return false
	}
	q.pos += len(w)
	return true
}

func (q *scanner) object(r *rule, depth int) bool {
	if r.enumerated() {
		return false
	}
	q.pos++
	first := len(q.keys)
	required := 0
	var seen, bloom uint64         // properties that were there; hashes of names
	var others map[string]struct{} // names, when there are many
	if !q.next('}') {
		for {
			q.space()
			if q.pos >= len(q.src) || q.src[q.pos] != '"' {
				return false
			}
			name, plain, ok := q.text()
			if !ok || !plain || !q.next(':') {
				return false
			}
			sub := r.additional
			if i, known := r.index[name]; known {
				if seen&(1<<i) != 0 {
					return false
				}
				seen |= 1 << i
				p := &r.props[i]
				if p.required {
					required++
				}
				sub = p.rule
			} else {
				if sub == nil {
					return false
				}
				switch bit := uint64(1) << (hash(name) & 63); {
				case others != nil:
					if _, double := others[name]; double {
						return false
					}
					others[name] = struct{}{}
				case bloom&bit != 0 && slices.Contains(q.keys[first:], name):
					return false
				default:
					bloom |= bit
					if q.keys = append(q.keys, name); len(q.keys)-first == 256 {
						others = make(map[string]struct{}, 1024)
						for _, k := range q.keys[first:] {
							others[k] = struct{}{}
						}
					}
				}
			}
			if !q.value(sub, depth) {
				return false
			}
			if q.next('}') {
				break
			}
			if !q.next(',') {
				return false
			}
		}
	}
	comma := seen != 0 || len(q.keys) > first
	q.keys = q.keys[:first]
	if q.within == 0 && r.defaulting {
		for i := range r.props {
			p := &r.props[i]
			if seen&(1<<i) != 0 || p.fallback == nil {
				continue
			}
			if !p.trusted {
				return false
			}
			if p.required {
				required++
			}
			q.inserts = append(q.inserts, insert{q.pos - 1, comma, p.insert})
			comma = true
		}
	}
	return required == r.required
}

func hash(s string) uint32 {
	h := uint32(2166136261) // FNV-1a
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h ^ h>>16
}

func (q *scanner) array(r *rule, depth int) bool {
	if r.enumerated() {
		return false
	}
	q.pos++
	if q.next(']') {
		return true
	}
	first := len(q.keys)
	items := r.items
	if items == nil {
		items = anything
	}
	for n := 1; ; n++ {
		if r.maxItems >= 0 && n > r.maxItems {
			return false
		}
		q.space()
		start := q.pos
		if !q.value(items, depth) {
			return false
		}
		if r.unique {
			// Only plain strings are compared here; their quotes belong to it.
			item := q.src[start:q.pos]
			if item[0] != '"' || strings.IndexByte(item, '\\') >= 0 {
				return false
			}
			q.keys = append(q.keys, item)
		}
		if q.next(']') {
			break
		}
		if !q.next(',') {
			return false
		}
	}
	ok := !r.unique || distinct(q.keys[first:])
	q.keys = q.keys[:first]
	return ok
}

func distinct(items []string) bool {
	if len(items) > 24 {
		seen := make(map[string]struct{}, len(items))
		for _, s := range items {
			seen[s] = struct{}{}
		}
		return len(seen) == len(items)
	}
	for i, s := range items {
		for _, earlier := range items[:i] {
			if s == earlier {
				return false
			}
		}
	}
	return true
}

// text reads a string. s is what stands between the quotes; plain means that
// it holds no escapes.
func (q *scanner) text() (s string, plain, ok bool) {
	q.pos++
	start := q.pos
	plain = true
	for q.pos < len(q.src) {
		c := q.src[q.pos]
		if c == '"' {
			s = q.src[start:q.pos]
			q.pos++
			return s, plain, true
		}
		if c < ' ' {
			return "", false, false
		}
		if c == '\\' {
			plain = false
			q.pos++
			if q.pos >= len(q.src) {
				return "", false, false
			}
			switch q.src[q.pos] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if q.pos+4 >= len(q.src) {
					return "", false, false
				}
				code := q.src[q.pos+1 : q.pos+5]
				if code == "0000" || !isHex(code[0]) || !isHex(code[1]) || !isHex(code[2]) || !isHex(code[3]) {
					return "", false, false
				}
				q.pos += 4
			default:
				return "", false, false
			}
		}
		q.pos++
	}
	return "", false, false
}

// text checks a string, given as it stands between its quotes.
func (r *rule) text(s string, plain bool) bool {
	if r.unchecked {
		return true
	}
	// Escapes take more bytes than the characters they stand for.
	if r.maxLen >= 0 && len(s) > r.maxLen {
		if !plain || utf8.RuneCountInString(s) > r.maxLen {
			return false
		}
	}
	if r.minLen > 1 || r.minLen == 1 && s == "" {
		if !plain || utf8.RuneCountInString(s) < r.minLen {
			return false
		}
	}
	if r.enum == nil && r.numEnum == nil && r.pattern == nil && r.format == nil {
		return true
	}
	if !plain {
		return false
	}
	if r.enumerated() {
		found := false
		for _, e := range r.enum {
			if e == s {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return (r.pattern == nil || r.pattern(s)) && (r.format == nil || r.format(s))
}

func (r *rule) enumerated() bool { return r.enum != nil || r.numEnum != nil }

// number reads a number. With constraints only plain integers will do.
func (q *scanner) number(r *rule) bool {
	start := q.pos
	if q.src[q.pos] == '-' {
		q.pos++
	}
	whole := q.digits()
	if whole == 0 || whole > 15 || whole > 1 && q.src[q.pos-whole] == '0' {
		return false
	}
	integer := true
	if q.pos < len(q.src) && q.src[q.pos] == '.' {
		integer = false
		q.pos++
		if n := q.digits(); n == 0 || n > 40 {
			return false
		}
	}
	if q.pos < len(q.src) && q.src[q.pos]|0x20 == 'e' {
		return false
	}
	if r.unchecked {
		return true
	}
	literal := q.src[start:q.pos]
	if r.enumerated() {
		for _, e := range r.numEnum {
			if e == literal {
				return true
			}
		}
		return false
	}
	if !integer {
		return !r.integer && math.IsInf(r.min, -1) && math.IsInf(r.max, 1)
	}
	n, err := strconv.ParseInt(literal, 10, 64)
	return err == nil && float64(n) >= r.min && float64(n) <= r.max
}

func (q *scanner) digits() int {
	start := q.pos
	for q.pos < len(q.src) && isDigit(q.src[q.pos]) {
		q.pos++
	}
	return q.pos - start
}

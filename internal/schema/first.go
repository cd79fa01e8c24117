package schema

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A payload beyond one of these is large: anybody may send one, and wording
// all that is wrong with it would cost seconds and hundreds of megabytes.
const (
	largeBytes  = 1 << 20
	largeCommas = 10_000 // about as many members and elements
)

func large(body []byte) bool {
	return len(body) > largeBytes || bytes.Count(body, []byte{','}) > largeCommas
}

// moreProblems follows the first problem of a large payload.
const moreProblems = "data may have more problems: of a payload as large as this only the first is told"

// first looks for one problem without building values. That it finds none
// (the empty string) says nothing: it skips what it does not know for certain.
// Errors are those of parse.
func (sc *Schema) first(body []byte) (string, error) {
	if !utf8.Valid(body) {
		return "", errNotUTF8
	}
	k := seeker{reader: newReader(body)}
	p, err := k.value(sc.rule, 0)
	if err != nil {
		return "", err
	}
	if k.space(); k.pos < len(k.src) {
		return "", k.unexpected()
	}
	if p == nil {
		return "", nil
	}
	slices.Reverse(p.at)
	return limited([]string{location(p.at) + " " + p.text})[0], nil
}

// seeker walks a JSON text along a rule. What it finds are its problems' paths
// from the inside out.
type seeker struct {
	*reader
	quiet  int // a problem is known: others need no words
	within int // alternatives being tried
	silent problem
}

// found makes a problem at the present value.
func (k *seeker) found(format string, args ...any) *problem {
	if k.quiet > 0 {
		k.silent = problem{}
		return &k.silent
	}
	return &problem{text: fmt.Sprintf(format, args...)}
}

// refused takes over what the reader refuses of any value.
func (k *seeker) refused() *problem {
	if len(k.problems) == 0 {
		return nil
	}
	_, why, _ := strings.Cut(k.problems[0], " ")
	k.problems = k.problems[:0]
	if k.within > 0 {
		return nil // it is no reason why an alternative does not hold
	}
	return k.found("%s", why)
}

func (k *seeker) value(r *rule, depth int) (*problem, error) {
	k.space()
	if k.pos >= len(k.src) {
		return nil, k.unexpected()
	}
	bad, err := k.parts(r, depth)
	if err != nil {
		return nil, err
	}
	own := k.quiet
	if bad != nil {
		k.quiet++
	}
	p, err := k.plain(r, depth)
	k.quiet = own
	if bad == nil {
		bad = p
	}
	return bad, err
}

// parts tries allOf, oneOf and anyOf, and steps back. Within alternatives it
// tries no others, so that the time does not multiply.
func (k *seeker) parts(r *rule, depth int) (bad *problem, err error) {
	if k.within > 0 || r.all == nil && r.choices == nil {
		return nil, nil
	}
	start := k.pos
	k.within++
	defer func() { k.within--; k.pos = start }()
	for _, sub := range r.all {
		k.pos = start
		if p, err := k.value(sub, depth); p != nil || err != nil {
			return p, err
		}
	}
	for _, sub := range r.choices {
		k.pos = start
		if p, err := k.value(sub, depth); p == nil || err != nil {
			return nil, err
		}
	}
	switch {
	case r.choices == nil:
		return nil, nil
	case r.oneOf:
		return k.found("must match exactly one schema in oneOf"), nil
	}
	return k.found("must match a schema in anyOf"), nil
}

// plain checks a value by the rule's other conditions. Of a rule that holds
// more than it knows of, only the type is certain.
func (k *seeker) plain(r *rule, depth int) (bad *problem, err error) {
	inner := r
	if r.slow {
		inner = anything
	}
	var is jsonKind
	integer := true
	switch c := k.src[k.pos]; {
	case c == '{' || c == '[':
		if depth >= MaxDepth {
			return nil, errTooDeep
		}
		k.pos++
		if is = object; c == '{' {
			bad, err = k.object(inner, depth+1)
		} else {
			is = array
			bad, err = k.array(inner, depth+1)
		}
	case c == '"':
		is = text
		var s string
		s, err = k.string()
		if bad = k.refused(); bad == nil && err == nil {
			bad = k.text(inner, s)
		}
	case c == 't':
		is, err = boolean, k.word("true")
	case c == 'f':
		is, err = boolean, k.word("false")
	case c == 'n':
		is, err = null, k.word("null")
	default:
		if c != '-' && !isDigit(c) {
			return nil, k.unexpected()
		}
		is = number
		start := k.pos
		err = k.number()
		if bad = k.refused(); bad == nil && err == nil {
			integer, bad = k.magnitude(inner, string(k.src[start:k.pos]))
		}
	}
	switch {
	case err != nil:
		return nil, err
	case !r.kinds.has(is) || is == number && r.integer && !integer:
		if k.quiet > 0 {
			return k.found(""), nil
		}
		return k.found("must be %s", strings.Join(r.types(), ",")), nil
	case bad == nil && inner.enumerated() && is != text && is != number:
		return k.found(notAllowed), nil
	}
	return bad, nil
}

const notAllowed = "must be equal to one of the allowed values"

// magnitude checks a number, and tells whether it is whole. Rounding to a
// double keeps order, so what it finds is true of the number as written.
func (k *seeker) magnitude(r *rule, literal string) (integer bool, bad *problem) {
	f, err := strconv.ParseFloat(literal, 64)
	switch {
	case err != nil:
	case f < r.min:
		bad = k.found("must be >= %s", short(r.min))
	case f > r.max:
		bad = k.found("must be <= %s", short(r.max))
	case r.enumerated() && !slices.ContainsFunc(r.numEnum, func(e string) bool {
		v, err := strconv.ParseFloat(e, 64)
		return err != nil || v == f
	}):
		bad = k.found(notAllowed)
	}
	return f == math.Trunc(f), bad
}

func short(f float64) string {
	if f == math.Trunc(f) {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func (k *seeker) text(r *rule, s string) *problem {
	switch {
	case r.text(s, true):
		return nil
	case r.maxLen >= 0 && utf8.RuneCountInString(s) > r.maxLen:
		return k.found("must NOT have more than %d characters", r.maxLen)
	case utf8.RuneCountInString(s) < r.minLen:
		return k.found("must NOT have fewer than %d characters", r.minLen)
	case r.enumerated() && !slices.Contains(r.enum, s):
		return k.found(notAllowed)
	case r.pattern != nil && !r.pattern(s):
		return k.found("must match pattern \"%s\"", r.patternText)
	}
	return k.found("must match format \"%s\"", r.formatName)
}

// object reads members. Of several with one name the last counts, so a problem
// with a member's value is forgotten when the name comes again.
func (k *seeker) object(r *rule, depth int) (*problem, error) {
	var extra, bad *problem
	var badName string
	var seen uint64 // properties
	outer := k.quiet
	defer func() { k.quiet = outer }()
	for more := !k.take('}'); more; {
		if k.space(); k.pos >= len(k.src) || k.src[k.pos] != '"' {
			return nil, k.unexpected()
		}
		name, err := k.string()
		if err != nil {
			return nil, err
		}
		if !k.take(':') {
			return nil, k.unexpected()
		}
		if bad != nil && name == badName {
			bad = nil
		}
		if p := k.refused(); extra == nil {
			extra = p
		}
		sub := r.additional
		if i, known := r.index[name]; known {
			seen |= 1 << i
			sub = r.props[i].rule
		} else if sub == nil {
			sub = anything
			if extra == nil {
				extra = k.found("must NOT have additional properties: %q", clipped(name))
			}
		}
		if k.quiet = outer; extra != nil || bad != nil {
			k.quiet++
		}
		p, err := k.value(sub, depth)
		if err != nil {
			return nil, err
		}
		if k.quiet = outer; p != nil && bad == nil {
			if bad, badName = p, name; outer == 0 {
				p.at = append(p.at, clipped(name))
			}
		}
		if more = !k.take('}'); more && !k.take(',') {
			return nil, k.unexpected()
		}
	}
	if extra != nil {
		return extra, nil
	}
	if bad != nil {
		return bad, nil
	}
	for i := range r.props {
		if p := &r.props[i]; p.required && p.fallback == nil && seen&(1<<i) == 0 {
			return k.found("must have required property '%s'", p.name), nil
		}
	}
	return nil, nil
}

// clipped keeps as much of a name as fits into a line.
func clipped(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), maxLine)], "")
}

func (k *seeker) array(r *rule, depth int) (bad *problem, err error) {
	items := r.items
	if items == nil {
		items = anything
	}
	outer := k.quiet
	defer func() { k.quiet = outer }()
	n := 0
	for more := !k.take(']'); more; n++ {
		p, err := k.value(items, depth)
		if err != nil {
			return nil, err
		}
		if p != nil && bad == nil {
			if bad = p; outer == 0 {
				p.at = append(p.at, strconv.Itoa(n))
			}
			k.quiet++
		}
		if more = !k.take(']'); more && !k.take(',') {
			return nil, k.unexpected()
		}
	}
	k.quiet = outer
	if r.maxItems >= 0 && n > r.maxItems {
		return k.found("must NOT have more than %d items", r.maxItems), nil
	}
	return bad, nil
}

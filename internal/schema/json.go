package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of the JSON that [Schema.Decode] reads.
const (
	MaxDepth  = 200 // nested arrays and objects
	maxNumber = 400 // bytes of a number literal
)

var (
	errTooDeep = fmt.Errorf("JSON is nested deeper than %d levels", MaxDepth)
	errNotUTF8 = errors.New("JSON is not valid UTF-8")
)

type jsonKind byte

const (
	null jsonKind = iota
	boolean
	number
	text
	array
	object
)

// node is a JSON value that remembers how it was written. Members of objects
// are unique: as in JavaScript the last of several with one name counts, in
// the place of the first.
type node struct {
	kind    jsonKind
	start   int    // offset in the text
	raw     []byte // as written: scalars always, containers until changed
	str     string // of a string: the decoded value
	members []member
	items   []*node
}

type member struct {
	name  string
	raw   []byte // the name as written, with quotes
	value *node
}

func (n *node) member(name string) *node {
	for i := range n.members {
		if n.members[i].name == name {
			return n.members[i].value
		}
	}
	return nil
}

// value converts to what encoding/json makes of it when told to UseNumber.
func (n *node) value() any {
	switch n.kind {
	case boolean:
		return n.raw[0] == 't'
	case number:
		return json.Number(n.raw)
	case text:
		return n.str
	case array:
		out := make([]any, len(n.items))
		for i, e := range n.items {
			out[i] = e.value()
		}
		return out
	case object:
		out := make(map[string]any, len(n.members))
		for _, m := range n.members {
			out[m.name] = m.value.value()
		}
		return out
	}
	return nil
}

// appendJSON writes the value without white space; scalars as they were read.
func (n *node) appendJSON(b []byte) []byte {
	switch n.kind {
	case array:
		b = append(b, '[')
		for i, e := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.appendJSON(b)
		}
		return append(b, ']')
	case object:
		b = append(b, '{')
		for i, m := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, m.raw...), ':')
			b = m.value.appendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, n.raw...)
}

// reader is a strict JSON parser (RFC 8259) over valid UTF-8.
type reader struct {
	src       []byte
	whole     string // src, of which strings without escapes are parts
	pos       int
	duplicate bool     // a member name stood twice
	path      []string // member names and indices down to here
	problems  []string // values that JSON allows and we do not
	extreme   bool     // among them numbers that exact arithmetic must not see
}

func (r *reader) refuse(why string) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, limited([]string{location(r.path) + " " + why})...)
	}
}

func newReader(src []byte) *reader { return &reader{src: src, whole: string(src)} }

func parse(src []byte) (*node, *reader, error) {
	if !utf8.Valid(src) {
		return nil, nil, errNotUTF8
	}
	r := newReader(src)
	n, err := r.read(0)
	if err != nil {
		return nil, nil, err
	}
	r.space()
	if r.pos < len(src) {
		return nil, nil, r.unexpected()
	}
	return n, r, nil
}

func (r *reader) unexpected() error {
	if r.pos >= len(r.src) {
		return errors.New("Unexpected end of JSON input")
	}
	c, _ := utf8.DecodeRune(r.src[r.pos:])
	return fmt.Errorf("Unexpected token %q in JSON at position %d", c, r.pos)
}

func (r *reader) space() {
	for r.pos < len(r.src) {
		switch r.src[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// take steps over c, after white space, if it comes next.
func (r *reader) take(c byte) bool {
	r.space()
	if r.pos < len(r.src) && r.src[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

func (r *reader) read(depth int) (*node, error) {
	r.space()
	if r.pos >= len(r.src) {
		return nil, r.unexpected()
	}
	start := r.pos
	n := &node{start: start}
	var err error
	switch c := r.src[r.pos]; {
	case c == '{' || c == '[':
		if depth >= MaxDepth {
			return nil, errTooDeep
		}
		r.pos++
		if c == '{' {
			n.kind = object
			err = r.object(n, depth+1)
		} else {
			n.kind = array
			err = r.array(n, depth+1)
		}
	case c == '"':
		n.kind = text
		n.str, err = r.string()
	case c == '-' || '0' <= c && c <= '9':
		n.kind = number
		err = r.number()
	case c == 't':
		n.kind, err = boolean, r.word("true")
	case c == 'f':
		n.kind, err = boolean, r.word("false")
	case c == 'n':
		n.kind, err = null, r.word("null")
	default:
		err = r.unexpected()
	}
	n.raw = r.src[start:r.pos]
	return n, err
}

func (r *reader) word(w string) error {
	for i := range len(w) {
		if r.pos >= len(r.src) || r.src[r.pos] != w[i] {
			return r.unexpected()
		}
		r.pos++
	}
	return nil
}

func (r *reader) object(n *node, depth int) error {
	if r.take('}') {
		return nil
	}
	var index map[string]int // only for large objects
	for {
		r.space()
		start := r.pos
		if r.pos >= len(r.src) || r.src[r.pos] != '"' {
			return r.unexpected()
		}
		name, err := r.string()
		if err != nil {
			return err
		}
		m := member{name: name, raw: r.src[start:r.pos]}
		if !r.take(':') {
			return r.unexpected()
		}
		r.path = append(r.path, name)
		if m.value, err = r.read(depth); err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
		if len(n.members) == 16 && index == nil {
			index = make(map[string]int)
			for i := range n.members {
				index[n.members[i].name] = i
			}
		}
		if i, ok := n.find(name, index); ok {
			r.duplicate = true
			n.members[i] = m
		} else {
			if index != nil {
				index[name] = len(n.members)
			}
			n.members = append(n.members, m)
		}
		if r.take('}') {
			return nil
		}
		if !r.take(',') {
			return r.unexpected()
		}
	}
}

func (n *node) find(name string, index map[string]int) (int, bool) {
	if index != nil {
		i, ok := index[name]
		return i, ok
	}
	for i := range n.members {
		if n.members[i].name == name {
			return i, true
		}
	}
	return 0, false
}

func (r *reader) array(n *node, depth int) error {
	if r.take(']') {
		return nil
	}
	for {
		r.path = append(r.path, strconv.Itoa(len(n.items)))
		e, err := r.read(depth)
		if err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
		n.items = append(n.items, e)
		if r.take(']') {
			return nil
		}
		if !r.take(',') {
			return r.unexpected()
		}
	}
}

func (r *reader) digits() bool {
	start := r.pos
	for r.pos < len(r.src) && '0' <= r.src[r.pos] && r.src[r.pos] <= '9' {
		r.pos++
	}
	return r.pos > start
}

func (r *reader) number() error {
	start := r.pos
	next := func(chars string) bool {
		if r.pos < len(r.src) && strings.IndexByte(chars, r.src[r.pos]) >= 0 {
			r.pos++
			return true
		}
		return false
	}
	next("-")
	if !next("0") && !r.digits() {
		return r.unexpected()
	}
	if next(".") && !r.digits() {
		return r.unexpected()
	}
	if next("eE") {
		next("+-")
		if !r.digits() {
			return r.unexpected()
		}
	}
	// Exact arithmetic on 1e999999999 would exhaust the memory.
	literal := string(r.src[start:r.pos])
	if _, err := strconv.ParseFloat(literal, 64); err != nil || len(literal) > maxNumber || tiny(literal) {
		r.extreme = true
		r.refuse("must be a number that a double can hold")
	}
	return nil
}

// tiny reports an exponent below -400, far beyond the smallest double.
func tiny(literal string) bool {
	_, exp, ok := strings.Cut(strings.ToLower(literal), "e-")
	if !ok {
		return false
	}
	n, err := strconv.Atoi(exp)
	return err != nil || n > 400
}

// string reads a string literal at the opening quote.
func (r *reader) string() (string, error) {
	r.pos++
	start := r.pos
	for ; r.pos < len(r.src); r.pos++ {
		switch c := r.src[r.pos]; {
		case c == '"':
			s := r.whole[start:r.pos]
			r.pos++
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return "", r.unexpected()
		}
	}
	return "", r.unexpected()
}

func (r *reader) escaped(start int) (string, error) {
	b := append([]byte(nil), r.src[start:r.pos]...)
	for r.pos < len(r.src) {
		c := r.src[r.pos]
		switch {
		case c == '"':
			r.pos++
			return string(b), nil
		case c < ' ':
			return "", r.unexpected()
		case c != '\\':
			b = append(b, c)
			r.pos++
			continue
		}
		r.pos++
		if r.pos >= len(r.src) {
			return "", r.unexpected()
		}
		const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
		if i := strings.IndexByte(from, r.src[r.pos]); i >= 0 {
			b = append(b, to[i])
			r.pos++
			continue
		}
		u, err := r.unicode()
		if err != nil {
			return "", err
		}
		if u == 0 {
			r.refuse("must NOT contain the character U+0000")
		}
		if utf16.IsSurrogate(u) { // half of a pair, or lone and replaced
			rest := r.pos
			low := rune(0)
			if r.pos+1 < len(r.src) && r.src[r.pos] == '\\' && r.src[r.pos+1] == 'u' {
				r.pos++
				if low, err = r.unicode(); err != nil {
					return "", err
				}
			}
			if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
				r.pos = rest
			}
		}
		b = utf8.AppendRune(b, u)
	}
	return "", r.unexpected()
}

// unicode reads "uXXXX".
func (r *reader) unicode() (rune, error) {
	if r.src[r.pos] != 'u' {
		return 0, r.unexpected()
	}
	r.pos++
	var u rune
	for range 4 {
		if r.pos >= len(r.src) {
			return 0, r.unexpected()
		}
		c := r.src[r.pos] | 0x20
		switch {
		case '0' <= r.src[r.pos] && r.src[r.pos] <= '9':
			u = u<<4 | rune(r.src[r.pos]-'0')
		case 'a' <= c && c <= 'f':
			u = u<<4 | rune(c-'a'+10)
		default:
			return 0, r.unexpected()
		}
		r.pos++
	}
	return u, nil
}

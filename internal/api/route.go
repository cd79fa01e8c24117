package api

import (
	"net/url"
	"strings"
)

// route is a compiled Method.Route.
type route struct {
	parts []part
	splat int // index of the splat in parts, or -1
	names []string
}

type part struct {
	literal string // when kind is literalPart
	name    string
	kind    partKind
}

type partKind uint8

const (
	literalPart partKind = iota
	paramPart
	splatPart
)

func compileRoute(pattern string) route {
	r := route{splat: -1}
	for _, s := range strings.Split(strings.TrimPrefix(pattern, "/"), "/") {
		switch {
		case strings.HasPrefix(s, ":"):
			r.parts = append(r.parts, part{kind: paramPart, name: s[1:]})
			r.names = append(r.names, s[1:])
		case strings.HasPrefix(s, "{*") && strings.HasSuffix(s, "}"):
			r.splat = len(r.parts)
			r.parts = append(r.parts, part{kind: splatPart, name: s[2 : len(s)-1]})
			r.names = append(r.names, s[2:len(s)-1])
		default:
			r.parts = append(r.parts, part{literal: s})
		}
	}
	// A route that ends in a slash also matches without it: the last, empty
	// part is dropped here and the caller's trailing slash is always optional.
	if last := len(r.parts) - 1; last > 0 && r.parts[last].kind == literalPart && r.parts[last].literal == "" {
		r.parts = r.parts[:last]
	}
	return r
}

// published is the route as references show it: "/task/<taskId>".
func published(pattern string) string {
	parts := strings.Split(pattern, "/")
	for i, s := range parts {
		switch {
		case strings.HasPrefix(s, ":"):
			parts[i] = "<" + s[1:] + ">"
		case strings.HasPrefix(s, "{*"):
			parts[i] = "<" + s[2:len(s)-1] + ">"
		}
	}
	return strings.Join(parts, "/")
}

// match compares the route with the still-encoded segments of a path. Values
// come in the order of names and are decoded; ok is false when the route is
// another one's, err is set when an escape is malformed.
func (r *route) match(segments []string, values []string) (_ []string, ok bool, err error) {
	values = values[:0]
	if r.splat < 0 {
		if len(segments) == len(r.parts)+1 && segments[len(segments)-1] == "" {
			segments = segments[:len(segments)-1]
		}
		if len(segments) != len(r.parts) {
			return values, false, nil
		}
		return matchParts(r.parts, segments, values)
	}
	tail := len(r.parts) - r.splat - 1
	if tail > 0 && segments[len(segments)-1] == "" {
		segments = segments[:len(segments)-1]
	}
	end := len(segments) - tail
	if end <= r.splat {
		return values, false, nil
	}
	values, ok, err = matchParts(r.parts[:r.splat], segments[:r.splat], values)
	if !ok || err != nil {
		return values, ok, err
	}
	rest, err := url.PathUnescape(strings.Join(segments[r.splat:end], "/"))
	values = append(values, rest)
	after, ok, err2 := matchParts(r.parts[r.splat+1:], segments[end:], values)
	if ok && err == nil {
		err = err2
	}
	return after, ok, err
}

func matchParts(parts []part, segments, values []string) ([]string, bool, error) {
	var bad error
	for i := range parts {
		s := segments[i]
		switch parts[i].kind {
		case literalPart:
			if s != parts[i].literal {
				return values, false, nil
			}
		case paramPart:
			if s == "" {
				return values, false, nil
			}
			if strings.IndexByte(s, '%') >= 0 {
				decoded, err := url.PathUnescape(s)
				if err != nil {
					bad = err
				}
				s = decoded
			}
			values = append(values, s)
		}
	}
	return values, true, bad
}

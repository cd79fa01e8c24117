package methods

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A need is one set of scopes that suffices for a call, and is the smallest of
// its kind: without any of its scopes it does not. The scopes are in order.
type need []string

// An expression is a scope expression as references publish it. What it means is
// written down here once more, from its published description, so that the
// program is not measured by its own reading of it.
type expression struct{ json any }

func (x *expression) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &x.json) }

var placeholder = regexp.MustCompile(`<([^>]*)>`)

// params are the names that the expression takes its values from.
func (x expression) params() []string {
	seen := map[string]bool{}
	var walk func(v any, bound string)
	walk = func(v any, bound string) {
		switch v := v.(type) {
		case string:
			for _, m := range placeholder.FindAllStringSubmatch(v, -1) {
				if m[1] != bound {
					seen[m[1]] = true
				}
			}
		case []any:
			for _, e := range v {
				walk(e, bound)
			}
		case map[string]any:
			for _, key := range []string{"AllOf", "AnyOf", "then", "else"} {
				walk(v[key], bound)
			}
			for _, key := range []string{"if", "in"} {
				if name, ok := v[key].(string); ok {
					seen[name] = true
				}
			}
			if name, ok := v["for"].(string); ok {
				walk(v["each"], name)
			}
		}
	}
	walk(x.json, "")
	return slices.Sorted(maps.Keys(seen))
}

// needs are the smallest sets that suffice, given the values of params: texts,
// lists of texts, and truth values. None suffices if there are none.
func (x expression) needs(values map[string]any) ([]need, error) {
	all, err := alternatives(x.json, values)
	if err != nil {
		return nil, err
	}
	// Drop what is larger than another.
	return slices.DeleteFunc(slices.Clone(all), func(n need) bool {
		return slices.ContainsFunc(all, func(o need) bool { return len(o) < len(n) && within(o, n) })
	}), nil
}

func within(small, large []string) bool {
	return !slices.ContainsFunc(small, func(s string) bool { return !slices.Contains(large, s) })
}

func alternatives(v any, values map[string]any) ([]need, error) {
	switch v := v.(type) {
	case string:
		text, err := fill(v, values)
		return []need{{text}}, err
	case map[string]any:
		if list, ok := v["AnyOf"].([]any); ok {
			var any []need
			err := members(list, values, func(n []need) { any = append(any, n...) })
			return distinct(any), err
		}
		if list, ok := v["AllOf"].([]any); ok {
			all := []need{{}}
			err := members(list, values, func(n []need) { all = product(all, n) })
			return distinct(all), err
		}
		if name, ok := v["if"].(string); ok {
			yes, ok := values[name].(bool)
			branch, has := v["then"], true
			if !yes {
				branch, has = v["else"]
			}
			if !ok || !has {
				return nil, fmt.Errorf("%s is no truth value, or there is nothing for it: %v", name, v)
			}
			return alternatives(branch, values)
		}
	}
	return nil, fmt.Errorf("not a scope expression: %v", v)
}

// members calls use with the alternatives of each member of a list; those that
// stand for several ("for … in … each …") count as so many members.
func members(list []any, values map[string]any, use func([]need)) error {
	for _, e := range list {
		if loop, ok := e.(map[string]any); ok && loop["for"] != nil {
			each, ok := values[loop["in"].(string)].([]string)
			if !ok {
				return fmt.Errorf("%v is no list of texts", loop["in"])
			}
			for _, value := range each {
				inner := maps.Clone(values)
				inner[loop["for"].(string)] = value
				text, err := fill(loop["each"].(string), inner)
				if err != nil {
					return err
				}
				use([]need{{text}})
			}
			continue
		}
		n, err := alternatives(e, values)
		if err != nil {
			return err
		}
		use(n)
	}
	return nil
}

func product(a, b []need) []need {
	var all []need
	for _, x := range a {
		for _, y := range b {
			both := slices.Concat(x, y)
			slices.Sort(both)
			all = append(all, slices.Compact(both))
		}
	}
	return all
}

func distinct(list []need) []need {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(n need) bool {
		key := strings.Join(n, "\n")
		defer func() { seen[key] = true }()
		return seen[key]
	})
}

func fill(template string, values map[string]any) (string, error) {
	var err error
	text := placeholder.ReplaceAllStringFunc(template, func(p string) string {
		value, ok := values[p[1:len(p)-1]].(string)
		if !ok {
			err = fmt.Errorf("no text for %s in %q", p, template)
		}
		return value
	})
	return text, err
}

func TestNeeds(t *testing.T) {
	values := map[string]any{"a": "A", "list": []string{"x", "y"}, "none": []string{}, "yes": true, "no": false}
	for _, c := range []struct{ expression, want string }{
		{`"s:<a>"`, "[[s:A]]"},
		{`{"AllOf": ["s", "r", "s"]}`, "[[r s]]"},
		{`{"AnyOf": ["s", {"AllOf": ["r", "t"]}, {"AllOf": ["s", "u"]}]}`, "[[s] [r t]]"},
		{`{"AllOf": [{"AnyOf": ["a", "b"]}, {"AnyOf": ["c", "d"]}]}`, "[[a c] [a d] [b c] [b d]]"},
		{`{"AllOf": ["s", {"for": "e", "in": "list", "each": "p:<a>:<e>"}]}`, "[[p:A:x p:A:y s]]"},
		{`{"AnyOf": [{"for": "e", "in": "list", "each": "<e>"}]}`, "[[x] [y]]"},
		{`{"AllOf": [{"for": "e", "in": "none", "each": "<e>"}]}`, "[[]]"},
		{`{"AnyOf": []}`, "[]"},
		{`{"if": "yes", "then": "t", "else": "e"}`, "[[t]]"},
		{`{"if": "no", "then": "t", "else": "e"}`, "[[e]]"},
	} {
		var x expression
		if err := json.Unmarshal([]byte(c.expression), &x); err != nil {
			t.Fatal(err)
		}
		got, err := x.needs(values)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, %v; want %s", c.expression, got, err, c.want)
		}
	}
	var x expression
	if err := json.Unmarshal([]byte(`{"AllOf": ["<a>", {"if": "yes", "then": "<b>"}, {"for": "e", "in": "list", "each": "<e><c>"}]}`), &x); err != nil {
		t.Fatal(err)
	}
	if got := x.params(); !slices.Equal(got, []string{"a", "b", "c", "list", "yes"}) {
		t.Errorf("params: %v", got)
	}
}

package schema

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// firstAgrees checks that the problem found first is one of all problems, and
// tells whether one was found.
func firstAgrees(t *testing.T, sc *Schema, body []byte) bool {
	t.Helper()
	first, firstErr := sc.first(body)
	_, _, all, err := sc.Decode(body)
	_, r, _ := parse(body)
	if fmt.Sprint(firstErr) != fmt.Sprint(err) {
		t.Fatalf("%s: error %v, and the long way %v", body, firstErr, err)
	}
	if first != "" && len(all) < maxProblems && !r.extreme && !slices.Contains(all, first) {
		t.Fatalf("%s: first %q, but all are %q", body, first, all)
	}
	return first != ""
}

// members is how many members a hostile payload of about 1 MB has.
const members = 100_000

// many makes so many members, each behind a comma.
func many(format string) string {
	var b strings.Builder
	for i := range members {
		fmt.Fprintf(&b, ","+format, i)
	}
	return b.String()
}

// A large payload that is wrong costs little more than its own size, and one
// that is right does as well.
func TestLargePayloads(t *testing.T) {
	set := bundles(t)
	task := strings.TrimSuffix(minimal, "}")
	artifact := `{"storageType":"s3","expires":"2026-01-01T00:00:00Z","contentType":"text/plain"`
	for _, c := range []struct {
		name, ref, body, problem string
		spread                   int // bytes allocated for each of the body
	}{
		{"unknown members", "v1/create-task-request.json#", task + many(`"x%d":1`) + "}", `data must NOT have additional properties: "x0"`, 4},
		{"escaped names", "v1/create-task-request.json#", task + many(`"\u0061%d":1`) + "}", `data must NOT have additional properties: "a0"`, 8},
		{"doubled names", "v1/create-task-request.json#", task + `,"a":1,"a":1` + many(`"x%d":1`) + "}", `data must NOT have additional properties: "a"`, 4},
		{"wrong values", "v1/create-task-request.json#", task + `,"tags":{"a":"b"` + many(`"x%d":1`) + "}}", `data/tags/x0 must be string`, 4},
		{"wrong elements", "v1/create-task-request.json#", task + `,"scopes":["a"` + many(`%d`) + "]}", `data/scopes/1 must be string`, 4},
		{"wrong kind behind much", "v1/create-task-request.json#", strings.Replace(task, `{}`, `{"a":1`+many(`"x%d":1`)+`}`, 1) + `,"tags":3}`, `data/tags must be object`, 24},
		{"alternatives", "v1/post-artifact-request.json#", artifact + many(`"x%d":1`) + "}", `data must match exactly one schema in oneOf`, 4},
		{"good", "v1/create-task-request.json#", strings.Replace(task, `{}`, `{"a":1`+many(`"x%d":1`)+`}`, 1) + "}", "", 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc := get(t, set, "queue", c.ref)
			body := []byte(c.body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			doc, problems, err := sc.Accept(body)
			runtime.ReadMemStats(&after)
			if err != nil || doc == nil {
				t.Fatal(err)
			}
			got := strings.Join(problems, "\n")
			want := c.problem
			if want != "" {
				want += "\n" + moreProblems
			}
			if got != want {
				t.Errorf("problems %q, want %q", got, want)
			}
			bytes, objects := after.TotalAlloc-before.TotalAlloc, after.Mallocs-before.Mallocs
			t.Logf("%d bytes: allocated %d bytes in %d objects", len(body), bytes, objects)
			if bytes > uint64(c.spread*len(body)) || objects > 2*members+1000 {
				t.Errorf("%d bytes cost %d bytes in %d objects", len(body), bytes, objects)
			}
		})
	}
}

// What the first pass does not know must be told all the same.
func TestFirst(t *testing.T) {
	for _, c := range []struct{ schema, doc, want string }{
		{`{type: object, additionalProperties: {type: string}}`, `{"a":1,"a":"x"}`, ``},
		{`{type: object, additionalProperties: {type: string}}`, `{"a":"x","\u0061":1}`, `data/a must be string`},
		{`{type: object, properties: {a: {default: 1}, b: {}}, required: [a, b]}`, `{}`, `data must have required property 'b'`},
		{`{type: object, properties: {a: {type: array, items: {type: object, additionalProperties: false}}}}`, `{"a":[{},{"x":1}]}`, `data/a/1 must NOT have additional properties: "x"`},
		{`{type: object, additionalProperties: false, minProperties: 1}`, `{"x":1}`, ``},
		{`{type: [number, integer]}`, `1.5`, ``},
		{`{type: [integer, "null"]}`, `1.5`, `data must be null,integer`},
		{`{type: integer}`, `1.0`, ``},
		{`{type: integer, maximum: 5}`, `6e0`, `data must be <= 5`},
		{`{type: number, minimum: 0.5}`, `0.25`, `data must be >= 0.5`},
		{`{enum: [1, a]}`, `1.0`, ``},
		{`{enum: [1, a]}`, `2`, `data must be equal to one of the allowed values`},
		{`{enum: [1, a]}`, `[]`, `data must be equal to one of the allowed values`},
		{`{enum: [1, null]}`, `null`, ``},
		{`{type: string, minLength: 2}`, `"\u00e9"`, `data must NOT have fewer than 2 characters`},
		{`{type: string, maxLength: 1}`, `"xy"`, `data must NOT have more than 1 characters`},
		{`{type: string, pattern: '^a$'}`, `"b"`, `data must match pattern "^a$"`},
		{`{type: string, format: date-time}`, `"b"`, `data must match format "date-time"`},
		{`{type: array, maxItems: 1}`, `[1,2]`, `data must NOT have more than 1 items`},
		{`{allOf: [{type: object}, {properties: {a: {type: string}}}]}`, `{"a":1}`, `data/a must be string`},
		{`{oneOf: [{type: string}, {maxLength: 3}]}`, `"a"`, ``},
		{`{anyOf: [{type: string}, {type: boolean}]}`, `1`, `data must match a schema in anyOf`},
		{`{}`, `{"a":["\u0000"]}`, `data/a/0 must NOT contain the character U+0000`},
		{`{}`, `{"\u0000":1}`, `data must NOT contain the character U+0000`},
		{`{}`, `[1e999]`, `data/0 must be a number that a double can hold`},
		{`{type: object, additionalProperties: false}`, `{"` + strings.Repeat("x", 1000) + `":1}`, (`data must NOT have additional properties: "` + strings.Repeat("x", maxLine))[:maxLine] + `...`},
		{`{}`, `[1,`, ``},
		{`{type: string}`, `1 2`, ``},
		{`{}`, strings.Repeat("[", 201), ``},
	} {
		set, err := Load(Source{Service: "queue", FS: fstest.MapFS{"v1/x.yml": {Data: []byte(c.schema)}}})
		if err != nil {
			t.Fatal(err)
		}
		sc := get(t, set, "queue", "v1/x.json#")
		if got, _ := sc.first([]byte(c.doc)); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.schema, c.doc, got, c.want)
		}
		firstAgrees(t, sc, []byte(c.doc))
	}
}

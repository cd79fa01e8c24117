package schema

import (
	"testing"
	"testing/fstest"
)

func small(t *testing.T, files map[string]string) *Set {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := Load(Source{Service: "queue", FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestX(t *testing.T) {
	set := small(t, map[string]string{
		"constants.yml": "id: {type: string, pattern: '^[a-z-_]+$'}",
		"v1/a.yml":      "type: object\nadditionalProperties: false\nproperties:\n  x: {$const: id, title: hi}\n  num: {type: integer, default: 3, minimum: 0}\n  b: {$ref: 'b.json#', default: []}\nrequired: [x]",
		"v1/b.yml":      "type: array\nitems: {type: string, format: date-time}",
	})
	sc, err := set.Schema("queue", "v1/a.json#")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{`{"x":"ab"}`, `{"x":"A", "num": -1, "foo": 1, "b": ["2020-02-30T00:00:00Z"]}`, `{"x":"\u0000"}`, `{`} {
		doc, v, problems, err := sc.Decode([]byte(in))
		t.Logf("%s %v %q %v", doc, v, problems, err)
	}
	for _, n := range set.Names() {
		t.Log(n)
	}
	d, _ := set.Document("queue", "v1/a.json")
	t.Logf("%s", set.Rooted("https://x.y", d))
}

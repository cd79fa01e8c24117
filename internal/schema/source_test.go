package schema_test

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"taskcluster/internal/schema"
)

func source(files ...string) schema.Source {
	fsys := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return schema.Source{Service: "queue", FS: fsys}
}

func TestBundle(t *testing.T) {
	got, err := schema.Bundle(source(
		"constants.yml", "id: {type: string, pattern: {$const: p}, title: Id}\np: '^[a-z]$'\nmany: {type: array, items: {$const: id}}",
		"v1/b.yml", "type: object\nproperties:\n  z: {$const: many, maxItems: 2, type: array}\n  a: {$ref: 'a.json#', default: <&>}",
		"v1/a.yml", "$id: /schemas/queue/v1/a.json#\n$const: id\ntitle: Mine\n",
	))
	want := `{"$id":"/schemas/queue/v1/a.json#","$schema":"/schemas/common/metaschema.json#","type":"string","pattern":"^[a-z]$","title":"Mine"}
{"$id":"/schemas/queue/v1/b.json#","$schema":"/schemas/common/metaschema.json#","type":"object","properties":{"z":{"type":"array","items":{"type":"string","pattern":"^[a-z]$","title":"Id"},"maxItems":2},"a":{"$ref":"a.json#","default":"<&>"}}}
`
	if err != nil || string(got) != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

func TestBundleRefuses(t *testing.T) {
	for _, c := range []struct {
		want  string
		files []string
	}{
		{`has no schema sources`, nil},
		{`$const: nope is not in constants.yml`, []string{"v1/a.yml", "type: {$const: nope}"}},
		{`"x" is not used`, []string{"constants.yml", "x: 1", "v1/a.yml", "type: string"}},
		{`x contains itself`, []string{"constants.yml", "x: {$const: z}\nz: [{$const: x}]", "v1/a.yml", "enum: {$const: x}"}},
		{`x is not a mapping`, []string{"constants.yml", "x: 1", "v1/a.yml", "default: {$const: x, more: 1}"}},
		{`unknown keyword "propertys"`, []string{"v1/a.yml", "propertys: {}"}},
		{`/properties/x: unknown keyword "typ"`, []string{"v1/a.yml", "properties: {x: {typ: string}}"}},
		{`"b.json#" leads nowhere`, []string{"v1/a.yml", "$ref: 'b.json#'"}},
		{`"#/definitions/x" leads nowhere`, []string{"v1/a.yml", "items: {$ref: '#/definitions/x'}"}},
		{`"http://x/y#" must be relative`, []string{"v1/a.yml", "$ref: 'http://x/y#'"}},
		{`x is not among the properties`, []string{"v1/a.yml", "properties: {}\nrequired: [x]"}},
		{`does not compile`, []string{"v1/a.yml", "pattern: '(?!a)'"}},
		{`stands twice`, []string{"v1/a.yml", "type: string\ntype: string"}},
		{`must be quoted`, []string{"v1/a.yml", "properties: {on: {type: string}}"}},
		{`the file name makes it`, []string{"v1/a.yml", "$id: /schemas/queue/v1/b.json#"}},
		{`a schema must be a mapping`, []string{"v1/a.yml", "items: string"}},
		{`v1/a.yml`, []string{"v1/a.yml", "{"}},
		{`constants.yml`, []string{"constants.yml", "[1]", "v1/a.yml", "type: string"}},
	} {
		_, err := schema.Bundle(source(c.files...))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.files, err, c.want)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	const doc = `{"$id":"/schemas/queue/v1/a.json#"}` + "\n"
	for want, files := range map[string][]string{
		"damaged":            {schema.BundleFile, `{"$id":"/schemas/auth/v1/a.json#"}`},
		"is damaged":         {schema.BundleFile, "garbage\n"},
		"defined twice":      {schema.BundleFile, doc + doc},
		"has no schema sour": nil,
	} {
		if _, err := schema.Load(source(files...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	set, err := schema.Load(source(schema.BundleFile, doc+`{"$id":"/schemas/queue/v1/b.json#","$ref":"c.json#"}`+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"v1/none.json#", "v1/b.json#"} {
		if _, err := set.Schema("queue", ref); err == nil {
			t.Errorf("%s was found", ref)
		}
	}
	if _, ok := set.Document("queue", "v1/none.json"); ok {
		t.Error("a document that does not exist was found")
	}
}

func TestRooted(t *testing.T) {
	set := load(t)
	for _, c := range []struct{ doc, want string }{
		{`{"$id":"/schemas/a.json#","$schema":"/schemas/m.json#","x":{"$id":"/y"}}`,
			`{"$id":"https://tc.example.com/schemas/a.json#","$schema":"https://tc.example.com/schemas/m.json#","x":{"$id":"/y"}}`},
		{`{"title":"$id", "$schema" : "/schemas/m.json#"}`, `{"title":"$id", "$schema" : "https://tc.example.com/schemas/m.json#"}`},
		{`{"$schema":"http://json-schema.org/draft-06/schema#"}`, `{"$schema":"http://json-schema.org/draft-06/schema#"}`},
		{`{"properties":{"$schema":{"type":"string"}}}`, `{"properties":{"$schema":{"type":"string"}}}`},
	} {
		for _, root := range []string{"https://tc.example.com", "https://tc.example.com/"} {
			if got := string(set.Rooted(root, []byte(c.doc))); got != c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.doc, got, c.want)
			}
		}
	}
}

// The committed bundles and types are what the sources make.
func TestGenerated(t *testing.T) {
	out, err := exec.Command("go", "run", "./gen", "-check").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestConcurrent(t *testing.T) {
	set := load(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, name := range set.Names() {
				service, file, _ := strings.Cut(name, "/")
				sc, err := set.Schema(service, file+"#")
				if err != nil {
					t.Error(err)
					continue
				}
				sc.Accept([]byte(`{"runId":0,"status":{"runs":[{}]},"tasks":1}`))
			}
		})
	}
	wg.Wait()
}

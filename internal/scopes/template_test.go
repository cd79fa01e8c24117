package scopes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"taskcluster/internal/testenv"
)

func TestTemplate(t *testing.T) {
	type p = map[string]any
	const (
		aws    = `{"else":"rw:<b>","if":"ro","then":{"AnyOf":["ro:<b>","rw:<b>"]}}`
		create = `{"AllOf":[{"each":"<scope>","for":"scope","in":"scopes"},"queue:project:<projectId>",{"AnyOf":[{"each":"queue:<priority>:<prov>/<type>","for":"priority","in":"priorities"}]}]}`
		maybe  = `{"AllOf":["a",{"if":"b","then":{"each":"<x>-<y>","for":"x","in":"xs"}}]}`
	)
	for _, c := range []struct {
		template string
		params   string
		values   p
		want     string // JSON; "public"; or "error: ..."
	}{
		{`"a"`, "", nil, `"a"`},
		{`""`, "", nil, `""`},
		{`"a:<x>/<y_1>:<x>"`, "x string, y_1 string", p{"x": "X", "y_1": 7, "z": true}, `"a:X/7:X"`},
		{`"<x>"`, "x string", p{"x": int64(-3)}, `"-3"`},
		{`"<x>"`, "x string", p{"x": "a*"}, `"a*"`},
		{`"<x><x>"`, "x string", p{"x": "<x>"}, `"<x><x>"`},
		{`"<x>"`, "x string", p{"x": ""}, `""`},
		{`"<1x> <> <x <..> <a-b> <_a> <<z>>"`, "z string", p{"z": "Z"}, `"<1x> <> <x <..> <a-b> <_a> <Z>"`},
		{`"<x>"`, "x string", nil, "error: scope template parameter x is missing"},
		{`"<x>"`, "x string", p{"x": true}, "error: scope template parameter x must be of kind string but is a bool"},
		{`"<x>"`, "x string", p{"x": nil}, "error: scope template parameter x must be of kind string but is a <nil>"},
		{`{"AllOf":[]}`, "", nil, `{"AllOf":[]}`},
		{aws, "ro boolean, b string", p{"ro": true, "b": "x"}, `{"AnyOf":["ro:x","rw:x"]}`},
		{aws, "ro boolean, b string", p{"ro": false, "b": "x"}, `"rw:x"`},
		{aws, "ro boolean, b string", p{"ro": "true", "b": "x"}, "error: scope template parameter ro must be of kind boolean but is a string"},
		{aws, "ro boolean, b string", p{"b": "x"}, "error: scope template parameter ro is missing"},
		{`{"if":"b","then":"x"}`, "b boolean", p{"b": false}, "public"},
		{`{"if":"b","then":"x"}`, "b boolean", p{"b": true}, `"x"`},
		{create, "scopes array, projectId string, priorities array, prov string, type string",
			p{"scopes": []string{"a", "b*"}, "projectId": "none", "priorities": []string{"high", "low"}, "prov": "p", "type": "t"},
			`{"AllOf":["a","b*","queue:project:none",{"AnyOf":["queue:high:p/t","queue:low:p/t"]}]}`},
		{create, "scopes array, projectId string, priorities array, prov string, type string",
			p{"scopes": []string{}, "projectId": "none", "priorities": []string(nil), "prov": "p", "type": "t"},
			`{"AllOf":["queue:project:none",{"AnyOf":[]}]}`},
		{create, "scopes array, projectId string, priorities array, prov string, type string",
			p{"scopes": "a", "projectId": "none"}, "error: scope template parameter scopes must be of kind array but is a string"},
		{maybe, "b boolean, xs array, y string", p{"b": true, "xs": []string{"1", "2"}, "y": "Y"}, `{"AllOf":["a","1-Y","2-Y"]}`},
		{maybe, "b boolean, xs array, y string", p{"b": false}, `{"AllOf":["a"]}`},
		{maybe, "b boolean, xs array, y string", p{"b": true, "xs": []string{"1"}}, "error: scope template parameter y is missing"},
		{`{"AllOf":[{"each":"<x>","for":"x","in":"xs"},"<x>"]}`, "xs array, x string",
			p{"xs": []string{"1"}, "x": "outer"}, `{"AllOf":["1","outer"]}`},
		{`{"AllOf":[{"each":"<x>","for":"x","in":"x"}]}`, "x array", p{"x": []string{"1"}}, `{"AllOf":["1"]}`},
	} {
		parsed, err := ParseTemplate([]byte(c.template))
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		var params []string
		for _, p := range parsed.Params() {
			params = append(params, p.Name+" "+p.Kind.String())
		}
		if got := strings.Join(params, ", "); got != c.params {
			t.Errorf("%s has the parameters %q", c.template, got)
		}
		if got := templateText(t, parsed); got != c.template {
			t.Errorf("%s is written as %s", c.template, got)
		}
		got := rendered(parsed.Render(c.values))
		if got != c.want {
			t.Errorf("%s with %v is rendered as %s, want %s", c.template, c.values, got, c.want)
		}
		if allStrings(parsed) {
			got, want := rendered(parsed.RenderStrings(stringsOf(c.values))), c.want
			if strings.HasPrefix(want, "error: ") {
				want = "error: scope template parameter x is missing"
			}
			if got != want {
				t.Errorf("%s with %v is rendered from strings as %s", c.template, c.values, got)
			}
		} else if _, _, err := parsed.RenderStrings(stringsOf(c.values)); err == nil {
			t.Errorf("%s is rendered from strings", c.template)
		}
	}
}

func templateText(t interface{ Fatal(...any) }, template Template) string {
	text, err := template.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func allStrings(t Template) bool {
	return !slices.ContainsFunc(t.Params(), func(p Param) bool { return p.Kind != String })
}

func stringsOf(values map[string]any) func(string) (string, bool) {
	return func(name string) (string, bool) {
		switch v := values[name].(type) {
		case string:
			return v, true
		case int, int64:
			text, _ := json.Marshal(v)
			return string(text), true
		}
		return "", false
	}
}

func rendered(e Expr, public bool, err error) string {
	switch {
	case err != nil:
		return "error: " + err.Error()
	case public:
		return "public"
	}
	return string(e.appendJSON(nil))
}

func TestPublicTemplate(t *testing.T) {
	var public Template
	if !public.IsPublic() || len(public.Params()) != 0 || templateText(t, public) != "null" {
		t.Error("the zero Template is not public")
	}
	if got := rendered(public.Render(nil)); got != "public" {
		t.Error(got)
	}
	if got := rendered(public.RenderStrings(nil)); got != "public" {
		t.Error(got)
	}
	if MustParseTemplate(`"a"`).IsPublic() || MustParseTemplate(`{"if":"b","then":"a"}`).IsPublic() {
		t.Error("a template that requires something is public")
	}
	defer func() {
		if recover() == nil {
			t.Error("MustParseTemplate accepts null")
		}
	}()
	MustParseTemplate(`null`)
}

func TestParseTemplateRefuses(t *testing.T) {
	for _, in := range []string{
		``, `null`, `1`, `[]`, `{}`, `{"allOf":[]}`, `{"AllOf":["a"],"AnyOf":["b"]}`, `{"AllOf":"a"}`, `{"AllOf":[1]}`,
		`{"for":"x","in":"xs","each":"<x>"}`,
		`{"if":"b","then":{"for":"x","in":"xs","each":"<x>"}}`,
		`{"AllOf":[{"for":"x","in":"xs"}]}`,
		`{"AllOf":[{"for":"x","in":"xs","each":["<x>"]}]}`,
		`{"AllOf":[{"for":"x","in":"xs","each":{"AllOf":[]}}]}`,
		`{"AllOf":[{"for":"1","in":"xs","each":"a"}]}`,
		`{"AllOf":[{"for":"x","in":"","each":"a"}]}`,
		`{"AllOf":[{"for":"x","in":"x-s","each":"a"}]}`,
		`{"AllOf":[{"for":"x","in":"xs","each":"a","if":"b"}]}`,
		`{"if":"b"}`, `{"if":"b","else":"a"}`, `{"if":true,"then":"a"}`, `{"if":"b","then":null}`, `{"if":"<b>","then":"a"}`,
		`{"if":"b","then":"a","else":null}`, `{"if":"b","then":"a","else":"b","x":"c"}`,
		`{"AllOf":["a","a"]}`, `{"AnyOf":[{"AllOf":["a"]},{"AllOf":["a"]}]}`,
		`{"AllOf":["<x>",{"if":"x","then":"a"}]}`,
		`{"AllOf":["<x>",{"for":"y","in":"x","each":"a"}]}`,
		`"a\n"`, `{"AllOf":[{"for":"x","in":"xs","each":"é"}]}`,
	} {
		if got, err := ParseTemplate([]byte(in)); err == nil {
			t.Errorf("%s is accepted as %s", in, templateText(t, got))
		} else if !strings.HasPrefix(err.Error(), "scope template ") {
			t.Errorf("%s: error %q", in, err)
		}
	}
}

// TestPublishedTemplates reads every template of the published references and
// writes it back.
func TestPublishedTemplates(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(testenv.Shared(t, "reference/references"), "*", "*", "api.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no references: %v", err)
	}
	n := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var api struct {
			Entries []struct {
				Name   string
				Scopes json.RawMessage
			}
		}
		if err := json.Unmarshal(text, &api); err != nil {
			t.Fatal(err)
		}
		for _, entry := range api.Entries {
			if entry.Scopes == nil {
				continue
			}
			n++
			template, err := ParseTemplate(entry.Scopes)
			if err != nil {
				t.Errorf("%s: %v", entry.Name, err)
				continue
			}
			var got, want any
			if err := json.Unmarshal([]byte(templateText(t, template)), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(entry.Scopes, &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s is written as %s", entry.Name, entry.Scopes, templateText(t, template))
			}
		}
	}
	t.Logf("%d templates", n)
}

// TestRenderStringsAgrees compares the two ways to render.
func TestRenderStringsAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{"<x>", "<y>", "<z>", "<", ">", "7", "*", " "}) // no other names
		var parts []string
		for range rapid.IntRange(1, 4).Draw(t, "n") {
			parts = append(parts, strings.Join(rapid.SliceOfN(piece, 0, 5).Draw(t, "text"), ""))
		}
		slices.Sort(parts)
		text, err := json.Marshal(map[string][]string{"AnyOf": slices.Compact(parts)})
		if err != nil {
			t.Fatal(err)
		}
		template := MustParseTemplate(string(text))
		values := map[string]any{"x": "X<y>", "y": "*"}
		want := rendered(template.Render(values))
		if got := rendered(template.RenderStrings(stringsOf(values))); got != want {
			t.Fatalf("%s: %s and %s", text, got, want)
		}
		if strings.HasPrefix(want, "error: ") != strings.Contains(string(text), `\u003cz\u003e`) {
			t.Fatalf("%s: %s", text, want)
		}
	})
}

func FuzzParseTemplate(f *testing.F) {
	for _, seed := range []string{
		`"a:<x>/<y>"`,
		`{"AllOf":[{"for":"x","in":"xs","each":"<x>"},{"AnyOf":["<a>",{"if":"b","then":"c","else":"d"}]}]}`,
		`{"if":"b","then":{"if":"c","then":"x"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		template, err := ParseTemplate(in)
		if err != nil {
			return
		}
		text := templateText(t, template)
		var got, want any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%q is written as %s: %v", in, text, err)
		}
		if err := json.Unmarshal(in, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is written as %s", in, text)
		}
		again, err := ParseTemplate([]byte(text))
		if err != nil || !reflect.DeepEqual(again, template) {
			t.Fatalf("%s is read back as %s, %v", text, templateText(t, again), err)
		}
		for _, b := range []bool{false, true} {
			values := map[string]any{}
			for _, p := range template.Params() {
				values[p.Name] = map[Kind]any{String: "s", Array: []string{"1", "2"}, Boolean: b}[p.Kind]
			}
			e, public, err := template.Render(values)
			if err != nil {
				t.Fatalf("%s with all its parameters: %v", text, err)
			}
			if public && !strings.Contains(text, `"if"`) {
				t.Fatalf("%s is public", text)
			}
			if _, err := json.Marshal(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkRenderStrings(b *testing.B) {
	template := MustParseTemplate(`{"AllOf":["queue:claim-work:<taskQueueId>","queue:worker-id:<workerGroup>/<workerId>"]}`)
	get := func(name string) (string, bool) { return "some-value", true }
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := template.RenderStrings(get); err != nil {
			b.Fatal(err)
		}
	}
}

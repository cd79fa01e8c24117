package schema_test

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"taskcluster/internal/schema"
)

// one compiles a single schema.
func one(t testing.TB, yaml string) *schema.Schema {
	t.Helper()
	set, err := schema.Load(schema.Source{Service: "queue", FS: fstest.MapFS{"v1/x.yml": {Data: []byte(yaml)}}})
	if err != nil {
		t.Fatal(err)
	}
	sc, err := set.Schema("queue", "v1/x.json#")
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		schema, doc string
		want        []string
	}{
		{`{type: string}`, `1`, []string{`data must be string`}},
		{`{type: integer}`, `1.5`, []string{`data must be integer`}},
		{`{type: integer}`, `1.0`, nil},
		{`{type: [string, integer]}`, `null`, []string{`data must be integer,string`}},
		{`{type: object, properties: {a: {type: string}, b: {}}, required: [a, b]}`, `{}`,
			[]string{`data must have required property 'a'`, `data must have required property 'b'`}},
		{`{type: object, additionalProperties: false}`, `{"foo":1,"bar":2}`,
			[]string{`data must NOT have additional properties: "bar"`, `data must NOT have additional properties: "foo"`}},
		{`{type: object, additionalProperties: {type: string}}`, `{"a/b~":1}`, []string{`data/a~1b~0 must be string`}},
		{`{enum: [a, b]}`, `"c"`, []string{`data must be equal to one of the allowed values`}},
		{`{const: a}`, `"c"`, []string{`data must be equal to constant`}},
		{`{type: string, pattern: '^[a-z-_]+\/$'}`, `"a"`, []string{`data must match pattern "^[a-z-_]+\/$"`}},
		{`{type: string, pattern: '^[a-z-_]+\/$'}`, `"a-_/"`, nil},
		{`{type: string, format: date-time}`, `"x"`, []string{`data must match format "date-time"`}},
		{`{type: string, minLength: 2}`, `"é"`, []string{`data must NOT have fewer than 2 characters`}},
		{`{type: string, maxLength: 2}`, `"ééé"`, []string{`data must NOT have more than 2 characters`}},
		{`{type: string, maxLength: 2}`, `"éé"`, nil},
		{`{type: string, maxLength: 1}`, `"\ud83d\ude00"`, nil},
		{`{type: integer, minimum: 0, maximum: 9}`, `-1`, []string{`data must be >= 0`}},
		{`{type: integer, minimum: 0, maximum: 9}`, `10`, []string{`data must be <= 9`}},
		{`{type: number, maximum: 0.5}`, `1`, []string{`data must be <= 0.5`}},
		{`{type: array, minItems: 1, items: {}}`, `[]`, []string{`data must NOT have fewer than 1 items`}},
		{`{type: array, maxItems: 1}`, `[1,2]`, []string{`data must NOT have more than 1 items`}},
		{`{type: array, uniqueItems: true}`, `[1,2,1.0]`, []string{`data must NOT have duplicate items (items ## 0 and 2 are identical)`}},
		{`{type: object, minProperties: 1}`, `{}`, []string{`data must NOT have fewer than 1 properties`}},
		{`{oneOf: [{type: string}, {type: integer}]}`, `null`,
			[]string{`data must be integer`, `data must be string`, `data must match exactly one schema in oneOf`}},
		{`{oneOf: [{type: string}, {maxLength: 3}]}`, `"a"`, []string{`data must match exactly one schema in oneOf`}},
		{`{anyOf: [{type: string}, {type: integer}]}`, `null`,
			[]string{`data must be integer`, `data must be string`, `data must match a schema in anyOf`}},
		{`{type: array, items: {type: string}}`, `[1,"",2,3,4,5,6,7,8,9,10]`, []string{
			`data/0 must be string`, `data/2 must be string`, `data/3 must be string`, `data/4 must be string`, `data/5 must be string`,
			`data/6 must be string`, `data/7 must be string`, `data/8 must be string`, `data/9 must be string`, `data/10 must be string`}},
		{`{}`, `{"a":["\u0000"]}`, []string{`data/a/0 must NOT contain the character U+0000`}},
		{`{}`, `{"\u0000":1}`, []string{`data must NOT contain the character U+0000`}},
		{`{}`, `[1e999]`, []string{`data/0 must be a number that a double can hold`}},
		{`{type: integer}`, `1e-999999999`, []string{`data must be a number that a double can hold`}},
		{`{type: string}`, `"\ud800"`, nil},
	} {
		sc := one(t, c.schema)
		_, value, got, err := sc.Decode([]byte(c.doc))
		if err != nil {
			t.Errorf("%s, %s: %v", c.schema, c.doc, err)
		}
		if !cmp.Equal(got, c.want) {
			t.Errorf("%s, %s:\n got %q\nwant %q", c.schema, c.doc, got, c.want)
		}
		_, accepted, err := sc.Accept([]byte(c.doc))
		if err != nil || !cmp.Equal(accepted, c.want) {
			t.Errorf("Accept %s, %s: %q %v", c.schema, c.doc, accepted, err)
		}
		for _, p := range got {
			if again := sc.Validate(value); !strings.Contains(p, "U+0000") && !strings.Contains(p, "double") && !cmp.Equal(again, c.want) {
				t.Errorf("Validate(%v) = %q", value, again)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	got := schema.ErrorText("/schemas/queue/v1/x.json#", []string{"data/x must be string", "data must be odd"})
	want := "\nSchema Validation Failed!\nRejecting Schema: /schemas/queue/v1/x.json#\nErrors:\n  * data/x must be string\n  * data must be odd"
	if got != want {
		t.Errorf("got %q", got)
	}
}

func TestDefaults(t *testing.T) {
	const yaml = `
type: object
additionalProperties: false
properties:
  tags: {type: object, default: {}}
  list: {$ref: '#/definitions/list', default: []}
  n: {type: integer, default: 5}
  inner: {type: object, properties: {deep: {default: x}}}
  many: {type: array, items: {type: object, properties: {each: {default: true}}}}
  either: {oneOf: [{type: object, properties: {never: {default: 1}}}]}
  wrong: {type: object, default: []}
definitions: {list: {type: array}}
`
	sc := one(t, strings.Replace(yaml, "  n:", "  'n':", 1))
	for _, c := range []struct{ doc, want string }{
		{`{"wrong":{},"tags":{"a":1},"list":[1],"n":7}`, `{"wrong":{},"tags":{"a":1},"list":[1],"n":7}`},
		{`{ "wrong" : {} }`, `{"wrong":{},"tags":{},"list":[],"n":5}`},
		{`{"wrong":{"z":1.50,"a":10000000000000000001},"inner":{},"many":[{},{"each":null}]}`,
			`{"wrong":{"z":1.50,"a":10000000000000000001},"inner":{"deep":"x"},"many":[{"each":true},{"each":null}],"tags":{},"list":[],"n":5}`},
		{`{"wrong":{},"either":{},"n":1,"tags":{},"list":[]}`, `{"wrong":{},"either":{},"n":1,"tags":{},"list":[]}`},
		{`{"n":1,"wrong":{},"n":2,"tags":{},"list":[]}`, `{"n":2,"wrong":{},"tags":{},"list":[]}`},
		{`{"n":1,"wrong":{"a":1,"\u0061":2},"tags":{},"list":[]}`, `{"n":1,"wrong":{"\u0061":2},"tags":{},"list":[]}`},
	} {
		doc, value, problems, err := sc.Decode([]byte(c.doc))
		if err != nil || problems != nil || string(doc) != c.want {
			t.Errorf("%s:\n got %s %q %v\nwant %s", c.doc, doc, problems, err, c.want)
		}
		if !reflect.DeepEqual(value, parsed(t, doc)) {
			t.Errorf("%s: value is %v", c.doc, value)
		}
		doc, problems, err = sc.Accept([]byte(c.doc))
		if err != nil || problems != nil || !reflect.DeepEqual(parsed(t, doc), value) {
			t.Errorf("Accept %s: %s %q %v", c.doc, doc, problems, err)
		}
	}
	// A default need not be valid; it is then reported like any other value.
	doc, problems, err := sc.Accept([]byte(`{}`))
	if err != nil || !cmp.Equal(problems, []string{"data/wrong must be object"}) {
		t.Errorf("%s %q %v", doc, problems, err)
	}
}

func parsed(t testing.TB, doc []byte) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(doc)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return v
}

func TestNotJSON(t *testing.T) {
	sc := one(t, `{}`)
	for _, text := range []string{
		``, ` `, `{`, `[`, `[1,]`, `{"a"}`, `{"a":1,}`, `{a:1}`, `01`, `1.`, `.5`, `+1`, `-`, `1e`, `tru`, `nul`, `"`, `"\x"`, `"\u12"`,
		`"\ud800\u12"`, "\"\n\"", `1 2`, `[1 2]`, "\"\xff\"", "\ufeff1", `NaN`, `'a'`,
		strings.Repeat("[", 201) + strings.Repeat("]", 201), strings.Repeat("[", 1<<20), strings.Repeat(`{"a":`, 1<<18),
	} {
		if doc, problems, err := sc.Accept([]byte(text)); err == nil {
			t.Errorf("%.40q was read: %s %q", text, doc, problems)
		}
	}
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	if _, problems, err := sc.Accept([]byte(deep)); err != nil || problems != nil {
		t.Errorf("200 levels: %q %v", problems, err)
	}
}

// A hostile document must not make the answer, or the time, grow beyond reason.
func TestHostile(t *testing.T) {
	sc := one(t, `{type: object, additionalProperties: {type: object, additionalProperties: {type: string}}}`)
	long := strings.Repeat("x", 1<<20)
	var doc strings.Builder
	doc.WriteString(`{"` + long + `":{`)
	for i := range 100_000 {
		if i > 0 {
			doc.WriteByte(',')
		}
		doc.WriteString(`"` + strconv.Itoa(i) + `":1`)
	}
	doc.WriteString(`}}`)
	_, _, problems, err := sc.Decode([]byte(doc.String()))
	if err != nil {
		t.Fatal(err)
	}
	if size := len(strings.Join(problems, "\n")); len(problems) != 201 || size > 200_000 {
		t.Errorf("%d problems, %d bytes", len(problems), size)
	}
	if last := problems[len(problems)-1]; last != "data has 99800 more problems" {
		t.Errorf("the last line is %q", last)
	}
}

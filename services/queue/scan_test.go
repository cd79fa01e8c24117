package queue

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func TestEachMember(t *testing.T) {
	var names, values []string
	eachMember([]byte(` { "a" : "x,\"}" , "\u0062":{"c":[1,{"d":"]"}]},"e":-1.5e3,"f":null , "g": [ ] , "h":true}`),
		func(name string, value []byte) {
			names, values = append(names, name), append(values, string(value))
		})
	want := []string{`"x,\"}"`, `{"c":[1,{"d":"]"}]}`, `-1.5e3`, `null`, `[ ]`, `true`}
	if len(names) != len(want) || names[1] != "b" {
		t.Fatal(names, values)
	}
	for i := range want {
		if values[i] != want[i] {
			t.Errorf("%s is %s, want %s", names[i], values[i], want[i])
		}
	}
}

// The light scan sees what encoding/json sees.
func FuzzEachMember(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":[{"c":"\"}"}],"\u0064":"\\"}`))
	f.Add([]byte(" {\n} "))
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]json.RawMessage
		// What is not UTF-8 never gets here: it is not JSON for the schema.
		if !utf8.Valid(text) || json.Unmarshal(text, &want) != nil || want == nil {
			return
		}
		got := map[string][]byte{}
		eachMember(text, func(name string, value []byte) { got[name] = value })
		if len(got) != len(want) {
			t.Fatalf("%q: %d members, want %d", text, len(got), len(want))
		}
		for name, value := range want {
			if !bytes.Equal(got[name], value) {
				t.Fatalf("%q: %q is %q, want %q", text, name, got[name], value)
			}
		}
	})
}

func TestEqualJSON(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":2}`, `{"b":2.0,"a":1e0}`, true},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, false},
		{`"\u00e9"`, `"é"`, true},
		{`9007199254740993`, `9007199254740992`, false},
		{`123456789012345678901234567890`, `123456789012345678901234567891`, false},
		{`0.1`, `1e-1`, true},
		{`{"a":null}`, `{}`, false},
		{`"1"`, `1`, false},
	} {
		if got := equalJSON([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

// Any body that the schema lets through makes a definition that is read back
// whole, or a refusal.
func FuzzDefinition(f *testing.F) {
	d := deploy(f)
	sc, err := d.schemas.Schema("queue", "v1/create-task-request.json#")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.body(with{"tags": with{"a": "b"}, "scopes": []string{"x"}, "routes": []string{"r"}}))
	f.Add(d.body(with{"taskQueueId": testQueue, "priority": "high", "retries": 7}))
	def, err := d.schemas.Schema("queue", "v1/task.json#")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		doc, problems, err := sc.Accept(body)
		if err != nil || problems != nil {
			return
		}
		n, err := parseDefinition([16]byte{6: 0x40, 8: 0x80}, doc)
		if err != nil {
			return
		}
		text, at := n.text()
		s := stored{priority: n.priority, at: at, text: text}
		full := s.appendTo(nil)
		if _, problems, err := def.Accept(full); err != nil || problems != nil {
			t.Fatalf("%v %v: %s", err, problems, full)
		}
		if len(s.scopes()) != len(n.scopes) {
			t.Fatalf("scopes %q, want %q", s.scopes(), n.scopes)
		}
	})
}

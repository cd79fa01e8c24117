package graph

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"taskcluster/internal/slugid"
)

var testOptions = Options{
	Now:       time.Date(2031, 2, 3, 4, 5, 6, 7_890_000, time.UTC),
	GroupID:   "VQ6EAOKbQdSnFkRmVUQAAA",
	TaskQueue: "local/native",
	Owner:     "me@here",
	Source:    "http://localhost:8080",
}

// expand expands one file and replaces the random taskIds by <name>.
func expand(t *testing.T, text string) (*Graph, string) {
	t.Helper()
	g, err := Expand([]Source{{Name: "dir/one.yml", Text: []byte(text)}}, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	out := string(body)
	for _, task := range g.Tasks {
		out = strings.ReplaceAll(out, task.ID, "<"+task.Name+">")
	}
	return g, out
}

// definition returns a task's definition as JSON, with ids as in expand and
// without what is the same in all.
func definition(t *testing.T, text, name string) string {
	t.Helper()
	g, _ := expand(t, text)
	for _, task := range g.Tasks {
		if task.Name != name {
			continue
		}
		body, err := json.Marshal(task.Definition)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		for key, same := range map[string]string{
			"taskQueueId": `"local/native"`,
			"taskGroupId": `"VQ6EAOKbQdSnFkRmVUQAAA"`,
			"created":     `"2031-02-03T04:05:06.007Z"`,
			"deadline":    `"2031-02-04T04:05:06.007Z"`,
			"metadata":    `{"description":"","name":"` + name + `","owner":"me@here","source":"http://localhost:8080"}`,
		} {
			if string(m[key]) == same {
				delete(m, key)
			}
		}
		body, err = json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out := string(body)
		for _, task := range g.Tasks {
			out = strings.ReplaceAll(out, task.ID, "<"+task.Name+">")
		}
		return out
	}
	t.Fatalf("no task %q", name)
	return ""
}

func TestShortForm(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"script", "command: echo hi", `{"payload":{"command":[["sh","-ec","echo hi"]],"maxRunTime":3600}}`},
		{"script of lines", "command: |\n  a\n  b\n", `{"payload":{"command":[["sh","-ec","a\nb\n"]],"maxRunTime":3600}}`},
		{"program", "command: [echo, hi, 3]", `{"payload":{"command":[["echo","hi","3"]],"maxRunTime":3600}}`},
		{"programs", "command: [[a], [b, c]]", `{"payload":{"command":[["a"],["b","c"]],"maxRunTime":3600}}`},
		{"seconds", "{command: x, maxRunTime: 90}", `{"payload":{"command":[["sh","-ec","x"]],"maxRunTime":90}}`},
		{"span", "{command: x, maxRunTime: 10m}", `{"payload":{"command":[["sh","-ec","x"]],"maxRunTime":600}}`},
		{
			"env as written", "command: x\nenv: {A: 1, B: true, C: 0x10, D: '', E: 1.50, F: 2020-01-01, G: yes}",
			`{"payload":{"command":[["sh","-ec","x"]],"env":{"A":"1","B":"true","C":"0x10","D":"","E":"1.50","F":"2020-01-01","G":"yes"},"maxRunTime":3600}}`,
		},
		{
			"artifact map", "command: x\nartifacts: {public/a: out/a, public/d: out/d/}",
			`{"payload":{"artifacts":[{"name":"public/a","path":"out/a","type":"file"},{"name":"public/d","path":"out/d","type":"directory"}],"command":[["sh","-ec","x"]],"maxRunTime":3600}}`,
		},
		{
			"artifact map of objects", "command: x\nartifacts: {public/a: {type: file, path: a, expires: 1 week, optional: true}}",
			`{"payload":{"artifacts":[{"expires":"2031-02-10T04:05:06.007Z","name":"public/a","optional":true,"path":"a","type":"file"}],"command":[["sh","-ec","x"]],"maxRunTime":3600}}`,
		},
		{
			"artifact list", "command: x\nartifacts: [{type: file, path: a, name: public/a}]",
			`{"payload":{"artifacts":[{"name":"public/a","path":"a","type":"file"}],"command":[["sh","-ec","x"]],"maxRunTime":3600}}`,
		},
		{
			"everything else",
			`{command: x, requires: all-resolved, queue: p-1/w, priority: high, retries: 0, deadline: 2h, expires: 2032-01-01T00:00:00+01:00,
routes: [a.b], scopes: ["s:*"], tags: {k: v}, extra: {a: [1, 1.0, null, {b: c}]}, schedulerId: s, projectId: p/q,
dependencies: [VQ6EAOKbQdSnFkRmVUQAAA, VQ6EAOKbQdSnFkRmVUQAAA], metadata: {description: d}}`,
			`{"deadline":"2031-02-03T06:05:06.007Z","dependencies":["VQ6EAOKbQdSnFkRmVUQAAA"],"expires":"2031-12-31T23:00:00.000Z","extra":{"a":[1,1.0,null,{"b":"c"}]},` +
				`"metadata":{"description":"d","name":"one","owner":"me@here","source":"http://localhost:8080"},` +
				`"payload":{"command":[["sh","-ec","x"]],"maxRunTime":3600},"priority":"high","projectId":"p/q","requires":"all-resolved","retries":0,"routes":["a.b"],` +
				`"schedulerId":"s","scopes":["s:*"],"tags":{"k":"v"},"taskQueueId":"p-1/w"}`,
		},
		{"payload", "payload: {image: x, n: 9007199254740993, f: 1e3, t: 2020-01-01}", `{"payload":{"f":1e3,"image":"x","n":9007199254740993,"t":"2020-01-01"}}`},
		{"own id", "payload: {me: {$taskId: one}}", `{"payload":{"me":"<one>"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, definition(t, c.text, "one")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

const diamond = `
defaults:
  env: {A: default, B: default}
  retries: 1
  metadata: {owner: team@here}
tasks:
  report:
    needs: [test-a, test-b]
    command: report
    retries: 2
    env: {B: own, MAIN: {$taskId: test-a}}
  test-a: {needs: [build], command: a}
  test-b:
    needs: [build]
    payload: {from: {$taskId: build}, list: [{$taskId: build}]}
    extra: {upstream: {$taskId: build}}
  build: {command: b}
`

func TestNeeds(t *testing.T) {
	for name, want := range map[string]string{
		"build": `{"metadata":{"description":"","name":"build","owner":"team@here","source":"http://localhost:8080"},` +
			`"payload":{"command":[["sh","-ec","b"]],"env":{"A":"default","B":"default"},"maxRunTime":3600},"retries":1}`,
		"test-b": `{"dependencies":["<build>"],"extra":{"upstream":"<build>"},` +
			`"metadata":{"description":"","name":"test-b","owner":"team@here","source":"http://localhost:8080"},` +
			`"payload":{"from":"<build>","list":["<build>"]},"retries":1}`,
		"report": `{"dependencies":["<test-a>","<test-b>"],` +
			`"metadata":{"description":"","name":"report","owner":"team@here","source":"http://localhost:8080"},` +
			`"payload":{"command":[["sh","-ec","report"]],` +
			`"env":{"A":"default","B":"own","MAIN":"<test-a>","TASK_ID_TEST_A":"<test-a>","TASK_ID_TEST_B":"<test-b>"},"maxRunTime":3600},"retries":2}`,
	} {
		if diff := cmp.Diff(want, definition(t, diamond, name)); diff != "" {
			t.Error(name, diff)
		}
	}
	g, _ := expand(t, diamond)
	var levels []string
	for _, level := range g.Levels() {
		var names []string
		for _, task := range level {
			names = append(names, task.Name)
		}
		levels = append(levels, strings.Join(names, " "))
	}
	if diff := cmp.Diff([]string{"build", "test-a test-b", "report"}, levels); diff != "" {
		t.Error(diff)
	}
}

func TestSeveralFilesAndDocuments(t *testing.T) {
	g, err := Expand([]Source{
		{Name: "a.yml", Text: []byte("command: a\n---\nmetadata: {name: second}\ncommand: b\nneeds: [third]\n---\n")},
		{Name: "b.json", Text: []byte(`{"tasks": {"third": {"needs": ["a"], "command": "c"}}}`)},
	}, Options{Now: testOptions.Now, TaskQueue: "a/b"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, task := range g.Tasks {
		names = append(names, task.Name)
		if _, err := slugid.Parse(task.ID); err != nil || task.Definition.TaskGroupID != g.GroupID {
			t.Errorf("%+v", task)
		}
	}
	if diff := cmp.Diff([]string{"a", "second", "third"}, names); diff != "" {
		t.Error(diff)
	}
	if g.GroupID == g.Tasks[0].ID {
		t.Error("the group of several tasks has an id of its own")
	}
	single, err := Expand([]Source{{Name: "a.yml", Text: []byte("command: a")}}, Options{Now: testOptions.Now, TaskQueue: "a/b"})
	if err != nil || single.GroupID != single.Tasks[0].ID {
		t.Errorf("one task: group %+v, %v", single, err)
	}
}

func TestMerge(t *testing.T) {
	text := `
defaults:
  tags: &tags {a: one, b: one}
tasks:
  x:
    <<: &base {command: base, priority: low}
    tags: {<<: *tags, b: two}
  y: {<<: [*base, {priority: high, retries: 3}]}
`
	if got, want := definition(t, text, "x"), `{"payload":{"command":[["sh","-ec","base"]],"maxRunTime":3600},"priority":"low","tags":{"a":"one","b":"two"}}`; got != want {
		t.Error(got)
	}
	if got, want := definition(t, text, "y"), `{"payload":{"command":[["sh","-ec","base"]],"maxRunTime":3600},"priority":"low","retries":3,"tags":{"a":"one","b":"one"}}`; got != want {
		t.Error(got)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "there is no task"},
		{"null", "---\n---\n", "there is no task"},
		{"no tasks", "tasks: {}", "there is no task"},
		{"syntax", "a: [", "one.yml: line 1"},
		{"list", "- a", "one.yml:1: a document must be a map"},
		{"unknown key", "command: x\ncomand: y", `one.yml:2: unknown key "comand"; a task has command,`},
		{"unknown key in a graph", "tasks:\n  a:\n    cmd: x", `one.yml:3: unknown key "cmd"`},
		{"beside tasks", "tasks: {a: {command: x}}\nqueue: a/b", `one.yml:2: unknown key "queue" beside tasks`},
		{"bad default", "tasks: {a: {command: x}}\ndefaults: {command: x}", `"command" cannot be a default`},
		{"key twice", "command: x\ncommand: y", "twice"},
		{"task twice", "tasks:\n  a: {command: x}\n---\ntasks:\n  a: {command: y}", `one.yml:5: there is already a task "a", at one.yml:2`},
		{"no command", "needs: []", "neither command nor payload"},
		{"both", "payload: {}\nenv: {A: b}", `one.yml:2: task "one" has a payload, which is complete: put env into it`},
		{"empty command", "command: ''", "command is empty"},
		{"empty list", "command: []", "command must be"},
		{"empty program", "command: [[]]", "list of strings itself"},
		{"mixed command", "command: [[a], b]", "list of strings itself"},
		{"mixed command", "command: [a, [b]]", "each of command must be a string"},
		{"null argument", "command: [a, null]", "each of command must be a string"},
		{"map command", "command: {a: b}", "command must be a script"},
		{"payload no map", "payload: 3", "must be a map"},
		{"env no map", "{command: x, env: [A]}", "env must be a map"},
		{"env null", "{command: x, env: {A: }}", "env.A must be a string"},
		{"env list", "{command: x, env: {A: []}}", "env.A must be a string"},
		{"env name", "{command: x, env: {A=B: c}}", "cannot be the name"},
		{"env object", "{command: x, env: {A: {b: c}}}", "env.A must be a string or"},
		{"needs unknown", "{command: x, needs: [y]}", `needs "y", but no task has that name`},
		{"needs itself", "{command: x, needs: [one]}", "needs itself"},
		{"needs twice", "tasks: {a: {command: x}, b: {command: x, needs: [a, a]}}", `needs "a" twice`},
		{"needs string", "{command: x, needs: one}", "needs must be a list"},
		{"circle", "tasks:\n  z: {command: x}\n  c: {command: x, needs: [a]}\n  a: {command: x, needs: [z, b]}\n  b: {command: x, needs: [a]}", "circle: a needs b needs a"},
		{"same variable", "tasks: {a-b: {command: x}, a_b: {command: x}, c: {command: x, needs: [a-b, a_b]}}", "would share the variable TASK_ID_A_B"},
		{"variable in env", "tasks: {a: {command: x}, c: {command: x, needs: [a], env: {TASK_ID_A: x}}}", "holds the taskId"},
		{"dependency", "{command: x, dependencies: [one]}", "dependencies are taskIds"},
		{"requires", "{command: x, requires: some}", "requires must be one of"},
		{"queue", "{command: x, queue: native}", "queue is such as local/native"},
		{"priority", "{command: x, priority: urgent}", "priority must be one of highest"},
		{"retries", "{command: x, retries: 50}", "0 to 49"},
		{"retries text", "{command: x, retries: many}", "0 to 49"},
		{"maxRunTime", "{command: x, maxRunTime: soon}", "maxRunTime:"},
		{"maxRunTime zero", "{command: x, maxRunTime: 0}", "at least 1 second"},
		{"maxRunTime negative", "{command: x, maxRunTime: -5m}", "at least 1 second"},
		{"deadline", "{command: x, deadline: tomorrow}", "deadline:"},
		{"deadline past", "{command: x, deadline: -1h}", "must be in the future"},
		{"deadline far", "{command: x, deadline: 9999-12-31T23:59:59-01:00}", "before the year 10000"},
		{"expires early", "{command: x, deadline: 2h, expires: 1h}", "expires before its deadline"},
		{"metadata key", "{command: x, metadata: {nmae: x}}", `unknown key "nmae"`},
		{"metadata source", "{command: x, metadata: {source: here}}", "metadata.source must begin"},
		{"metadata no map", "{command: x, metadata: 3}", "metadata must be a map"},
		{"scheduler", "{command: x, schedulerId: 'a b'}", "schedulerId is"},
		{"project", "{command: x, projectId: ''}", "projectId is"},
		{"tags", "{command: x, tags: {a: [b]}}", "tags.a must be a string"},
		{"routes", "{command: x, routes: {a: b}}", "routes must be a list"},
		{"extra", "{command: x, extra: [a]}", "must be a map"},
		{"artifacts", "{command: x, artifacts: a}", "artifacts must be"},
		{"artifact names", "{command: x, artifacts: {a: {name: b}}}", "second name"},
		{"reference", "payload: {a: {$taskId: b}}", `does not need "b"`},
		{"infinity", "payload: {a: .inf}", "cannot be written in JSON"},
		{"binary", "payload: {a: !!binary aGk=}", "cannot be written in JSON"},
		{"map key", "payload: {a: {[b]: c}}", "a key must be a string"},
		{"task name", "tasks: {'': {command: x}}", "1 to 255 characters"},
		{"task no map", "tasks: {a: x}", `task "a" must be a map`},
		{"alias of itself", "payload: &a {b: *a}", "nested more than 100"},
		{"merge of itself", "payload: &a {<<: *a}", "merges more than 100"},
		{"deep", "payload: {a: " + strings.Repeat("[", 150) + strings.Repeat("]", 150) + "}", "nested more than 100"},
		{"billion laughs", laughs(), "more than 4000000 values"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := Expand([]Source{{Name: "one.yml", Text: []byte(c.text)}}, testOptions)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v; want %q", g, err, c.want)
			}
			if g != nil {
				t.Error("a graph beside an error")
			}
		})
	}
}

// laughs is a text of a few hundred bytes that stands for 10^9 values.
func laughs() string {
	var b strings.Builder
	b.WriteString("payload:\n  l0: &l0 [x]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "  l%d: &l%d [%s*l%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*l%d, ", i), 9), i)
	}
	return b.String()
}

func TestNoQueue(t *testing.T) {
	_, err := Expand([]Source{{Name: "a.yml", Text: []byte("command: x")}}, Options{Now: testOptions.Now})
	if err == nil || !strings.Contains(err.Error(), "has no queue") {
		t.Error(err)
	}
}

func TestManyProblemsAreCut(t *testing.T) {
	var text strings.Builder
	text.WriteString("tasks:\n")
	for i := range 100 {
		fmt.Fprintf(&text, "  t%d: {bad: 1}\n", i)
	}
	_, err := Expand([]Source{{Name: "a.yml", Text: []byte(text.String())}}, testOptions)
	if lines := strings.Split(err.Error(), "\n"); len(lines) != maxProblems+1 || lines[maxProblems] != "(and more)" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestLongChain(t *testing.T) {
	const n = 20_000
	var text strings.Builder
	text.WriteString("tasks:\n  t0: {command: x}\n")
	for i := range n - 1 {
		fmt.Fprintf(&text, "  t%d: {command: x, needs: [t%d]}\n", i+1, i)
	}
	g, err := Expand([]Source{{Name: "a.yml", Text: []byte(text.String())}}, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	if levels := len(g.Levels()); levels != n {
		t.Errorf("%d levels", levels)
	}
}

// FuzzExpand: any text is refused with a reason, or gives a graph that can be
// created level by level.
func FuzzExpand(f *testing.F) {
	f.Add([]byte(diamond))
	f.Add([]byte("command: x"))
	f.Add([]byte("payload: &a {b: *a}"))
	f.Add([]byte("tasks: {a: {command: [[x]], needs: [b]}, b: {payload: {x: {$taskId: b}}}}"))
	f.Add([]byte("{command: x, artifacts: {a: b/}, deadline: 1h, expires: 2100-01-01T00:00:00Z, metadata: {name: q}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		g, err := Expand([]Source{{Name: "f.yml", Text: text}}, testOptions)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an empty error")
			}
			return
		}
		created := map[string]bool{}
		count := 0
		for _, level := range g.Levels() {
			for _, task := range level {
				count++
				for _, n := range task.Needs {
					if !created[n.ID] {
						t.Fatalf("%q comes before %q, which it needs", task.Name, n.Name)
					}
				}
				body, err := json.Marshal(task.Definition)
				if err != nil || len(task.Definition.Payload) == 0 || task.Definition.Payload[0] != '{' {
					t.Fatalf("%s, %v", body, err)
				}
			}
			for _, task := range level {
				created[task.ID] = true
			}
		}
		if count != len(g.Tasks) || len(created) != count || count == 0 {
			t.Fatalf("%d tasks, %d in levels, %d ids", len(g.Tasks), count, len(created))
		}
	})
}

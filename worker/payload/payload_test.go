package payload

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"taskcluster/internal/testenv"
	"taskcluster/worker/schemas"
)

func parser(t testing.TB) *Parser {
	p, err := NewParser()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParse(t *testing.T) {
	p := parser(t)
	got, err := p.Parse([]byte(`{"command": [["true"]], "maxRunTime": 60}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Payload{
		Command: [][]string{{"true"}}, MaxRunTime: time.Minute, LiveLog: true, BackingLog: true,
		LiveName: "public/logs/live.log", BackingName: "public/logs/live_backing.log",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	got, err = p.Parse([]byte(`{
		"command": [["a", ""], ["b"]], "maxRunTime": 6e1, "env": {"X": ""},
		"features": {"liveLog": false, "backingLog": false, "interactive": false, "resourceMonitor": false},
		"logs": {"live": "l", "backing": "l"}, "supersederUrl": "x", "mounts": [], "osGroups": [],
		"taskclusterProxyInterface": "localhost",
		"onExitStatus": {"retry": [1, 300, 2], "purgeCaches": [0]},
		"artifacts": [{"type": "file", "path": "p"},
			{"type": "directory", "path": "q", "name": "n", "optional": true, "contentType": "a/b", "contentEncoding": "gzip", "expires": "2026-01-02T03:04:05Z"}]
	}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.LiveLog || got.BackingLog || !got.SupersederSet || !slices.Equal(got.RetryOn, []int{1, 2}) || !slices.Equal(got.PurgeOn, []int{0}) ||
		got.MaxRunTime != time.Minute || got.Artifacts[0].Name != "p" || got.Artifacts[1].Name != "n" || !got.Artifacts[1].Optional ||
		got.Artifacts[1].Expires.String() != "2026-01-02T03:04:05.000Z" {
		t.Fatalf("%+v", got)
	}
}

func TestRefusals(t *testing.T) {
	p := parser(t)
	with := func(more string) string { return `{"command": [["true"]], "maxRunTime": 60, ` + more + `}` }
	for in, words := range map[string][]string{
		`[]`:                                    {"payload"},
		`{`:                                     {"not JSON"},
		`null`:                                  {"payload"},
		`{}`:                                    {"command", "maxRunTime"},
		`{"command": [["x"]]}`:                  {"maxRunTime"},
		`{"maxRunTime": 1}`:                     {"command"},
		`{"command": ["x"], "maxRunTime": 1}`:   {"command/0"},
		`{"command": [[]], "maxRunTime": 1}`:    {"command/0"},
		`{"command": [], "maxRunTime": 1}`:      {"command"},
		`{"command": [["x"]], "maxRunTime": 0}`: {"maxRunTime"},
		`{"command": [["x"]], "maxRunTime": 1.5}`:                               {"maxRunTime"},
		`{"command": [["x"]], "maxRunTime": 1e15}`:                              {"maxRunTime"},
		`{"command": [["x"]], "maxRunTime": 1e99}`:                              {"maxRunTime"},
		`{"command": [["x"]], "maxRunTime": "1"}`:                               {"maxRunTime"},
		with(`"env": {"A": 1}`):                                                 {"env/A"},
		with(`"env": {"A=B": ""}`):                                              {"env", "A=B"},
		with(`"env": {"A": "\u0000"}`):                                          {"env", "A"},
		with(`"unknown": 1`):                                                    {"unknown"},
		with(`"artifacts": [{"type": "volume", "path": "p"}]`):                  {"artifacts/0/type"},
		with(`"artifacts": [{"type": "file"}]`):                                 {"artifacts/0", "path"},
		with(`"artifacts": [{"type": "file", "path": "p", "expires": "soon"}]`): {"artifacts/0/expires"},
		with(`"artifacts": {}`):                                                 {"artifacts"},
		with(`"onExitStatus": {"retry": [0]}`):                                  {"onExitStatus/retry/0"},
		with(`"logs": {"live": "same", "backing": "same"}`):                     {"logs.live", "logs.backing", "same"},
		with(`"artifacts": [{"type": "file", "path": "public/logs/live.log"}]`): {"logs.live", "artifacts[0]"},
		with(`"artifacts": [{"type": "file", "path": "a"}, {"type": "directory", "path": "b", "name": "a"}]`): {"artifacts[0]", "artifacts[1]"},

		`{"image": "ubuntu", "maxRunTime": 1}`:                              {"image", "containers"},
		with(`"mounts": [{"directory": "d", "cacheName": "c"}]`):            {"mounts"},
		with(`"osGroups": ["docker"]`):                                      {"osGroups"},
		with(`"taskclusterProxyInterface": "docker-bridge"`):                {"taskclusterProxyInterface"},
		with(`"rdpInfo": "x"`):                                              {"rdpInfo"},
		with(`"features": {"taskclusterProxy": true, "interactive": true}`): {"features.taskclusterProxy", "features.interactive"},
		with(`"features": {"loopbackVideo": true}`):                         {"features.loopbackVideo"},
		with(`"features": {"loopbackAudio": true}`):                         {"features.loopbackAudio"},
		with(`"features": {"resourceMonitor": true}`):                       {"features.resourceMonitor"},
		with(`"features": {"chainOfTrust": true}`):                          {"features.chainOfTrust"},
		with(`"features": {"runTaskAsCurrentUser": true}`):                  {"features.runTaskAsCurrentUser"},
		with(`"features": {"runAsAdministrator": true}`):                    {"features.runAsAdministrator"},
		with(`"features": {"chainOfTrust": false}`):                         {"chainOfTrust"}, // not in this variant's schema
	} {
		got, err := p.Parse([]byte(in))
		if err == nil {
			t.Errorf("%s was accepted: %+v", in, got)
			continue
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not name %q", in, err, word)
			}
		}
	}
}

// The schema must be the published one, but for its prose.
func TestSchemaIsThePublishedOne(t *testing.T) {
	published, err := os.ReadFile(testenv.Shared(t, "reference/schemas/generic-worker/insecure_posix.json"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := schemas.FS.ReadFile("generic-worker/insecure_posix.yml")
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(published, &want); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(source, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, bare(got, true)); d != "" {
		t.Fatal(d)
	}
}

// bare removes titles and descriptions from a schema. In "properties" and
// "definitions" the members are names, not keywords.
func bare(v any, schema bool) any {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			if schema && (key == "title" || key == "description") {
				delete(v, key)
				continue
			}
			v[key] = bare(below, !schema || key != "properties" && key != "definitions")
		}
	case []any:
		for i := range v {
			v[i] = bare(v[i], schema)
		}
	}
	return v
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"command": [["true"]], "maxRunTime": 60, "env": {"A": "b"}, "features": {"liveLog": false}}`))
	f.Add([]byte(`{"command": [["true"]], "maxRunTime": 60, "artifacts": [{"type": "file", "path": "x"}], "logs": {}}`))
	p := parser(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := p.Parse(text)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("a refusal without words")
			}
			return
		}
		if len(got.Command) == 0 || got.MaxRunTime < time.Second {
			t.Fatalf("%s -> %+v", text, got)
		}
	})
}

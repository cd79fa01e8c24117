// Package payload reads the payload of a task for the native worker: the
// published generic-worker schema (worker/schemas/generic-worker), of which
// some parts are not built yet. Those are refused by name, so that no task
// runs without something that it asked for.
package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"taskcluster/internal/clock"
	"taskcluster/worker/schemas"
)

// Payload is what a task asks for.
type Payload struct {
	Command       [][]string
	Env           map[string]string
	MaxRunTime    time.Duration
	Artifacts     []Artifact
	LiveLog       bool
	BackingLog    bool
	LiveName      string // artifact name of the live log
	BackingName   string // artifact name of the log that is kept
	RetryOn       []int  // exit statuses that make the task run again
	PurgeOn       []int  // exit statuses after which caches would be removed
	SupersederSet bool   // the unused supersederUrl is there
}

// Artifact is a file or directory to keep.
type Artifact struct {
	Type            string     `json:"type"` // "file" or "directory"
	Path            string     `json:"path"` // from the task's directory
	Name            string     `json:"name"` // set also when the payload leaves it out
	Expires         clock.Time `json:"expires"`
	ContentType     string     `json:"contentType"`     // empty: by extension
	ContentEncoding string     `json:"contentEncoding"` // "identity", "gzip", or empty: by extension
	Optional        bool       `json:"optional"`
}

// Error is a payload that cannot be run, with one sentence for each reason.
type Error struct{ Problems []string }

func (e *Error) Error() string { return strings.Join(e.Problems, "\n") }

// Parser reads payloads. It is safe for concurrent use.
type Parser struct{ schema *jsonschema.Schema }

// NewParser compiles the schema.
func NewParser() (*Parser, error) {
	text, err := schemas.FS.ReadFile("generic-worker/insecure_posix.yml")
	if err != nil {
		return nil, err
	}
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return nil, err
	}
	// The published schema is "commands or container". Containers are refused
	// before, so only the first of the two is compiled: the problems found are
	// then about what the author wrote, not about what else it might have been.
	root := doc.(map[string]any)
	native := root["oneOf"].([]any)[0].(map[string]any)
	native["definitions"] = root["definitions"]
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft6)
	c.AssertFormat()
	if err := c.AddResource("payload.json", native); err != nil {
		return nil, err
	}
	schema, err := c.Compile("payload.json")
	if err != nil {
		return nil, err
	}
	return &Parser{schema}, nil
}

// raw is the payload as it is written.
type raw struct {
	Command    [][]string        `json:"command"`
	Env        map[string]string `json:"env"`
	MaxRunTime json.Number       `json:"maxRunTime"`
	Artifacts  []Artifact        `json:"artifacts"`
	Features   struct {
		LiveLog    *bool `json:"liveLog"`
		BackingLog *bool `json:"backingLog"`
	} `json:"features"`
	Logs struct {
		Live    *string `json:"live"`
		Backing *string `json:"backing"`
	} `json:"logs"`
	OnExitStatus struct {
		Retry       []json.Number `json:"retry"`
		PurgeCaches []json.Number `json:"purgeCaches"`
	} `json:"onExitStatus"`
	SupersederURL *string `json:"supersederUrl"`
}

// longest is the greatest maxRunTime that a Duration can hold with room to spare.
const longest = 100 * 365 * 24 * 60 * 60

// Parse reads a payload. The error is an *Error.
func (p *Parser) Parse(text []byte) (*Payload, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, &Error{[]string{"The payload is not JSON: " + err.Error()}}
	}
	if problems := unsupported(value); len(problems) > 0 {
		return nil, &Error{problems}
	}
	if err := p.schema.Validate(value); err != nil {
		return nil, &Error{explain(err)}
	}
	var r raw
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, &Error{[]string{"The payload cannot be read: " + err.Error()}}
	}
	out := &Payload{
		Command: r.Command, Env: r.Env, Artifacts: r.Artifacts,
		LiveLog: yes(r.Features.LiveLog), BackingLog: yes(r.Features.BackingLog),
		LiveName:      or(r.Logs.Live, "public/logs/live.log"),
		BackingName:   or(r.Logs.Backing, "public/logs/live_backing.log"),
		SupersederSet: r.SupersederURL != nil,
	}
	var problems []string
	seconds, ok := integer(r.MaxRunTime)
	if !ok || seconds > longest {
		problems = append(problems, fmt.Sprintf("maxRunTime: %s seconds is longer than any worker lives", r.MaxRunTime))
	}
	out.MaxRunTime = time.Duration(seconds) * time.Second
	out.RetryOn, out.PurgeOn = integers(r.OnExitStatus.Retry), integers(r.OnExitStatus.PurgeCaches)
	for i := range out.Artifacts {
		if a := &out.Artifacts[i]; a.Name == "" {
			a.Name = a.Path
		}
	}
	for name, v := range out.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(v, "\x00") {
			problems = append(problems, fmt.Sprintf("env: %q cannot be a variable of the environment", name))
		}
	}
	slices.Sort(problems)
	problems = append(problems, out.clashes()...)
	if len(problems) > 0 {
		return nil, &Error{problems}
	}
	return out, nil
}

// clashes are the artifact names that two parts of the payload want.
func (p *Payload) clashes() (problems []string) {
	owner := map[string]string{}
	claim := func(name, by string) {
		if other, taken := owner[name]; taken {
			problems = append(problems, fmt.Sprintf("%s and %s both want the artifact name %q", other, by, name))
		}
		owner[name] = by
	}
	if p.LiveLog {
		claim(p.LiveName, "logs.live")
	}
	if p.BackingLog {
		claim(p.BackingName, "logs.backing")
	}
	for i, a := range p.Artifacts {
		claim(a.Name, fmt.Sprintf("artifacts[%d]", i))
	}
	return problems
}

// unsupported names what a payload asks for that generic-worker knows, or its
// other variants do, and this worker does not.
func unsupported(payload any) (problems []string) {
	object, ok := payload.(map[string]any)
	if !ok {
		return nil
	}
	refuse := func(name, what string) {
		problems = append(problems, fmt.Sprintf("%s: %s, which this worker does not support", name, what))
	}
	if _, ok := object["image"]; ok {
		refuse("image", "this is a payload for containers (docker-worker's, or D2G)")
		return problems
	}
	for _, list := range []struct{ name, what string }{
		{"mounts", "the task wants files, directories or caches mounted"},
		{"osGroups", "the task wants to join groups of the operating system"},
	} {
		if v, ok := object[list.name].([]any); ok && len(v) > 0 {
			refuse(list.name, list.what)
		}
	}
	if v, ok := object["taskclusterProxyInterface"].(string); ok && v != "localhost" {
		refuse("taskclusterProxyInterface", "the task wants a proxy at "+fmt.Sprintf("%q", v))
	}
	if _, ok := object["rdpInfo"]; ok {
		refuse("rdpInfo", "the task wants a remote desktop")
	}
	features, _ := object["features"].(map[string]any)
	for _, feature := range []string{
		"chainOfTrust", "hideCmdWindow", "interactive", "loopbackAudio", "loopbackVideo", "resourceMonitor",
		"runAsAdministrator", "runTaskAsCurrentUser", "taskclusterProxy",
	} {
		if features[feature] == true {
			refuse("features."+feature, "the task wants this feature")
		}
	}
	return problems
}

// explain turns the library's tree of errors into sentences, one for each leaf.
func explain(err error) []string {
	v, ok := err.(*jsonschema.ValidationError)
	if !ok {
		return []string{err.Error()}
	}
	var problems []string
	for _, unit := range v.BasicOutput().Errors {
		if unit.Error == nil {
			continue
		}
		at := strings.TrimPrefix(unit.InstanceLocation, "/")
		if at == "" {
			at = "payload"
		}
		problems = append(problems, at+": "+unit.Error.String())
	}
	if len(problems) == 0 {
		problems = []string{err.Error()}
	}
	return problems
}

func yes(b *bool) bool { return b == nil || *b }

func or(s *string, other string) string {
	if s != nil {
		return *s
	}
	return other
}

// integer reads a number that the schema calls an integer, such as 60, 60.0 and 6e1.
func integer(n json.Number) (int64, bool) {
	if i, err := n.Int64(); err == nil {
		return i, true
	}
	f, err := n.Float64()
	if err != nil || f < -1e15 || f > 1e15 || f != float64(int64(f)) {
		return 0, false
	}
	return int64(f), true
}

// integers drops what no exit status can be.
func integers(ns []json.Number) (out []int) {
	for _, n := range ns {
		if i, ok := integer(n); ok && i <= 255 {
			out = append(out, int(i))
		}
	}
	return out
}

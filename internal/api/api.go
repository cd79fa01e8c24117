// Package api turns a service's methods, written down as data, into the
// published HTTP API: routes, authentication, scopes, validation, errors, audit
// rows, and the reference documents that clients are generated from.
//
// A service hands over one table of Method values. Everything that a caller can
// observe about a method follows from its entry; handlers hold only what the
// method does. The order in which a request is checked is part of the contract,
// because callers see which error comes first: route, body syntax, scopes (when
// the URL alone decides them), URL parameters, query, schema, handler.
package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"

	"taskcluster/internal/events"
	"taskcluster/internal/schema"
	"taskcluster/internal/scopes"
	"taskcluster/internal/tcerr"
)

// A Service is one entry of the published API: /api/<Name>/<Version>/.
type Service struct {
	Name        string // as in URLs: "queue"
	Version     string // "v1"
	Title       string
	Description string
	Methods     []Method
	Exchanges   []events.Exchange
	Schemas     schema.Source
}

// Stability is a published promise about a method.
type Stability string

// The stabilities that references know.
const (
	Stable       Stability = "stable"
	Experimental Stability = "experimental"
	Deprecated   Stability = "deprecated"
)

// Blob is the Output of a method whose answer is not JSON.
const Blob = "blob"

// A Method is one API method as data.
type Method struct {
	Name        string // as clients call it: "createTask"
	Title       string
	Description string
	Category    string
	Stability   Stability

	Method string // HTTP method, upper case
	// Route is the path below the service's root. ":x" matches one non-empty
	// segment; "{*x}" matches the rest, slashes included, possibly nothing, and
	// may be followed by literal segments.
	Route  string
	Params map[string]*Pattern
	Query  []QueryParam

	Input  string // schema of the body: "v1/create-task-request.json#"
	Output string // schema of the answer, Blob, or nothing

	// Scopes says what a caller must hold. The zero Template means that
	// everybody may call, and credentials are not even looked at.
	Scopes scopes.Template
	// ScopeParams adds to the parameters of Scopes those that the handler derives
	// from others, for explanations. The values are as JSON gives them.
	ScopeParams func(params map[string]any)

	// Clean removes secrets from a payload before an error message repeats it.
	Clean func(payload any) any

	// Handle serves the method. It returns the answer, which is nil for "204 No
	// Content", JSON for JSON rendered already, Text, *Response for anything unusual,
	// or a value to be marshalled.
	Handle func(*Call) (any, error)
}

// Pattern restricts a parameter's text.
type Pattern struct {
	source  string
	match   func(string) bool
	problem string // of a text that does not match, when there is no source
}

// Regexp makes a pattern of a regular expression; it panics when the expression
// is malformed, as patterns are constants.
func Regexp(source string) *Pattern {
	re := regexp.MustCompile(source)
	return &Pattern{source: source, match: re.MatchString}
}

// PatternFunc makes a pattern that is published as the regular expression
// source but decided by the faster match.
func PatternFunc(source string, match func(string) bool) *Pattern {
	return &Pattern{source: source, match: match}
}

// Check makes a pattern of a query parameter that no regular expression states;
// problem is what callers are told of a text that match refuses.
func Check(problem string, match func(string) bool) *Pattern {
	return &Pattern{problem: problem, match: match}
}

// Match tells whether s is allowed.
func (p *Pattern) Match(s string) bool { return p.match(s) }

// QueryParam is a declared query parameter. All are optional strings.
type QueryParam struct {
	Name    string
	Pattern *Pattern
}

// Paging is what a method that answers in pages declares as its Query.
func Paging() []QueryParam {
	return []QueryParam{
		{Name: "continuationToken", Pattern: PatternFunc(".", func(s string) bool { return s != "" })},
		{Name: "limit", Pattern: Regexp("^[0-9]+$")},
	}
}

// JSON is an answer rendered already.
type JSON []byte

// Text is an answer in plain text, for people who follow a redirect by hand.
type Text string

// Stream is an answer that goes on after the method is done: it is called with
// the response, to whose headers it may add, and ends with the connection. The
// call counts as answered before it begins. It is not called for HEAD.
type Stream func(w http.ResponseWriter, r *http.Request)

// Response is an answer with a status or headers of its own.
type Response struct {
	Status int
	Header http.Header
	Body   any // as Handle returns it
}

// Handle makes a handler of a function that takes the decoded body.
func Handle[In any](f func(*Call, *In) (any, error)) func(*Call) (any, error) {
	return func(c *Call) (any, error) {
		in := new(In)
		err := decode(c.Body(), in)
		var misfit *json.UnmarshalTypeError
		if errors.As(err, &misfit) && strings.HasPrefix(misfit.Value, "number ") {
			return nil, tcerr.New(tcerr.InputValidationError, "data/%s is %s, an integer too large for this server",
				strings.ReplaceAll(misfit.Field, ".", "/"), strings.TrimPrefix(misfit.Value, "number "))
		}
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", c.method.Input, err)
		}
		return f(c, in)
	}
}

// decode is json.Unmarshal that takes an integer in any notation, as the schema
// has it and some languages write it: 1.0, or 1e3.
func decode(body []byte, into any) error {
	err := json.Unmarshal(body, into)
	var misfit *json.UnmarshalTypeError
	if !errors.As(err, &misfit) || !strings.HasPrefix(misfit.Value, "number ") {
		return err
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return err
	}
	plain, marshalErr := json.Marshal(withPlainIntegers(v))
	if marshalErr != nil {
		return marshalErr
	}
	return json.Unmarshal(plain, into)
}

func withPlainIntegers(v any) any {
	switch v := v.(type) {
	case json.Number:
		const exact = 1 << 53
		if f, err := v.Float64(); err == nil && f == math.Trunc(f) && math.Abs(f) < exact && strings.ContainsAny(string(v), ".eE") {
			return int64(f)
		}
	case []any:
		for i := range v {
			v[i] = withPlainIntegers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = withPlainIntegers(v[name])
		}
	}
	return v
}

package schema

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// A hostile payload must not make an answer larger than itself.
const (
	maxProblems = 200
	maxLine     = 500 // bytes
)

// origin is where the library believes the schemas to be.
const origin = "http://taskcluster.invalid"

// validator is a compiled schema of the library.
type validator struct{ schema *jsonschema.Schema }

var errFormat = errors.New("wrong format")

// loader gives the library the documents of a set.
type loader map[string][]byte

func (l loader) Load(url string) (any, error) {
	name, ok := strings.CutPrefix(url, origin+"/schemas/")
	doc, found := l[name]
	if !ok || !found {
		return nil, fmt.Errorf("there is no schema %s", url)
	}
	n, _, err := parse(doc)
	if err != nil {
		return nil, err
	}
	value, _ := n.value().(map[string]any)
	value["$schema"] = draft06 // what ours comes to
	return value, nil
}

func (s *Set) library(name string) (validator, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft6)
	c.AssertFormat()
	c.UseLoader(loader(s.docs))
	c.UseRegexpEngine(func(p string) (jsonschema.Regexp, error) {
		re, err := CompilePattern(p)
		if err != nil {
			return nil, err
		}
		return pattern{re.MatchString, p}, nil
	})
	for _, f := range stringFormats {
		c.RegisterFormat(&jsonschema.Format{Name: f.name, Validate: func(v any) error {
			if text, ok := v.(string); ok && !f.ok(text) {
				return errFormat
			}
			return nil
		}})
	}
	compiled, err := c.Compile(origin + "/schemas/" + name)
	if err != nil {
		return validator{}, fmt.Errorf("schema: %s: %w", name, err)
	}
	return validator{compiled}, nil
}

// pattern is a regular expression that shows itself as it was published.
type pattern struct {
	match  func(string) bool
	source string
}

func (p pattern) MatchString(s string) bool { return p.match(s) }
func (p pattern) String() string            { return p.source }

func (v validator) problems(value any) []string {
	err := v.schema.Validate(value)
	if err == nil {
		return nil
	}
	var failed *jsonschema.ValidationError
	if !errors.As(err, &failed) {
		return []string{"data cannot be validated"}
	}
	var found []problem
	collect(failed, &found)
	// The library walks maps, so bring order: from the outside in, by name.
	slices.SortStableFunc(found, func(a, b problem) int {
		if c := slices.CompareFunc(a.at, b.at, compareWords); c != 0 {
			return c
		}
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return strings.Compare(a.text, b.text)
	})
	lines := make([]string, 0, min(len(found), maxProblems))
	for i, p := range found {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("data has %d more problems", len(found)-maxProblems))
			break
		}
		lines = append(lines, location(p.at)+" "+p.text)
	}
	return limited(slices.Compact(lines))
}

// limited cuts what would make the answer too long.
func limited(lines []string) []string {
	for i, line := range lines {
		if len(line) > maxLine {
			lines[i] = strings.ToValidUTF8(line[:maxLine], "") + "..."
		}
	}
	return lines
}

// compareWords orders member names by text and indices by number. Names may
// be huge, and are mostly the same.
func compareWords(a, b string) int {
	if a == b {
		return 0
	}
	if len(a) < 10 && len(b) < 10 {
		x, err1 := strconv.Atoi(a)
		y, err2 := strconv.Atoi(b)
		if err1 == nil && err2 == nil {
			return x - y
		}
	}
	return strings.Compare(a, b)
}

// location writes a path as Ajv does: data, then a JSON pointer.
func location(path []string) string {
	var b strings.Builder
	b.WriteString("data")
	for _, word := range path {
		b.WriteByte('/')
		if len(word) > maxLine {
			word = word[:maxLine]
		}
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(word))
	}
	return b.String()
}

type problem struct {
	at   []string
	rank int // alternatives after what they consist of
	text string
}

// collect turns the library's tree of errors into lines in Ajv's words.
func collect(e *jsonschema.ValidationError, out *[]problem) {
	add := func(format string, args ...any) {
		*out = append(*out, problem{at: e.InstanceLocation, text: fmt.Sprintf(format, args...)})
	}
	alternative := func(text string) {
		*out = append(*out, problem{e.InstanceLocation, 1, text})
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		add("must be %s", strings.Join(k.Want, ","))
	case *kind.Required:
		for _, name := range k.Missing {
			add("must have required property '%s'", name)
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			add("must NOT have additional properties: %q", name)
		}
	case *kind.Enum:
		add("must be equal to one of the allowed values")
	case *kind.Const:
		add("must be equal to constant")
	case *kind.Pattern:
		add("must match pattern \"%s\"", k.Want)
	case *kind.Format:
		add("must match format \"%s\"", k.Want)
	case *kind.MinLength:
		add("must NOT have fewer than %d characters", k.Want)
	case *kind.MaxLength:
		add("must NOT have more than %d characters", k.Want)
	case *kind.Minimum:
		add("must be >= %s", decimal(k.Want))
	case *kind.Maximum:
		add("must be <= %s", decimal(k.Want))
	case *kind.MinItems:
		add("must NOT have fewer than %d items", k.Want)
	case *kind.MaxItems:
		add("must NOT have more than %d items", k.Want)
	case *kind.UniqueItems:
		add("must NOT have duplicate items (items ## %d and %d are identical)", k.Duplicates[0], k.Duplicates[1])
	case *kind.MinProperties:
		add("must NOT have fewer than %d properties", k.Want)
	case *kind.MaxProperties:
		add("must NOT have more than %d properties", k.Want)
	case *kind.PropertyNames:
		add("property name must be valid: %q", k.Property)
		return // the causes speak of the name as if it were the data
	case *kind.OneOf:
		alternative("must match exactly one schema in oneOf")
	case *kind.AnyOf:
		alternative("must match a schema in anyOf")
	case *kind.Not:
		add("must NOT be valid")
	case *kind.FalseSchema:
		add("boolean schema is false")
	default: // groups and references: only their causes count
		if len(e.Causes) == 0 {
			add("is not valid")
		}
	}
	for _, cause := range e.Causes {
		collect(cause, out)
	}
}

func decimal(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// ErrorText is the message of an InputValidationError for the schema id.
func ErrorText(id string, problems []string) string {
	return "\nSchema Validation Failed!\nRejecting Schema: " + id + "\nErrors:\n  * " + strings.Join(problems, "\n  * ")
}

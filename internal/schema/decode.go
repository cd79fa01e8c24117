package schema

// Schema checks payloads. It is safe for concurrent use.
type Schema struct {
	id      string
	rule    *rule
	library func() (validator, error) // compiled when first needed
}

// ID returns the schema's $id, "/schemas/queue/v1/task.json#".
func (sc *Schema) ID() string { return sc.id }

// Accept reads a JSON text, fills in defaults and checks it.
//
// doc is the text with the defaults written in, or body itself when there was
// nothing to change; otherwise numbers, strings and the order of members are
// as they were, and of members with the same name only the last is left.
//
// problems are all violations of the schema, in Ajv's words, one line each
// ("data/created must be string"); doc is then as far as it got. Beyond the
// schema, NUL characters and numbers too large for a double are problems. Of a
// large body (more than 1 MiB, or 10,000 commas) they are one violation and a
// line that says that there may be more, and doc is body.
//
// err says that body is not JSON, or nested deeper than [MaxDepth].
func (sc *Schema) Accept(body []byte) (doc []byte, problems []string, err error) {
	if doc, ok := sc.quick(body); ok {
		return doc, nil, nil
	}
	if large(body) {
		problem, err := sc.first(body)
		if err != nil {
			return nil, nil, err
		}
		if problem != "" {
			return body, []string{problem, moreProblems}, nil
		}
	}
	doc, _, problems, err = sc.Decode(body)
	return doc, problems, err
}

// Decode is [Schema.Accept], and also returns the value as encoding/json would
// (map[string]any, []any, string, json.Number, bool, nil). It is slower.
func (sc *Schema) Decode(body []byte) (doc []byte, value any, problems []string, err error) {
	n, r, err := parse(body)
	if err != nil {
		return nil, nil, nil, err
	}
	doc = body
	if sc.rule.defaults(n) || r.duplicate {
		doc = n.appendJSON(make([]byte, 0, len(body)+256))
	}
	value = n.value()
	if r.extreme {
		return doc, value, r.problems, nil
	}
	lib, err := sc.library()
	if err != nil {
		return nil, nil, nil, err
	}
	return doc, value, append(r.problems, lib.problems(value)...), nil
}

// Validate checks a value as [Schema.Decode] returns it, and reports all
// problems. It is meant for checking answers in tests.
func (sc *Schema) Validate(value any) []string {
	lib, err := sc.library()
	if err != nil {
		return []string{err.Error()}
	}
	return lib.problems(value)
}

package api

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"taskcluster/internal/scopes"
	"taskcluster/internal/tcerr"
)

// Bounds of what a refusal says about missing scopes.
const (
	maxHintSets   = 5
	maxHintScopes = 10
)

// hint is what a refusal says after its published text when there are several
// ways to get what is missing: which they are, and where to ask for more. With
// one way the published text says it all, and stands alone.
func (c *Call) hint(expr scopes.Expr, have scopes.Set) string {
	sets, more := expr.Alternatives(have, maxHintSets)
	if len(sets) < 2 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n\nWhat is missing would be given by all scopes of any one of these lines:\n")
	for _, set := range sets {
		b.WriteString("\n* `" + strings.Join(set[:min(len(set), maxHintScopes)], "`, `") + "`")
		if n := len(set) - maxHintScopes; n > 0 {
			fmt.Fprintf(&b, " and %d more", n)
		}
	}
	if more {
		b.WriteString("\n* … or others")
	}
	fmt.Fprintf(&b, "\n\nThe method explainScopes of the auth service tells which roles grant them, for service %q and method %q.", c.method.service.Name, c.method.Name)
	return b.String()
}

// Explain renders the scope expression of a method of any service of this
// server, for params as JSON gives them: those of the URL and the fields of the
// body that the expression is made of. Lists that are not given are empty, and
// conditions false. public tells that no scopes are needed. The error is an
// answer to the caller.
func (c *Call) Explain(serviceName, methodName string, params map[string]any) (expr scopes.Expr, public bool, err error) {
	m, err := c.server.find(serviceName, methodName)
	if err != nil {
		return expr, false, err
	}
	if m.ScopeParams != nil {
		params = maps.Clone(params)
		if params == nil {
			params = map[string]any{}
		}
		m.ScopeParams(params)
	}
	bad := func(format string, args ...any) error { return tcerr.New(tcerr.InputError, format, args...) }
	values := map[string]any{}
	var names []string
	for _, p := range m.Scopes.Params() {
		names = append(names, "`"+p.Name+"`")
		v, given := params[p.Name]
		ok := true
		switch p.Kind {
		case scopes.String:
			if !given {
				return expr, false, bad("%s.%s takes scopes that have the parameter `%s` in them: give it in `params`", serviceName, methodName, p.Name)
			}
			values[p.Name], ok = textOf(v)
		case scopes.Array:
			values[p.Name], ok = listOf(v)
		case scopes.Boolean:
			yes, isBool := v.(bool)
			values[p.Name], ok = yes, isBool || !given
		}
		if !ok {
			return expr, false, bad("`params.%s` must be %s", p.Name, map[scopes.Kind]string{
				scopes.String: "a string", scopes.Array: "a list of strings", scopes.Boolean: "true or false"}[p.Kind])
		}
		if pattern := m.Params[p.Name]; pattern != nil && !pattern.Match(fmt.Sprint(values[p.Name])) {
			return expr, false, bad("`params.%s` given as %q must match regular expression: '/%s/'", p.Name, values[p.Name], pattern.source)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if _, used := values[name]; !used && m.ScopeParams == nil && !contains(m.route.names, name) {
			return expr, false, bad("`params.%s` is not among the parameters that the scopes of %s.%s are made of: %s", name, serviceName, methodName, strings.Join(names, ", "))
		}
	}
	expr, public, err = m.Scopes.Render(values)
	return expr, public, err
}

func (s *Server) find(serviceName, methodName string) (*method, error) {
	var known []string
	for _, svc := range s.services {
		known = append(known, svc.Name)
		if svc.Name != serviceName {
			continue
		}
		for _, m := range svc.methods {
			if m.Name == methodName {
				return m, nil
			}
		}
		return nil, tcerr.New(tcerr.InputError, "The service %s has no method %q; /references/%s/%s/api.json lists those that it has.", svc.Name, methodName, svc.Name, svc.Version)
	}
	return nil, tcerr.New(tcerr.InputError, "There is no service %q here; there are %s.", serviceName, strings.Join(known, ", "))
}

func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case float64: // a runId
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

func listOf(v any) ([]string, bool) {
	switch v := v.(type) {
	case nil:
		return []string{}, true
	case []string:
		return v, true
	case []any:
		list := make([]string, len(v))
		for i := range v {
			s, ok := v[i].(string)
			if !ok {
				return nil, false
			}
			list[i] = s
		}
		return list, true
	}
	return nil, false
}

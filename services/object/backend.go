package object

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"taskcluster/internal/tcerr"
)

// Rule says which objects belong to a backend: those whose name and project
// both match.
type Rule struct {
	BackendID string
	Name      Match
	ProjectID Match
}

// Match is a condition on a text. The zero Match holds for all.
type Match struct {
	is     *string
	regexp *regexp.Regexp
}

func (m Match) matches(s string) bool {
	return (m.is == nil || *m.is == s) && (m.regexp == nil || m.regexp.MatchString(s))
}

// ParseMap reads the setting that chooses backends, a JSON array such as
//
//	[{"backendId": "a", "when": {"name": {"regexp": "^t/"}, "projectId": "x"}},
//	 {"backendId": "b", "when": "all"}]
//
// A condition is a string, which means equality, or {"is": …} or {"regexp": …};
// the expression may match anywhere in the text.
func ParseMap(text []byte) ([]Rule, error) {
	var entries []struct {
		BackendID string          `json:"backendId"`
		When      json.RawMessage `json:"when"`
	}
	switch trimmed := strings.TrimSpace(string(text)); {
	case trimmed == "{}":
		return nil, nil
	case strings.HasPrefix(trimmed, "{"):
		return nil, errors.New("backendMap must be an array, not an object")
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("backendMap: %w", err)
	}
	var rules []Rule
	for i, e := range entries {
		if e.BackendID == "" || e.When == nil {
			return nil, fmt.Errorf("backendMap[%d] is missing backendId or when", i)
		}
		rule := Rule{BackendID: e.BackendID}
		if string(e.When) != `"all"` {
			var conditions map[string]json.RawMessage
			if err := json.Unmarshal(e.When, &conditions); err != nil {
				return nil, fmt.Errorf(`backendMap[%d]: when is neither "all" nor an object: %s`, i, e.When)
			}
			for parameter, pattern := range conditions {
				m, ok := parseMatch(pattern)
				switch {
				case !ok:
					return nil, fmt.Errorf("backendMap[%d] has invalid pattern %s", i, pattern)
				case parameter == "name":
					rule.Name = m
				case parameter == "projectId":
					rule.ProjectID = m
				default:
					return nil, fmt.Errorf("backendMap[%d] has invalid match parameter %s", i, parameter)
				}
			}
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseMatch(text json.RawMessage) (Match, bool) {
	var is string
	if json.Unmarshal(text, &is) == nil {
		return Match{is: &is}, true
	}
	var pattern map[string]string
	if json.Unmarshal(text, &pattern) != nil || len(pattern) != 1 {
		return Match{}, false
	}
	if is, ok := pattern["is"]; ok {
		return Match{is: &is}, true
	}
	expression, ok := pattern["regexp"]
	re, err := regexp.Compile(expression)
	return Match{regexp: re}, ok && err == nil
}

// CDN serves objects from elsewhere: downloads of names that match are
// redirected to BaseURL with the name behind it.
type CDN struct {
	Name    *regexp.Regexp // may match anywhere in the name
	BaseURL string
}

// ParseMiddleware reads the setting of what answers downloads in place of the
// backends, a JSON array such as
//
//	[{"middlewareType": "cdn", "regexp": "^public/", "baseUrl": "https://cdn.example.com/"}]
func ParseMiddleware(text []byte) ([]CDN, error) {
	var entries []struct {
		Type    string `json:"middlewareType"`
		Regexp  string `json:"regexp"`
		BaseURL string `json:"baseUrl"`
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("middleware: %w", err)
	}
	var list []CDN
	for i, e := range entries {
		if e.Type != "cdn" {
			return nil, fmt.Errorf("middleware[%d]: there is no middlewareType %q; there is cdn", i, e.Type)
		}
		if e.Regexp == "" || e.BaseURL == "" {
			return nil, fmt.Errorf("middleware[%d] is missing regexp or baseUrl", i)
		}
		re, err := regexp.Compile(e.Regexp)
		if err != nil {
			return nil, fmt.Errorf("middleware[%d]: %w", i, err)
		}
		list = append(list, CDN{re, e.BaseURL})
	}
	return list, nil
}

// choose gives the id of the backend for a new object.
func (s *Service) choose(name, projectID string) (string, error) {
	for _, r := range s.rules {
		if r.Name.matches(name) && r.ProjectID.matches(projectID) {
			return r.BackendID, nil
		}
	}
	return "", tcerr.New(tcerr.NoMatchingBackend, "No backend matched the given name and projectId")
}

// backend gives the backend of an object.
func (s *Service) backend(o *object) (Backend, error) {
	b, ok := s.backends[o.backendID]
	if !ok {
		return b, tcerr.New(tcerr.NoMatchingBackend, "The data of object %q is in the backend %q, which this deployment does not have any more", o.name, o.backendID)
	}
	return b, nil
}

// key is where a backend keeps the data of an object.
func (b Backend) key(o *object) string { return b.Prefix + o.name }

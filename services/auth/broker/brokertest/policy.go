package brokertest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Policy is an AWS session policy, of the kind that says for S3 what is
// allowed.
type Policy struct {
	Version   string
	Statement []PolicyStatement

	Expires time.Time `json:"-"`
}

// PolicyStatement is one statement of a policy.
type PolicyStatement struct {
	Sid, Effect      string
	Action, Resource []string
	Condition        map[string]map[string][]string
}

var (
	policyARN    = regexp.MustCompile(`^arn:aws(-cn|-us-gov)?:s3:::.+$`)
	policyAction = regexp.MustCompile(`^s3:[A-Za-z]+$`)
	policyCode   = regexp.MustCompile(`\$\{(\*|\?|\$)\}`)
)

// ParsePolicy reads a policy, and refuses what AWS would.
func ParsePolicy(text string) (*Policy, error) {
	p := &Policy{}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return nil, err
	}
	if p.Version != "2012-10-17" || len(p.Statement) == 0 {
		return nil, fmt.Errorf("version %q with %d statements", p.Version, len(p.Statement))
	}
	for _, s := range p.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" || len(s.Action) == 0 || len(s.Resource) == 0 {
			return nil, fmt.Errorf("statement %s", s.Sid)
		}
		for _, a := range s.Action {
			if !policyAction.MatchString(a) {
				return nil, fmt.Errorf("action %q", a)
			}
		}
		for _, arn := range s.Resource {
			if !policyARN.MatchString(arn) || strings.Contains(policyCode.ReplaceAllString(arn, ""), "${") {
				return nil, fmt.Errorf("resource %q", arn)
			}
		}
		for operator := range s.Condition {
			if operator != "StringLike" {
				return nil, fmt.Errorf("condition %q", operator)
			}
		}
	}
	return p, nil
}

// Allows evaluates the policy as AWS does: whether action may be done with a
// resource, given the values that conditions look at.
func (p *Policy) Allows(action, arn string, values map[string]string) bool {
	allowed := false
	for _, s := range p.Statement {
		if !anyLike(s.Action, action) || !anyLike(s.Resource, arn) || !s.holds(values) {
			continue
		}
		if s.Effect == "Deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

func (s PolicyStatement) holds(values map[string]string) bool {
	for name, patterns := range s.Condition["StringLike"] {
		if value, ok := values[name]; !ok || !anyLike(patterns, value) {
			return false
		}
	}
	return true
}

func anyLike(patterns []string, text string) bool {
	for _, p := range patterns {
		if like(p, text) {
			return true
		}
	}
	return false
}

// like matches a pattern of a policy: * and ? stand for others, ${*}, ${?} and
// ${$} for themselves.
func like(pattern, text string) bool {
	var re strings.Builder
	for pattern != "" {
		switch {
		case len(pattern) >= 4 && policyCode.MatchString(pattern[:4]):
			re.WriteString(regexp.QuoteMeta(pattern[2:3]))
			pattern = pattern[4:]
			continue
		case pattern[0] == '*':
			re.WriteString(`.*`)
		case pattern[0] == '?':
			re.WriteString(`.`)
		default:
			re.WriteString(regexp.QuoteMeta(pattern[:1]))
		}
		pattern = pattern[1:]
	}
	return regexp.MustCompile(`(?s)^` + re.String() + `$`).MatchString(text)
}

package auth

import (
	"context"
	"encoding/json"
	"strings"

	"taskcluster/internal/api"
	"taskcluster/internal/scopes"
)

// Bounds of an explanation.
const (
	maxMissingSets = 10
	maxRolesNamed  = 50
	maxSatisfying  = 100
)

// explainScopes tells what a call would take and what the caller lacks. He could
// work that out from the references and currentScopes, so that the scope for it
// can be everybody's; which roles there are is told only to those who may list
// them.
func (s *Service) explainScopes(c *api.Call, in *ExplainScopesRequest) (any, error) {
	var params map[string]any
	if err := json.Unmarshal(in.Params, &params); err != nil {
		return nil, err // it passed the schema
	}
	expr, public, err := c.Explain(in.Service, in.Method, params)
	if err != nil {
		return nil, err
	}
	out := &explanation{Satisfied: true, SatisfiedBy: []string{}, Missing: []missingScopes{}}
	if public {
		return out, nil
	}
	out.Required = &expr
	have := c.Auth().Scopes
	if out.Satisfied = expr.SatisfiedBy(have); out.Satisfied {
		out.SatisfiedBy, out.More = satisfying(expr, have)
		return out, nil
	}
	sets, more := expr.Alternatives(have, maxMissingSets)
	out.More = more
	for _, set := range sets {
		out.Missing = append(out.Missing, missingScopes{Scopes: set})
	}
	if have.Has("auth:list-roles") {
		err = s.nameRoles(c.Context, out)
	}
	return out, err
}

// explanation is the answer; the schema has its prose.
type explanation struct {
	Required    *scopes.Expr    `json:"required,omitempty"`
	Satisfied   bool            `json:"satisfied"`
	SatisfiedBy []string        `json:"satisfiedBy"`
	Missing     []missingScopes `json:"missing"`
	More        bool            `json:"more"`
}

type missingScopes struct {
	Scopes []string  `json:"scopes"`
	Roles  *[]string `json:"roles,omitempty"`
}

// satisfying are the held scopes that cover what the expression needs.
func satisfying(expr scopes.Expr, have scopes.Set) (held []string, more bool) {
	used, _ := expr.Satisfying(have)
	held = []string{}
	for _, h := range have.Slice() {
		prefix, star := strings.CutSuffix(h, "*")
		for _, u := range used {
			if u != h && !(star && strings.HasPrefix(u, prefix)) {
				continue
			}
			if len(held) == maxSatisfying {
				return held, true
			}
			held = append(held, h)
			break
		}
	}
	return held, false
}

// nameRoles finds the roles that grant each missing set. Roles whose expansion
// is more than anybody can use grant nothing.
func (s *Service) nameRoles(ctx context.Context, out *explanation) error {
	set, err := s.currentRoles(ctx)
	if err != nil {
		return err
	}
	for i := range out.Missing {
		out.Missing[i].Roles = &[]string{}
	}
	for _, r := range set.roles {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		grants, err := set.resolver.Uncached([]string{assume + r.id})
		if err != nil {
			continue
		}
		for i := range out.Missing {
			m := &out.Missing[i]
			switch {
			case !grants.HasAll(m.Scopes):
			case len(*m.Roles) == maxRolesNamed:
				out.More = true
			default:
				*m.Roles = append(*m.Roles, r.id)
			}
		}
	}
	return nil
}

package auth

import "taskcluster/internal/api"

// expandScopes answers with the scopes and all that roles grant to their
// holder. What everybody may do is not added.
func (s *Service) expandScopes(c *api.Call, in *Scopeset) (any, error) {
	set, err := s.currentRoles(c.Context)
	if err != nil {
		return nil, err
	}
	expanded, err := set.resolver.Expand(in.Scopes)
	if err != nil {
		return nil, badRoles(err)
	}
	return Scopeset{Scopes: expanded.Slice()}, nil
}

// currentScopes answers with what the caller may do.
func (s *Service) currentScopes(c *api.Call) (any, error) {
	return Scopeset{Scopes: c.Auth().Scopes.Slice()}, nil
}

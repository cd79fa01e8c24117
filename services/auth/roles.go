package auth

import (
	"slices"
	"sort"
	"strconv"

	"taskcluster/internal/api"
	"taskcluster/internal/scopes"
	"taskcluster/internal/tcerr"
)

const roleIDPattern = `^[\x20-\x7e]+$`

// validRoleID is roleIDPattern.
func validRoleID(s string) bool { return s != "" && scopes.Valid(s) }

// reply is the published form of a role of the set.
func (r *roleSet) reply(x *role) GetRoleResponse {
	return GetRoleResponse{
		RoleID:         x.id,
		Scopes:         nonNil(x.scopes),
		Description:    x.description,
		Created:        x.created,
		LastModified:   x.lastModified,
		ExpandedScopes: r.resolver.Uncached([]string{"assume:" + x.id}).Slice(),
	}
}

func (r *roleSet) replies(roles []*role) []GetRoleResponse {
	all := make([]GetRoleResponse, len(roles))
	for i, x := range roles {
		all[i] = r.reply(x)
	}
	return all
}

// listRoles answers with all roles.
func (s *Service) listRoles(c *api.Call) (any, error) {
	set, err := s.currentRoles(c.Context)
	if err != nil {
		return nil, err
	}
	return set.replies(set.roles), nil
}

// listRoles2 answers with a page of roles.
func (s *Service) listRoles2(c *api.Call) (any, error) {
	set, page, next, err := s.rolePage(c)
	if err != nil {
		return nil, err
	}
	return ListRoles2Response{Roles: set.replies(page), ContinuationToken: next}, nil
}

// listRoleIds answers with a page of the ids of roles.
func (s *Service) listRoleIds(c *api.Call) (any, error) {
	_, page, next, err := s.rolePage(c)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(page))
	for i, r := range page {
		ids[i] = r.id
	}
	return ListRoleIDsResponse{RoleIDs: ids, ContinuationToken: next}, nil
}

// rolePage is the page of roles that a call asks for. Without a limit that is
// all of them, whatever the token.
func (s *Service) rolePage(c *api.Call) (set *roleSet, page []*role, next string, err error) {
	const listing = "roles"
	token, _ := c.Query("continuationToken")
	after, ok, err := pageKey(listing, token)
	if err != nil {
		return nil, nil, "", err
	}
	if !ok {
		return nil, nil, "", errBadToken()
	}
	if set, err = s.currentRoles(c.Context); err != nil {
		return nil, nil, "", err
	}
	text, limited := c.Query("limit")
	if !limited {
		return set, set.roles, "", nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil { // too many digits
		limit = len(set.roles)
	}
	page = set.roles
	if after != "" {
		page = page[sort.Search(len(page), func(i int) bool { return page[i].id > after }):]
	}
	if limit > 0 && len(page) > limit {
		next = pageToken(listing, page[limit-1].id)
	}
	return set, page[:min(limit, len(page))], next, nil
}

func errNoRole() error { return tcerr.New(tcerr.ResourceNotFound, "Role not found") }

// getRole is the method "role".
func (s *Service) getRole(c *api.Call) (any, error) {
	set, err := s.currentRoles(c.Context)
	if err != nil {
		return nil, err
	}
	found := set.find(c.Param("roleId"))
	if found == nil {
		return nil, errNoRole()
	}
	return set.reply(found), nil
}

// createRole makes a role. An equal one that exists already is as good.
func (s *Service) createRole(c *api.Call, in *CreateRoleRequest) (any, error) {
	id := c.Param("roleId")
	if err := checkGrantable(in.Scopes); err != nil {
		return nil, err
	}
	if err := c.Authorize(map[string]any{"roleId": id, "scopes": in.Scopes}); err != nil {
		return nil, err
	}
	sorted := inOrder(in.Scopes)
	set, change, err := s.changeRoles(c.Context, c, func(now *roleSet) (roleChange, error) {
		old := now.find(id)
		if old == nil {
			t := s.clock.Now()
			r := &role{id: id, description: in.Description, scopes: sorted, created: t, lastModified: t}
			return roleChange{role: r, action: "created", exchange: roleCreated}, nil
		}
		if old.description != in.Description || !slices.Equal(inOrder(old.scopes), sorted) {
			return roleChange{}, tcerr.New(tcerr.RequestConflict, "Role with roleId '%s' already exists", id)
		}
		return roleChange{role: old, exchange: roleCreated}, nil
	})
	if err != nil {
		return nil, err
	}
	return set.reply(change.role), nil
}

// inOrder sorts scopes as they are published, and drops none.
func inOrder(list []string) []string {
	sorted := append([]string{}, list...)
	slices.SortFunc(sorted, scopes.Compare)
	return sorted
}

// updateRole changes a role. The caller must hold what he adds, but not what
// the role's holders have already, be it through other roles.
func (s *Service) updateRole(c *api.Call, in *CreateRoleRequest) (any, error) {
	id := c.Param("roleId")
	if err := checkGrantable(in.Scopes); err != nil {
		return nil, err
	}
	set, change, err := s.changeRoles(c.Context, c, func(now *roleSet) (roleChange, error) {
		old := now.find(id)
		if old == nil {
			return roleChange{}, errNoRole()
		}
		added := now.resolver.Expand(old.scopes).Missing(in.Scopes)
		if err := c.Authorize(map[string]any{"roleId": id, "scopesAdded": nonNil(added)}); err != nil {
			return roleChange{}, err
		}
		r := &role{id: id, description: in.Description, scopes: in.Scopes, created: old.created, lastModified: s.clock.Now()}
		return roleChange{role: r, action: "updated", exchange: roleUpdated}, nil
	})
	if err != nil {
		return nil, err
	}
	return set.reply(change.role), nil
}

// deleteRole deletes a role, and succeeds if there is none.
func (s *Service) deleteRole(c *api.Call) (any, error) {
	id := c.Param("roleId")
	_, _, err := s.changeRoles(c.Context, c, func(now *roleSet) (roleChange, error) {
		old := now.find(id)
		if old == nil {
			return roleChange{}, nil
		}
		return roleChange{role: old, action: "deleted", remove: true, exchange: roleDeleted}, nil
	})
	return nil, err
}

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
	own := []string{assume + x.id}
	set, err := r.resolver.Uncached(own)
	return GetRoleResponse{
		RoleID:         x.id,
		Scopes:         nonNil(x.scopes),
		Description:    x.description,
		Created:        x.created,
		LastModified:   x.lastModified,
		ExpandedScopes: shown(set, err, own),
	}
}

// replies is the published form of roles, or of the first of them if all of
// them are more than one answer holds.
func (r *roleSet) replies(roles []*role, most int) []GetRoleResponse {
	all := make([]GetRoleResponse, 0, len(roles))
	bytes := 0
	for _, x := range roles {
		reply := r.reply(x)
		if bytes += sizeOf(reply.ExpandedScopes); bytes > most && len(all) > 0 {
			break
		}
		all = append(all, reply)
	}
	return all
}

// maxListing is how many bytes of expanded scopes an answer with many roles or
// clients holds, the last of them apart. Answers of thousands of roles have a
// fifth of it.
const maxListing = 128 << 20

func sizeOf(list []string) int {
	n := 0
	for _, s := range list {
		n += len(s)
	}
	return n
}

func errTooMuch() error {
	return tcerr.New(tcerr.InputError, "The expanded scopes of all roles are more than one answer holds; ask `listRoles2` for them with a limit")
}

// listRoles answers with all roles.
func (s *Service) listRoles(c *api.Call) (any, error) {
	set, err := s.currentRoles(c.Context)
	if err != nil {
		return nil, err
	}
	all := set.replies(set.roles, s.maxListing)
	if len(all) < len(set.roles) {
		return nil, errTooMuch()
	}
	return all, nil
}

// listRoles2 answers with a page of roles.
func (s *Service) listRoles2(c *api.Call) (any, error) {
	set, page, next, err := s.rolePage(c)
	if err != nil {
		return nil, err
	}
	all := set.replies(page, s.maxListing)
	if len(all) < len(page) {
		if _, limited := c.Query("limit"); !limited {
			return nil, errTooMuch()
		}
		next = pageToken(rolesListing, page[len(all)-1].id)
	}
	return ListRoles2Response{Roles: all, ContinuationToken: next}, nil
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

// rolesListing is what the tokens of listRoles2 and listRoleIds belong to.
const rolesListing = "roles"

// rolePage is the page of roles that a call asks for. Without a limit that is
// all of them, whatever the token.
func (s *Service) rolePage(c *api.Call) (set *roleSet, page []*role, next string, err error) {
	token, _ := c.Query("continuationToken")
	after, ok, err := pageKey(rolesListing, token)
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
		next = pageToken(rolesListing, page[limit-1].id)
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
		held, err := now.resolver.Expand(old.scopes)
		if err != nil { // then nobody has more by the role than its scopes
			held = scopes.NewSet(old.scopes...)
		}
		added := held.Missing(in.Scopes)
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

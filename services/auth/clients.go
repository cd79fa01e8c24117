package auth

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

const (
	clientIDPattern = `^[A-Za-z0-9!@/:.+|_-]+$`
	staticPrefix    = "static/"
	// repeatable is for how long after its first call createClient may be
	// repeated and gets the token again.
	repeatable = 15 * time.Minute
)

// validClientID is clientIDPattern.
func validClientID(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!@/:.+|_-", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// client is a client as it is stored. It is not changed after it was read.
type client struct {
	id, description                                           string
	token                                                     secret.Text
	expires, created, lastModified, lastDateUsed, lastRotated clock.Time
	disabled, deleteOnExpiration                              bool
	scopes                                                    []string // as given

	// What Authenticate remembers with it.
	plain   atomic.Pointer[grant] // of its own token, under the latest roles
	lastUse atomic.Int64          // clock.Time up to which lastDateUsed is brought
}

// grant is what the client may do with its own token.
func (c *client) grant(roles *roleSet) (*grant, error) {
	g := c.plain.Load()
	if g == nil || g.roles != roles {
		g = newGrant(c, roles)
		if g.small() {
			c.plain.Store(g)
		}
	}
	return g, g.refused
}

// newToken makes an access token: two slugids, 44 characters with 244 random bits.
func newToken() secret.Text { return secret.Text(slugid.New().String() + slugid.New().String()) }

// cachedClient finds a client in memory, as long as that is current, or else in
// the database; nil if there is none.
func (s *Service) cachedClient(ctx context.Context, id string) (*client, error) {
	if s.store.Current() {
		if c, ok := s.clients.get(id); ok {
			return c, nil
		}
	}
	if !validClientID(id) {
		return nil, nil
	}
	epoch := s.clients.now()
	var c *client
	err := s.store.ReadOne(ctx, func(tx *store.Tx) (err error) {
		c, err = s.findClient(tx, stmt.getClient, id)
		return err
	})
	if err != nil || c == nil {
		return nil, err
	}
	c.lastUse.Store(int64(c.lastDateUsed))
	s.clients.put(c.id, c, epoch)
	return c, nil
}

// reply is the published form of a client.
func (s *Service) reply(c *client) GetClientResponse {
	expanded, err := s.roles.Load().resolver.Expand(c.scopes)
	return GetClientResponse{
		ClientID:           c.id,
		Expires:            c.expires,
		Description:        c.description,
		Created:            c.created,
		LastModified:       c.lastModified,
		LastDateUsed:       c.lastDateUsed,
		LastRotated:        c.lastRotated,
		DeleteOnExpiration: c.deleteOnExpiration,
		Scopes:             nonNil(c.scopes),
		ExpandedScopes:     shown(expanded, err, c.scopes),
		Disabled:           c.disabled,
	}
}

// replyWithToken is the published form of a client with its access token.
func (s *Service) replyWithToken(c *client) CreateClientResponse {
	r := s.reply(c)
	return CreateClientResponse{
		ClientID:           r.ClientID,
		AccessToken:        string(c.token),
		Expires:            r.Expires,
		Description:        r.Description,
		Created:            r.Created,
		LastModified:       r.LastModified,
		LastDateUsed:       r.LastDateUsed,
		LastRotated:        r.LastRotated,
		DeleteOnExpiration: r.DeleteOnExpiration,
		Scopes:             r.Scopes,
		ExpandedScopes:     r.ExpandedScopes,
		Disabled:           r.Disabled,
	}
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func errNoClient() error { return tcerr.New(tcerr.ResourceNotFound, "Client not found") }

// checkNotStatic refuses to touch what configuration made.
func checkNotStatic(id string) error {
	if !strings.HasPrefix(id, staticPrefix) {
		return nil
	}
	return tcerr.New(tcerr.InputError, "clientId %q starts with \"static/\" which is reserved for statically configured clients. Contact your administrator to change static clients.", id)
}

// checkGrantable refuses scopes that nobody may be given.
func checkGrantable(scopes []string) error {
	for _, scope := range scopes {
		if strings.HasSuffix(scope, "**") {
			return tcerr.New(tcerr.InputError, "scopes must not end with `**`")
		}
	}
	return nil
}

// checkExpandable refuses scopes that expand to so much that nobody can use
// them.
func (s *Service) checkExpandable(given []string) error {
	_, err := s.roles.Load().resolver.Expand(given)
	return badRoles(err)
}

// listClients lists clients in the order of their ids.
func (s *Service) listClients(c *api.Call) (any, error) {
	const listing = "clients"
	limit, token := c.Page()
	after, _, err := pageKey(listing, token)
	if err != nil {
		return nil, err
	}
	reply := ListClientsResponse{Clients: []GetClientResponse{}}
	if limit == 0 {
		return reply, nil
	}
	prefix, _ := c.Query("prefix")
	var found []*client
	err = s.store.Read(c.Context, func(tx *store.Tx) error {
		found = found[:0]
		// No id has a character as high as DEL.
		rows := tx.Query(stmt.listClients, after, prefix, prefix+"\x7f", limit+1)
		defer rows.Close()
		for rows.Next() {
			c, err := s.scanClient(rows)
			if err != nil {
				return err
			}
			found = append(found, c)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	if len(found) > limit {
		found = found[:limit]
		reply.ContinuationToken = pageToken(listing, found[limit-1].id)
	}
	bytes := 0
	for i, c := range found {
		one := s.reply(c)
		if bytes += sizeOf(one.ExpandedScopes); bytes > s.maxListing && i > 0 {
			reply.ContinuationToken = pageToken(listing, found[i-1].id)
			break
		}
		reply.Clients = append(reply.Clients, one)
	}
	return reply, nil
}

// readClient reads a client as it is stored now.
func (s *Service) readClient(ctx context.Context, id string) (*client, error) {
	var found *client
	err := s.store.Read(ctx, func(tx *store.Tx) (err error) {
		found, err = s.findClient(tx, stmt.getClient, id)
		return err
	})
	if err == nil && found == nil {
		err = errNoClient()
	}
	return found, err
}

// getClient is the method "client".
func (s *Service) getClient(c *api.Call) (any, error) {
	found, err := s.readClient(c.Context, c.Param("clientId"))
	if err != nil {
		return nil, err
	}
	return s.reply(found), nil
}

// createClient makes a client. Repeated within some time it answers with the
// same token, as a caller whose connection broke needs it.
func (s *Service) createClient(c *api.Call, in *CreateClientRequest) (any, error) {
	id := c.Param("clientId")
	if err := checkNotStatic(id); err != nil {
		return nil, err
	}
	if err := checkGrantable(in.Scopes); err != nil {
		return nil, err
	}
	if err := c.Authorize(map[string]any{"clientId": id, "scopes": nonNil(in.Scopes)}); err != nil {
		return nil, err
	}
	if err := s.checkExpandable(in.Scopes); err != nil {
		return nil, err
	}
	token := newToken()
	var result *client
	err := s.store.Write(c.Context, func(tx *store.Tx) error {
		now := tx.Now()
		old, err := s.findClient(tx, stmt.getClient, id)
		if err != nil {
			return err
		}
		if old == nil {
			result = &client{
				id: id, description: in.Description, token: token, expires: in.Expires, scopes: nonNil(in.Scopes),
				deleteOnExpiration: in.DeleteOnExpiration,
				created:            now, lastModified: now, lastDateUsed: now, lastRotated: now,
			}
			ok, err := s.insertClient(tx, result)
			if err != nil {
				return err
			}
			if ok {
				if err := s.audit(tx, c, entityClient, id, "created"); err != nil {
					return err
				}
				return s.clientChanged(tx, clientCreated, id)
			}
			// Another process was faster.
			if old, err = s.findClient(tx, stmt.getClient, id); err != nil {
				return err
			}
		}
		if old == nil || !sameRequest(old, in) || old.disabled || now.Sub(old.created) >= repeatable {
			return tcerr.New(tcerr.RequestConflict, "Client already exists")
		}
		result = old
		return s.clientChanged(tx, clientCreated, id)
	})
	if err != nil {
		return nil, err
	}
	return s.replyWithToken(result), nil
}

// sameRequest tells whether the client is as the request would make it.
func sameRequest(c *client, in *CreateClientRequest) bool {
	return slices.Equal(c.scopes, in.Scopes) && c.expires == in.Expires && c.description == in.Description
}

// updateClient changes a client. Scopes that are not given stay as they are.
func (s *Service) updateClient(c *api.Call, in *CreateClientRequest) (any, error) {
	id := c.Param("clientId")
	if err := checkNotStatic(id); err != nil {
		return nil, err
	}
	if err := checkGrantable(in.Scopes); err != nil {
		return nil, err
	}
	allowed := func(old *client) error {
		added := slices.DeleteFunc(slices.Clone(nonNil(in.Scopes)), func(scope string) bool {
			return slices.Contains(old.scopes, scope)
		})
		return c.Authorize(map[string]any{"clientId": id, "scopesAdded": added})
	}
	// Most refusals come from here, without a place in the line of writers.
	seen, err := s.readClient(c.Context, id)
	if err != nil {
		return nil, err
	}
	if err := allowed(seen); err != nil {
		return nil, err
	}
	if err := s.checkExpandable(in.Scopes); err != nil {
		return nil, err
	}
	found, err := s.change(c, id, "updated", func(tx *store.Tx, found *client) error {
		if err := allowed(found); err != nil {
			return err
		}
		found.description, found.expires, found.deleteOnExpiration = in.Description, in.Expires, in.DeleteOnExpiration
		if in.Scopes != nil {
			found.scopes = in.Scopes
		}
		return storeUpdate(tx, found)
	})
	if err != nil {
		return nil, err
	}
	return s.reply(found), nil
}

// change runs one change of a client with what belongs to it, and returns the
// client as it is then. update gets the client, nil if there is none.
func (s *Service) change(c *api.Call, id, action string, update func(*store.Tx, *client) error) (*client, error) {
	var found *client
	err := s.store.Write(c.Context, func(tx *store.Tx) (err error) {
		if found, err = s.findClient(tx, stmt.lockClient, id); err != nil {
			return err
		}
		if found == nil {
			return errNoClient()
		}
		found.lastModified = tx.Now()
		if err := update(tx, found); err != nil {
			return err
		}
		if err := s.audit(tx, c, entityClient, id, action); err != nil {
			return err
		}
		return s.clientChanged(tx, clientUpdated, id)
	})
	return found, err
}

// resetAccessToken gives a client another token; the old one is void at once.
func (s *Service) resetAccessToken(c *api.Call) (any, error) {
	id := c.Param("clientId")
	if err := checkNotStatic(id); err != nil {
		return nil, err
	}
	token := newToken()
	found, err := s.change(c, id, "access token reset", func(tx *store.Tx, found *client) error {
		found.token, found.lastRotated = token, found.lastModified
		_, err := tx.Exec(stmt.setToken, s.seal(id, token), found.lastModified, found.lastRotated, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.replyWithToken(found), nil
}

func (s *Service) enableClient(c *api.Call) (any, error) {
	return s.setDisabled(c, false, "client enabled")
}

func (s *Service) disableClient(c *api.Call) (any, error) {
	return s.setDisabled(c, true, "client disabled")
}

func (s *Service) setDisabled(c *api.Call, disabled bool, action string) (any, error) {
	id := c.Param("clientId")
	if err := checkNotStatic(id); err != nil {
		return nil, err
	}
	found, err := s.change(c, id, action, func(tx *store.Tx, found *client) error {
		found.disabled = disabled
		_, err := tx.Exec(stmt.setDisabled, disabled, found.lastModified, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.reply(found), nil
}

// deleteClient deletes a client, and succeeds if there is none.
func (s *Service) deleteClient(c *api.Call) (any, error) {
	id := c.Param("clientId")
	if err := checkNotStatic(id); err != nil {
		return nil, err
	}
	return nil, s.store.Write(c.Context, func(tx *store.Tx) error {
		n, err := tx.Exec(stmt.deleteClient, id)
		if err != nil || n == 0 {
			return err
		}
		if err := s.audit(tx, c, entityClient, id, "deleted"); err != nil {
			return err
		}
		return s.clientChanged(tx, clientDeleted, id)
	})
}

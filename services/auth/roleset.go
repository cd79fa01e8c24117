package auth

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/scopes"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// role is a role as it is stored. It is not changed after it was read.
type role struct {
	id, description       string
	scopes                []string
	created, lastModified clock.Time
}

// roleSet is all roles at one version, compiled. It is immutable.
type roleSet struct {
	version   int64
	roles     []*role // by id
	resolver  *scopes.Resolver
	anonymous scopes.Set // what everybody may do
}

// newRoleSet compiles roles, which are ordered by id. The error is that of
// scopes.Compile. Roles that expand to too much are accepted, because they may
// be stored already: each use of them is refused then.
func newRoleSet(version int64, roles []*role) (*roleSet, error) {
	rules := make([]scopes.Role, len(roles))
	for i, r := range roles {
		rules[i] = scopes.Role{ID: r.id, Scopes: r.scopes}
	}
	resolver, err := scopes.Compile(rules)
	if err != nil {
		return nil, err
	}
	set := &roleSet{version: version, roles: roles, resolver: resolver}
	if set.anonymous, err = set.expand(nil); err != nil {
		set.anonymous = scopes.NewSet(anonymous)
	}
	return set, nil
}

// anonymous is the scope that everybody has, with or without credentials.
const anonymous = assume + "anonymous"

// assume begins the scope that gives a role.
const assume = "assume:"

// expand is what somebody may do who was given these scopes: with the scope
// that everybody has, and all that roles grant. The error is a
// *scopes.ExpansionError.
func (r *roleSet) expand(given []string) (scopes.Set, error) {
	all := make([]string, 0, len(given)+1)
	return r.resolver.Expand(append(append(all, given...), anonymous))
}

// shown is what an answer shows as the expansion of scopes, without what
// everybody has. If that is too much it is the scopes themselves: nobody gets
// more by them, since requests of their holders are refused.
func shown(set scopes.Set, err error, given []string) []string {
	if err != nil {
		set = scopes.NewSet(given...)
	}
	return set.Slice()
}

// maxGrowth is how many scopes the parameters of one role may make. Those of
// real deployments make a few hundred.
const maxGrowth = 100_000

// check refuses what would follow from putting changed into the set now, if
// that gives next, and is more than anybody can use. What was stored before is
// no reason to refuse, as long as it does not get worse.
func (r *roleSet) check(next *roleSet, changed *role) error {
	id, n := next.resolver.Growth()
	if n > maxGrowth {
		if _, before := r.resolver.Growth(); n > before {
			return tcerr.New(tcerr.InputError, "With this change the parameters of the role '%s' could make about %d scopes for one holder, at most %d are allowed. "+
				"Each scope with '<..>' that leads to a role which has several such scopes itself multiplies them: let fewer lead to another role, or grant those scopes directly.",
				id, n, maxGrowth)
		}
	}
	for _, holder := range [][]string{{assume + changed.id}, {anonymous}} {
		if _, err := next.resolver.Uncached(holder); err != nil {
			return err
		}
	}
	return nil
}

func (r *roleSet) search(id string) (int, bool) {
	return slices.BinarySearchFunc(r.roles, id, func(r *role, id string) int { return cmp.Compare(r.id, id) })
}

// find is the role with that id, nil if there is none.
func (r *roleSet) find(id string) *role {
	if i, ok := r.search(id); ok {
		return r.roles[i]
	}
	return nil
}

// with is the next version of the set: with changed in it, or, to remove it,
// without.
func (r *roleSet) with(changed *role, remove bool) (*roleSet, error) {
	i, found := r.search(changed.id)
	next := slices.Clone(r.roles)
	switch {
	case remove && found:
		next = slices.Delete(next, i, i+1)
	case remove:
	case found:
		next[i] = changed
	default:
		next = slices.Insert(next, i, changed)
	}
	return newRoleSet(r.version+1, next)
}

// loadRoles makes sure that the roles in memory are those in the database.
func (s *Service) loadRoles(ctx context.Context) error {
	_, err := s.currentRoles(ctx)
	return err
}

// rolesInForce are the roles that requests are judged by: those in memory, as
// long as nothing else is known.
func (s *Service) rolesInForce(ctx context.Context) (*roleSet, error) {
	if s.store.Current() && s.rolesRead.Load() == s.rolesHeard.Load() {
		return s.roles.Load(), nil
	}
	return s.currentRoles(ctx)
}

// currentRoles are the roles as they are stored now. Mostly these are the ones
// in memory, which costs a look at their version.
func (s *Service) currentRoles(ctx context.Context) (*roleSet, error) {
	heard := s.rolesHeard.Load()
	set := s.roles.Load()
	stored, err := s.storedVersion(ctx)
	if err == nil && (set == nil || set.version != stored) {
		select {
		case s.rolesTurn <- struct{}{}:
			set, err = s.storedRoles(ctx, s.roles.Load())
			<-s.rolesTurn
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	for {
		read := s.rolesRead.Load()
		if read >= heard || s.rolesRead.CompareAndSwap(read, heard) {
			return set, nil
		}
	}
}

// storedVersion is that of the roles that are stored.
func (s *Service) storedVersion(ctx context.Context) (version int64, err error) {
	err = s.store.ReadOne(ctx, func(tx *store.Tx) error { return tx.Row(stmt.roleSetVersion).Scan(&version) })
	return version, err
}

// storedRoles are known if these are what is stored. If not, they are read and
// installed.
func (s *Service) storedRoles(ctx context.Context, known *roleSet) (*roleSet, error) {
	var version int64
	var roles []*role
	err := s.store.Read(ctx, func(tx *store.Tx) (err error) {
		if err := tx.Row(stmt.roleSetVersion).Scan(&version); err != nil {
			return err
		}
		if known == nil || known.version != version {
			roles, err = readRoles(tx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if known != nil && known.version == version {
		return known, nil
	}
	set, err := newRoleSet(version, roles)
	if err != nil {
		return nil, tcerr.Op("stored roles", err)
	}
	if _, err := set.expand(nil); err != nil {
		s.logger.Error("nobody but holders of * can use this deployment until roles are changed", "error", err)
	}
	s.installRoles(set)
	return set, nil
}

// installRoles puts a set in force, unless a later one is.
func (s *Service) installRoles(set *roleSet) {
	for {
		old := s.roles.Load()
		if old != nil && old.version >= set.version {
			return
		}
		if s.roles.CompareAndSwap(old, set) {
			return
		}
	}
}

// roleAttempts is how often a change of roles is tried while other processes
// change them too.
const roleAttempts = 5

// roleChange is what is to be done to one role.
type roleChange struct {
	role     *role  // as it shall be, or, to remove it, as it is
	action   string // for the history; "" if all is as it shall be already
	remove   bool
	exchange string // of the message; "" for none
	mark     string // set with the change, so that it is never done again
}

// changeRoles makes one change. plan looks at the roles as they are and says
// what to do; when another process changes them in the meantime, it is asked
// again. All that is costly, compiling the roles and with it the search for
// cycles, is done before the transaction; the transaction then only proves
// that the set is still the one that was looked at.
//
// c is the call that asks for the change, nil if the service itself does.
func (s *Service) changeRoles(ctx context.Context, c *api.Call, plan func(now *roleSet) (roleChange, error)) (*roleSet, roleChange, error) {
	s.roleWrites.Lock()
	defer s.roleWrites.Unlock()
	for range roleAttempts {
		now, err := s.currentRoles(ctx)
		if err != nil {
			return nil, roleChange{}, err
		}
		change, err := plan(now)
		if err != nil {
			return nil, roleChange{}, err
		}
		if change == (roleChange{}) {
			return now, change, nil
		}
		next := now
		if change.action != "" {
			if next, err = now.with(change.role, change.remove); err != nil {
				return nil, roleChange{}, badRoles(err)
			}
			if !change.remove {
				if err := now.check(next, change.role); err != nil {
					return nil, roleChange{}, badRoles(err)
				}
			}
		}
		var moved bool
		err = s.store.Write(ctx, func(tx *store.Tx) (err error) {
			moved, err = s.writeRole(tx, c, now.version, next, change)
			return err
		})
		if err != nil || !moved {
			return next, change, err
		}
	}
	return nil, roleChange{}, tcerr.New(tcerr.InternalServerError, "Could not modify roles; too many conflicts")
}

// writeRole stores a change that leads from one version to next. moved tells
// that the roles are at another version, and that nothing was done.
func (s *Service) writeRole(tx *store.Tx, c *api.Call, version int64, next *roleSet, change roleChange) (moved bool, err error) {
	if change.action != "" {
		n, err := tx.Exec(stmt.bumpRoleSet, version)
		if err != nil || n == 0 {
			return true, err
		}
		if change.remove {
			_, err = tx.Exec(stmt.deleteRole, change.role.id)
		} else {
			err = putRole(tx, change.role)
		}
		if err != nil {
			return false, err
		}
		if c != nil {
			err = s.audit(tx, c, entityRole, change.role.id, change.action)
		} else {
			err = writeAudit(tx, entityRole, change.role.id, ownClientID, change.action)
		}
		if err != nil {
			return false, err
		}
		tx.OnCommit(func() { s.installRoles(next) })
		tx.Signal(rolesTopic, strconv.FormatInt(next.version, 10))
	}
	if change.mark != "" {
		if _, err := tx.Exec(stmt.setMark, change.mark); err != nil {
			return false, err
		}
	}
	if change.exchange == "" {
		return false, nil
	}
	return false, s.publish(tx, change.exchange, RoleMessage{Version: 1, RoleID: change.role.id})
}

// badRoles turns what is wrong with a set of roles, or with scopes under it,
// into an answer.
func badRoles(err error) error {
	var cycle *scopes.CycleError
	var invalid *scopes.InvalidScopeError
	var large *scopes.ExpansionError
	if errors.As(err, &cycle) || errors.As(err, &invalid) || errors.As(err, &large) {
		return tcerr.New(tcerr.InputError, "%s", err)
	}
	return err
}

package pulse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"taskcluster/internal/secret"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
	"taskcluster/services/pulse/management"
)

const (
	// tag marks the users of this service on the broker.
	tag = "taskcluster-pulse"

	queuePrefix, exchangePrefix = "queue/", "exchange/"
)

// user is the name of one of a namespace's two users.
func (s *Service) user(namespace string, which int) string {
	return fmt.Sprintf("%s%s-%d", s.broker.UserPrefix, namespace, which)
}

// namespaceOf is the namespace that a user is of, and false if it is none of this
// service's.
func (s *Service) namespaceOf(user string) (string, bool) {
	name, ok := strings.CutPrefix(user, s.broker.UserPrefix)
	base, one := strings.CutSuffix(name, "-1")
	if !one {
		if base, ok = strings.CutSuffix(name, "-2"); !ok {
			return "", false
		}
	}
	return base, ok && s.valid(base)
}

// permissions are those of both users of a namespace, whose name has no character
// that means something in a regular expression.
func permissions(namespace string) management.Permissions {
	own := "^(queue/" + namespace + "/.*|exchange/" + namespace + "/.*)"
	return management.Permissions{Configure: own, Write: own, Read: "^(queue/" + namespace + "/.*|exchange/.*)"}
}

// bring has RabbitMQ know what is stored of a namespace: the active user and its
// password, and, where both users may be missing, the other one, as whom nobody
// can log in before it is the active one's turn. Every step may be repeated. A
// new namespace of which a user is somebody else's is given up.
func (s *Service) bring(ctx context.Context, n *namespace) error {
	m := s.broker.Management
	users := []int{n.active}
	if n.behind >= lacksBoth {
		users = []int{n.standby(), n.active}
	}
	for _, which := range users {
		_, err := s.own(ctx, s.user(n.name, which))
		if foreign(err) && n.behind == unmade {
			err = errors.Join(err, s.store.Write(ctx, func(tx *store.Tx) error {
				_, err := tx.Exec(stmt.giveUp, n.row, n.sealed, unmade)
				return err
			}))
		}
		if err != nil {
			return err
		}
	}
	for _, which := range users {
		name := s.user(n.name, which)
		var password secret.Text
		if which == n.active {
			password = n.password
		}
		if err := m.PutUser(ctx, name, string(password), tag); err != nil {
			return fmt.Errorf("the user %s could not be made: %w", name, err)
		}
		if err := m.PutPermissions(ctx, s.vhost, name, permissions(n.name)); err != nil {
			return fmt.Errorf("the permissions of the user %s could not be set: %w", name, err)
		}
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		done, err := tx.Exec(stmt.brought, tx.Now().Add(s.interval), n.row, n.sealed, n.behind)
		if err == nil && done == 0 {
			// It took so long that the password is another by now, which RabbitMQ
			// has to be told again.
			_, err = tx.Exec(stmt.overtaken, lacksActive, tx.Now(), n.row, n.sealed)
		}
		return err
	})
}

// own looks whether a user is there, and refuses one that is somebody else's: it
// lacks the tag, or may do something on another virtual host.
func (s *Service) own(ctx context.Context, name string) (exists bool, err error) {
	user, err := s.broker.Management.User(ctx, name)
	if errors.Is(err, management.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the user %s could not be looked at: %w", name, err)
	}
	vhosts, err := s.broker.Management.UserVHosts(ctx, name)
	if err != nil && !errors.Is(err, management.ErrNotFound) {
		return false, fmt.Errorf("the permissions of the user %s could not be looked at: %w", name, err)
	}
	if !user.Tags.Has(tag) || slices.ContainsFunc(vhosts, func(v string) bool { return v != s.vhost }) {
		return false, tcerr.New(tcerr.RequestConflict, "RabbitMQ has a user %s already that is not this service's: claim a namespace with another name", name)
	}
	return true, nil
}

// foreign tells whether an error is that a user is somebody else's.
func foreign(err error) bool { return tcerr.CodeOf(err) == tcerr.RequestConflict }

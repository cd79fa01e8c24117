package pulse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"taskcluster/internal/store"
	"taskcluster/services/pulse/management"
)

const (
	// monitorTime bounds one look at the broker, and monitorGap is the pause
	// behind it.
	monitorTime, monitorGap = 45 * time.Second, time.Minute
	// connectionTime is how old a connection may become.
	connectionTime = 72 * time.Hour
	// namespacesAtOnce is how many rows are read at a time.
	namespacesAtOnce = 1000
)

// seen is what the broker has of this service's, at the time of one look, and
// which namespaces there are. These are read last: whatever is on the broker was
// made after its namespace was stored.
type seen struct {
	connections management.List[management.Connection]
	queues      management.List[management.Queue]
	exchanges   management.List[management.Exchange]
	users       management.List[management.User]
	permissions map[string]management.Permissions // by user
	namespaces  map[string]*namespace
	failed      failures
}

// monitor looks at the broker once, and then sends the mails that wait.
func (s *Service) monitor(ctx context.Context) error {
	err := s.look(ctx)
	if err != nil && ctx.Err() == nil {
		s.failures.Add(1)
	}
	return errors.Join(err, s.deliver(ctx))
}

// look closes connections that are too old or of nobody, deletes queues that are
// too long, and what is left of namespaces that are gone, and sees to it that the
// users are there. A failure in one of these does not hold up the others, unless
// RabbitMQ fails again and again.
func (s *Service) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, monitorTime)
	defer cancel()
	on, err := s.see(ctx)
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context, *seen) error{s.judgeQueues, s.closeConnections, s.deleteQueues, s.deleteExchanges, s.compareUsers} {
		if err := part(ctx, on); err != nil {
			on.failed.add(err)
		}
		if on.failed.enough() {
			break
		}
	}
	return on.failed.err()
}

func (s *Service) see(ctx context.Context) (*seen, error) {
	m, prefix := s.broker.Management, s.broker.NamespacePrefix
	on := &seen{namespaces: map[string]*namespace{}}
	var err error
	if on.connections, err = m.Connections(ctx, s.vhost, s.broker.UserPrefix+prefix); err != nil {
		return nil, fmt.Errorf("the connections cannot be listed: %w", err)
	}
	if on.queues, err = m.Queues(ctx, s.vhost, queuePrefix+prefix); err != nil {
		return nil, fmt.Errorf("the queues cannot be listed: %w", err)
	}
	if on.exchanges, err = m.Exchanges(ctx, s.vhost, exchangePrefix+prefix); err != nil {
		return nil, fmt.Errorf("the exchanges cannot be listed: %w", err)
	}
	if on.users, err = m.Users(ctx, s.broker.UserPrefix+prefix); err != nil {
		return nil, fmt.Errorf("the users cannot be listed: %w", err)
	}
	permissions, err := m.AllPermissions(ctx, s.vhost, s.broker.UserPrefix+prefix)
	if err != nil {
		return nil, fmt.Errorf("the permissions cannot be listed: %w", err)
	}
	on.permissions = make(map[string]management.Permissions, len(permissions.Items))
	for _, p := range permissions.Items {
		on.permissions[p.User] = p.Permissions
	}
	on.users.Cut = on.users.Cut || permissions.Cut
	if on.connections.Cut || on.queues.Cut || on.exchanges.Cut || on.users.Cut {
		s.logger.Warn("RabbitMQ has more than the pulse service looks at", "limit", management.MaxItems)
	}
	for after, more := "", true; more; {
		var page []*namespace
		err := s.store.ReadOne(ctx, func(tx *store.Tx) (err error) {
			page, err = s.all(tx.Query(stmt.page, after, namespacesAtOnce))
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, n := range page {
			on.namespaces[n.name], after = n, n.name
		}
		more = len(page) == namespacesAtOnce
	}
	return on, nil
}

// within is the namespace in which a queue or an exchange is, by its name; "" if
// that is no name of this service's.
func (s *Service) within(name, prefix string) string {
	rest, ok := strings.CutPrefix(name, prefix)
	namespace, _, slash := strings.Cut(rest, "/")
	if !ok || !slash || !s.valid(namespace) {
		return ""
	}
	return namespace
}

// gone tells whether a namespace is neither among those that were read nor has
// been claimed since.
func (s *Service) gone(ctx context.Context, on *seen, name string) (bool, error) {
	if on.namespaces[name] != nil {
		return false, nil
	}
	var n *namespace
	err := s.store.ReadOne(ctx, func(tx *store.Tx) (err error) {
		n, err = s.find(tx, name)
		return err
	})
	return n == nil, err
}

// end does away with something on the broker, for which it is good if it is not
// there any more.
func (s *Service) end(on *seen, kind, name, why string, end func() error) {
	if on.failed.enough() {
		return
	}
	err := end()
	switch {
	case err == nil:
		s.logger.Info("the pulse service has done away with something on RabbitMQ", "kind", kind, "name", name, "reason", why)
	case !errors.Is(err, management.ErrNotFound):
		on.failed.add(fmt.Errorf("the %s %.100q cannot be done away with (%s): %w", kind, name, why, err))
	}
}

func (s *Service) closeConnections(ctx context.Context, on *seen) error {
	eldest := s.clock.Now().Add(-connectionTime).Millis()
	for _, c := range on.connections.Items {
		namespace, ok := s.namespaceOf(c.User)
		if !ok {
			continue
		}
		gone, err := s.gone(ctx, on, namespace)
		if err != nil {
			return err
		}
		why := ""
		if gone {
			why = "Namespace expired."
		}
		if c.ConnectedAt > 0 && c.ConnectedAt < eldest {
			why = "Connection too long lived."
		}
		if why == "" {
			continue
		}
		s.end(on, "connection", c.Name, why, func() error { return s.broker.Management.CloseConnection(ctx, c.Name, why) })
	}
	return nil
}

// deleteQueues deletes the queues of namespaces that are gone.
func (s *Service) deleteQueues(ctx context.Context, on *seen) error {
	for _, q := range on.queues.Items {
		if err := s.deleteOrphan(ctx, on, "queue", q.Name, queuePrefix, s.broker.Management.DeleteQueue); err != nil {
			return err
		}
	}
	return nil
}

// deleteExchanges deletes the exchanges of namespaces that are gone.
func (s *Service) deleteExchanges(ctx context.Context, on *seen) error {
	for _, x := range on.exchanges.Items {
		if err := s.deleteOrphan(ctx, on, "exchange", x.Name, exchangePrefix, s.broker.Management.DeleteExchange); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) deleteOrphan(ctx context.Context, on *seen, kind, name, prefix string, remove func(ctx context.Context, vhost, name string) error) error {
	namespace := s.within(name, prefix)
	if namespace == "" {
		return nil
	}
	gone, err := s.gone(ctx, on, namespace)
	if err != nil || !gone {
		return err
	}
	s.end(on, kind, name, "its namespace is gone", func() error { return remove(ctx, s.vhost, name) })
	return nil
}

// compareUsers deletes users whose namespace is gone, which can be when a claim
// or a removal was cut off or the database is an older copy, and has those made
// again that RabbitMQ has lost, and their permissions.
func (s *Service) compareUsers(ctx context.Context, on *seen) error {
	there := map[string]bool{}
	for _, u := range on.users.Items {
		if on.failed.enough() {
			return nil
		}
		there[u.Name] = true
		namespace, ok := s.namespaceOf(u.Name)
		if !ok || !u.Tags.Has(tag) {
			continue
		}
		gone, err := s.gone(ctx, on, namespace)
		if err != nil {
			return err
		}
		if n := on.namespaces[namespace]; n != nil && n.behind == lacksNone && !n.removing && !on.users.Cut && on.permissions[u.Name] != permissions(n.name) {
			if err := s.permit(ctx, n, u.Name); err != nil {
				on.failed.add(err)
			}
		}
		if !gone {
			continue
		}
		// Without permissions it may be another deployment's that is just being made.
		vhosts, err := s.broker.Management.UserVHosts(ctx, u.Name)
		switch {
		case err == nil && len(vhosts) == 1 && vhosts[0] == s.vhost:
			s.end(on, "user", u.Name, "its namespace is gone", func() error { return s.broker.Management.DeleteUser(ctx, u.Name) })
		case err != nil && !errors.Is(err, management.ErrNotFound):
			on.failed.add(err)
		}
	}
	if on.users.Cut {
		return nil
	}
	for _, n := range on.namespaces {
		lacks := lacksNone
		if !there[s.user(n.name, n.active)] {
			lacks = lacksActive
		}
		if !there[s.user(n.name, n.standby())] {
			lacks = lacksBoth
		}
		if lacks == lacksNone || n.behind != lacksNone || n.removing {
			continue
		}
		if err := s.lost(ctx, n, lacks); err != nil {
			return err
		}
	}
	return nil
}

// permit has a user have its permissions again, which RabbitMQ has lost or somebody
// has changed.
func (s *Service) permit(ctx context.Context, n *namespace, user string) error {
	exists, err := s.own(ctx, user)
	if err != nil || !exists {
		return err
	}
	s.logger.Warn("RabbitMQ has lost or changed the permissions of a user, which gets them again", "user", user)
	if err := s.broker.Management.PutPermissions(ctx, s.vhost, user, permissions(n.name)); err != nil {
		return fmt.Errorf("the permissions of the user %s could not be set: %w", user, err)
	}
	return nil
}

// lost notes that RabbitMQ lacks a user, if that is still so: the list may be
// older than the namespace.
func (s *Service) lost(ctx context.Context, n *namespace, lacks int) error {
	which := n.active
	if lacks == lacksBoth {
		which = n.standby()
	}
	name := s.user(n.name, which)
	if _, err := s.broker.Management.User(ctx, name); !errors.Is(err, management.ErrNotFound) {
		return err
	}
	s.logger.Warn("RabbitMQ has lost a user, which is made again", "user", name)
	return s.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(stmt.missing, lacks, tx.Now(), n.row, n.sealed)
		return err
	})
}

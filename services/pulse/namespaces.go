package pulse

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/mail"
	"taskcluster/internal/secret"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

const (
	// claimed is for how long a namespace is claimed by who does not say it.
	claimed = 4 * time.Hour
	// firstLook is when a new namespace is looked after that its claim did not
	// bring to the broker.
	firstLook = time.Minute
	// maxNamespace is the greatest length of a name.
	maxNamespace = 64
	// attempts is how often a claim looks whether others were faster.
	attempts = 5
)

var namespacePattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// configured refuses what needs a broker where there is none: an answer without
// namespaces would be taken for one of a broker that has none.
func (s *Service) configured() error {
	if s.broker == nil {
		return tcerr.New(tcerr.NotConfigured, "This deployment lends no users of RabbitMQ: the setting %s is not set", ManagementSetting)
	}
	return nil
}

// valid tells whether a namespace may have this name.
func (s *Service) valid(name string) bool {
	return len(name) <= maxNamespace && namespacePattern.MatchString(name) &&
		strings.HasPrefix(name, s.broker.NamespacePrefix) && !slices.Contains(s.broker.Reserved, name)
}

// named is the namespace that a call names.
func (s *Service) named(c *api.Call) (string, error) {
	if err := s.configured(); err != nil {
		return "", err
	}
	name := c.Param("namespace")
	switch {
	case s.valid(name):
		return name, nil
	case slices.Contains(s.broker.Reserved, name):
		return "", tcerr.New(tcerr.InvalidNamespace, "The namespace %s is the deployment's own", name)
	}
	return "", tcerr.New(tcerr.InvalidNamespace, "A namespace has at most %d letters, digits, - and _, and begins with %s", maxNamespace, s.broker.NamespacePrefix)
}

func (s *Service) listNamespaces(c *api.Call) (any, error) {
	if err := s.configured(); err != nil {
		return nil, err
	}
	limit, token := c.Page()
	after, err := openToken(token)
	if err != nil {
		return nil, err
	}
	reply := ListNamespacesResponse{Namespaces: []NamespaceResponse{}}
	if limit == 0 {
		return reply, nil
	}
	err = s.store.ReadOne(c.Context, func(tx *store.Tx) error {
		reply.Namespaces = reply.Namespaces[:0]
		rows := tx.Query(stmt.list, after, limit+1)
		defer rows.Close()
		for rows.Next() {
			var n NamespaceResponse
			if err := rows.Scan(&n.Namespace, &n.Created, &n.Expires); err != nil {
				return err
			}
			reply.Namespaces = append(reply.Namespaces, n)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	if len(reply.Namespaces) > limit {
		reply.Namespaces = reply.Namespaces[:limit]
		reply.ContinuationToken = makeToken(reply.Namespaces[limit-1].Namespace)
	}
	return reply, nil
}

// A continuation token is the last name of a page, in base64.

func makeToken(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

func openToken(token string) (string, error) {
	name, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || token != "" && !namespacePattern.Match(name) {
		return "", tcerr.New(tcerr.InputError, "Invalid continuation token")
	}
	return string(name), nil
}

func (s *Service) namespace(c *api.Call) (any, error) {
	name, err := s.named(c)
	if err != nil {
		return nil, err
	}
	var n *namespace
	err = s.store.ReadOne(c.Context, func(tx *store.Tx) (err error) {
		n, err = s.find(tx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, tcerr.New(tcerr.ResourceNotFound, "No such namespace")
	}
	return NamespaceResponse{Namespace: n.name, Created: n.created, Expires: n.expires}, nil
}

func (s *Service) claimNamespace(c *api.Call, in *ClaimNamespaceRequest) (any, error) {
	name, err := s.named(c)
	if err != nil {
		return nil, err
	}
	expires, err := wanted(c, in)
	if err != nil {
		return nil, err
	}
	if expires <= c.Now() {
		return nil, tcerr.New(tcerr.InputError, "expires must lie in the future")
	}
	if in.Contact != "" {
		if err := mail.CheckAddress(in.Contact); err != nil {
			return nil, tcerr.New(tcerr.InputError, "The contact cannot be used: %s", err)
		}
		if s.mail == nil {
			return nil, tcerr.New(tcerr.NotConfigured, "This deployment sends no mails, so that a claim can have no contact: the setting %s is not set", MailSetting)
		}
	}
	if err := s.claim(c, name, expires, in.Contact); err != nil {
		return nil, err
	}
	n, err := s.ready(c.Context, name)
	if err != nil {
		return nil, err
	}
	return ClaimNamespaceResponse{
		Namespace: n.name, Created: n.created, Expires: n.expires,
		ConnectionString: s.connectionString(n), ReclaimAt: n.nextRotation.Add(s.interval / 2),
	}, nil
}

// wanted is until when a claim is to hold. A time of zero may have been given.
func wanted(c *api.Call, in *ClaimNamespaceRequest) (clock.Time, error) {
	var given struct{ Expires json.RawMessage }
	if in.Expires == 0 {
		if err := json.Unmarshal(c.Body(), &given); err != nil {
			return 0, err
		}
		if given.Expires == nil {
			return c.Now().Add(claimed), nil
		}
	}
	return in.Expires, nil
}

// claim stores that a namespace is wanted.
func (s *Service) claim(c *api.Call, name string, expires clock.Time, contact string) error {
	return s.store.Write(c.Context, func(tx *store.Tx) error {
		n, err := s.find(tx, name)
		switch {
		case err != nil:
			return err
		case n == nil:
			if err := s.room(tx, c.ClientID()); err != nil {
				return err
			}
			_, err = tx.Exec(stmt.insert, name, tx.Now(), expires, contact, s.seal(name, newPassword()), unmade, tx.Now().Add(firstLook), c.ClientID())
		case n.removing:
			return tcerr.New(tcerr.BrokerUnavailable, "The namespace %s has expired, and its users are just being removed. Call again in a minute", name)
		default:
			_, err = tx.Exec(stmt.renew, expires, contact, n.row)
		}
		c.Audit(tx)
		return err
	})
}

// room refuses a further namespace where there are too many. One client may have
// claimed at most twice as many as are free: alone it gets two thirds of them, two
// get two fifths each, and whoever comes new finds some.
func (s *Service) room(tx *store.Tx, clientID string) error {
	var all, own int
	if err := tx.Row(stmt.claims, clientID).Scan(&all, &own); err != nil {
		return err
	}
	free := s.limit - all
	switch {
	case free <= 0:
		return tcerr.New(tcerr.TooManyRequests, "This deployment lends %d namespaces, and all are claimed: try again when some have expired", s.limit)
	case own >= 2*free:
		return tcerr.New(tcerr.TooManyRequests, "%s has claimed %d of the %d namespaces that this deployment lends, and %d are left for everybody else: "+
			"use fewer, or let some expire", clientID, own, s.limit, free)
	}
	return nil
}

// newPassword has 122 random bits.
func newPassword() secret.Text { return secret.Text(slugid.New().String()) }

// ready is a namespace that RabbitMQ knows as it is stored.
func (s *Service) ready(ctx context.Context, name string) (*namespace, error) {
	for range attempts {
		var n *namespace
		err := s.store.ReadOne(ctx, func(tx *store.Tx) (err error) {
			n, err = s.find(tx, name)
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case n != nil && n.behind == lacksNone:
			return n, nil
		case n == nil || n.removing:
			return nil, s.unavailable(nil, name) // it has expired meanwhile
		}
		if err := s.bringOnce(ctx, n); err != nil {
			return nil, s.unavailable(err, name)
		}
	}
	return nil, s.unavailable(nil, name)
}

// bringOnce is bring for all who want the same at a time. It does not end with
// the first one's request.
func (s *Service) bringOnce(ctx context.Context, n *namespace) error {
	done := s.bringing.DoChan(n.name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return nil, s.bring(ctx, n)
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unavailable is what a caller is told when RabbitMQ could not be brought to
// what is stored. It is told of refusals that concern him; the rest is for the log.
func (s *Service) unavailable(cause error, name string) error {
	var refusal *tcerr.Error
	if errors.As(cause, &refusal) || errors.Is(cause, context.Canceled) {
		return cause
	}
	if cause != nil {
		s.logger.Error("RabbitMQ could not be brought to what a claim asks for; the next claim, or the service itself within a minute, tries again", "namespace", name, "error", cause.Error())
	}
	return tcerr.New(tcerr.BrokerUnavailable, "RabbitMQ could not be told of the namespace %s. It is kept for you; call again", name)
}

// connectionString is how a client connects.
func (s *Service) connectionString(n *namespace) string {
	u := url.URL{Scheme: s.broker.AMQP.Scheme, User: url.UserPassword(s.user(n.name, n.active), string(n.password)), Host: s.broker.AMQP.Host}
	return u.String() + "/" + url.PathEscape(s.vhost)
}

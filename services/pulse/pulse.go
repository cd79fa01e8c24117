// Package pulse is the service that lends users of a RabbitMQ broker: whoever
// may claim a namespace gets one that can use the queues and exchanges of that
// namespace alone, and whose password changes every hour. It also looks after
// the broker: over-long queues, and what is left of namespaces that are gone.
//
// What it promises:
//
//   - What is stored says what is to be, and RabbitMQ is brought to it. Whatever
//     is cut off in between is done again by the next claim or within a minute,
//     and no claim is answered with a password that RabbitMQ was not given.
//   - A password that was handed out works for an interval after the next one is
//     there, so that whoever claims again at reclaimAt is never without one.
//   - A namespace is rotated once when it is due, however many processes there are.
//   - There is a limit to namespaces, and no client can claim all of them.
//   - A change of a queue's state is stored together with the mail about it, and
//     the mail is sent at least once.
//   - What is not in a namespace of this service is never touched: neither users
//     without its tag, nor names without its prefix, nor those of the deployment's
//     own services.
package pulse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"taskcluster/internal/clock"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/mail"
	"taskcluster/internal/store"
	"taskcluster/internal/store/keyring"
	"taskcluster/services/pulse/management"
)

// The settings that the service names when they are missing.
const (
	ManagementSetting = "pulse-management-url"
	AMQPSetting       = "pulse-amqp-url"
	PrefixSetting     = "pulse-namespace-prefix"
	UserSetting       = "pulse-username-prefix"
	MailSetting       = "smtp-url"
)

// Mailer sends mails; a *mail.Mailer is one.
type Mailer interface {
	Send(ctx context.Context, m mail.Message) error
}

// Config is what the service is built from.
type Config struct {
	Store  *store.Store // opened with Migrations and api.Migrations
	Keys   *keyring.Keyring
	Clock  clock.Clock  // the machine's clock when nil
	Logger *slog.Logger // nothing is logged when nil

	// Broker is RabbitMQ. Without it every method that needs it is refused, and
	// nothing is done in the background.
	Broker *Broker
	// Mail sends mails to the contacts of namespaces; contacts are refused when nil.
	Mail Mailer

	// Interval is the time between two rotations of a password; an hour when zero.
	Interval time.Duration
	// AlertThreshold and DeleteThreshold are numbers of messages: a queue that has
	// more is in state warning, or is deleted. 4,000 and 8,000 when zero.
	AlertThreshold, DeleteThreshold int64
	// Limit is how many namespaces there may be at a time; 5,000 when zero. Each is
	// two users that RabbitMQ keeps, and is looked at once a minute.
	Limit int
}

// Broker is the RabbitMQ whose users are lent.
type Broker struct {
	Management *management.Client
	// AMQP is where clients connect: amqp:// or amqps://, host, port and virtual
	// host, without a user.
	AMQP *url.URL
	// NamespacePrefix is what all namespaces begin with, and UserPrefix what stands
	// before them in the names of users, which RabbitMQ knows on all virtual hosts.
	NamespacePrefix, UserPrefix string
	// Reserved are names that no namespace has, because the deployment's own
	// queues and exchanges are named so.
	Reserved []string
}

// Check says what is wrong with the broker, for who set it up. It changes nothing
// there.
func (b *Broker) Check(ctx context.Context) error {
	on, err := vhost(b.AMQP)
	if err != nil {
		return err
	}
	user, err := b.Management.WhoAmI(ctx)
	switch {
	case management.Unauthorized(err):
		return fmt.Errorf("%w: see that the user and the password in %s are right", err, ManagementSetting)
	case err != nil:
		return fmt.Errorf("%w: see that RabbitMQ runs with the plugin rabbitmq_management, and that %s leads to it", err, ManagementSetting)
	case !user.Tags.Has("administrator"):
		return fmt.Errorf("the user %s of %s has not the tag administrator, without which it can make no users: rabbitmqctl set_user_tags %[1]s administrator", user.Name, ManagementSetting)
	}
	if err := b.Management.VHost(ctx, on); errors.Is(err, management.ErrNotFound) {
		return fmt.Errorf("RabbitMQ does not have the virtual host %s that clients are told: see %s, or amqp-url, from which it is taken", on, AMQPSetting)
	} else if err != nil {
		return err
	}
	may, err := b.Management.Permissions(ctx, on, user.Name)
	if err != nil && !errors.Is(err, management.ErrNotFound) {
		return err
	}
	for _, prefix := range []string{queuePrefix, exchangePrefix} {
		// RabbitMQ's patterns are nearly Go's. One that is none here is left to RabbitMQ.
		pattern, bad := regexp.Compile(may.Configure)
		if bad == nil && (err != nil || !pattern.MatchString(prefix+b.NamespacePrefix+"x/x")) {
			return fmt.Errorf("the user %s of %s may not delete the queues and exchanges of namespaces: rabbitmqctl set_permissions -p '%s' %[1]s '^(queue|exchange)/%s.*$' '^$' '^$'",
				user.Name, ManagementSetting, on, b.NamespacePrefix)
		}
	}
	return nil
}

// prefixPattern is what CheckPrefix takes.
var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// CheckPrefix says what is wrong with a prefix of namespaces. It may not be
// empty: what begins with it and is in no namespace is deleted.
func CheckPrefix(prefix string) error {
	if !prefixPattern.MatchString(prefix) {
		return errors.New("it must have 1 to 32 letters, digits, - or _")
	}
	return nil
}

// CheckUserPrefix says what is wrong with a prefix of users, which may be empty.
func CheckUserPrefix(prefix string) error {
	if prefix != "" && CheckPrefix(prefix) != nil {
		return errors.New("it must have at most 32 letters, digits, - or _")
	}
	return nil
}

// Service is the pulse service.
type Service struct {
	store  *store.Store
	keys   *keyring.Keyring
	clock  clock.Clock
	logger *slog.Logger

	broker *Broker // nil: not configured
	vhost  string
	mail   Mailer // nil: not configured

	interval              time.Duration
	alertAbove, dropAbove int64
	limit                 int

	bringing singleflight.Group // one caller at a time brings a namespace to the broker
	failures atomic.Int64       // of the monitor
}

// New builds the service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Keys == nil {
		return nil, errors.New("pulse: Store and Keys are needed")
	}
	s := &Service{
		store: cfg.Store, keys: cfg.Keys, clock: cfg.Clock, logger: cfg.Logger, broker: cfg.Broker, mail: cfg.Mail,
		interval: cfg.Interval, alertAbove: cfg.AlertThreshold, dropAbove: cfg.DeleteThreshold, limit: cfg.Limit,
	}
	if s.clock == nil {
		s.clock = clock.Real{}
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.interval == 0 {
		s.interval = time.Hour
	}
	if s.alertAbove == 0 {
		s.alertAbove = 4000
	}
	if s.dropAbove == 0 {
		s.dropAbove = 8000
	}
	if s.limit == 0 {
		s.limit = 5000
	}
	if s.broker == nil {
		return s, nil
	}
	if s.broker.Management == nil || s.broker.AMQP == nil {
		return nil, errors.New("pulse: a broker needs Management and AMQP")
	}
	if err := CheckPrefix(s.broker.NamespacePrefix); err != nil {
		return nil, fmt.Errorf("pulse: the prefix of namespaces: %w", err)
	}
	var err error
	s.vhost, err = vhost(s.broker.AMQP)
	return s, err
}

// CheckAMQP says what is wrong with the URL at which clients connect.
func CheckAMQP(u *url.URL) error {
	if u.Scheme != "amqp" && u.Scheme != "amqps" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("it is not a URL like amqps://host:5671/vhost, without a user")
	}
	_, err := vhost(u)
	return err
}

// vhost is the virtual host of an AMQP URL: its path, or "/" if there is none.
func vhost(u *url.URL) (string, error) {
	path := u.EscapedPath()
	if path == "" || path == "/" {
		return "/", nil
	}
	name, err := url.PathUnescape(path[1:])
	if err != nil || strings.Contains(path[1:], "/") {
		return "", errors.New("its virtual host is not one part of a path: write / in it as %2F")
	}
	return name, nil
}

// Start begins the background work, if there is a broker: rotation, expiry, and
// looking after the broker.
func (s *Service) Start(g *lifecycle.Group) {
	if s.broker == nil {
		return
	}
	g.Go("pulse: rotate", func(ctx context.Context) error {
		return s.store.Repeat(ctx, "pulse/rotate", rotateEvery, s.rotate)
	})
	g.Go("pulse: expire", s.expiry().Run)
	g.Go("pulse: monitor", func(ctx context.Context) error {
		return s.store.Repeat(ctx, "pulse/monitor", monitorGap, s.monitor)
	})
}

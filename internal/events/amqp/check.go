package amqp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/slugid"
)

// Check looks whether a relay can do its work with the broker at this URL: it
// connects, and tries whether the user may declare the exchanges and publish to
// them, which need not exist yet. It changes nothing there. Its error is for an
// operator: what is wrong, and what to do.
func Check(ctx context.Context, url string, exchanges []string) error {
	if err := CheckURL(url); err != nil {
		return err
	}
	uri, err := amqp091.ParseURI(url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := broker{url, "taskcluster admin check", heartbeat}.open(ctx)
	if err != nil {
		return unreachable(err, uri)
	}
	defer s.close()
	blocked := s.conn.NotifyBlocked(make(chan amqp091.Blocking, 1))
	go func() {
		if b, told := <-blocked; told && b.Active {
			cancel(fmt.Errorf("RabbitMQ takes no messages at present (%s): free what it lacks; \"rabbitmq-diagnostics alarms\" says more", b.Reason))
		}
	}()
	t := &trial{session: s, uri: uri}
	for _, name := range exchanges {
		if err = t.exchange(name); err != nil {
			break
		}
	}
	if err == nil {
		err = t.relayQueue()
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("RabbitMQ took the connection and then did not answer in time: see its log and its load")
	}
	return err
}

// trial asks for what the broker does not carry out: what is published in a
// transaction that is rolled back, what is deleted that does not exist, what is
// declared that is there already. The broker looks first whether the user may.
type trial struct {
	session *session
	uri     amqp091.URI

	ch     *amqp091.Channel // in a transaction; nil after a refusal, which ends it
	closed chan *amqp091.Error
}

func (t *trial) do(what func(*amqp091.Channel) error) (err error) {
	if t.ch == nil {
		if t.ch, err = t.session.conn.Channel(); err != nil {
			return err
		}
		t.closed = t.ch.NotifyClose(make(chan *amqp091.Error, 1))
		if err := t.ch.Tx(); err != nil {
			return err
		}
	}
	if err = what(t.ch); err != nil {
		t.ch = nil
		return reason(<-t.closed)
	}
	return nil
}

// exchange tries to publish to an exchange, and to declare it as the relay does.
func (t *trial) exchange(name string) error {
	missing := false
	err := t.do(func(ch *amqp091.Channel) error {
		message := amqp091.Publishing{Body: []byte("taskcluster admin check")}
		return errors.Join(ch.Publish(name, "check", false, false, message), ch.TxRollback())
	})
	switch code(err) {
	case amqp091.NotFound:
		missing = true
	case amqp091.AccessRefused:
		return t.forbidden("publish to the exchange " + name)
	default:
		if err != nil {
			return err
		}
	}
	err = t.do(func(ch *amqp091.Channel) error {
		if missing {
			return ch.ExchangeDelete(nowhere(name), true, false)
		}
		return ch.ExchangeDeclare(name, amqp091.ExchangeTopic, true, false, false, false, nil)
	})
	switch code(err) {
	case amqp091.AccessRefused:
		return t.forbidden("declare the exchange " + name)
	case amqp091.PreconditionFailed:
		return fmt.Errorf("the exchange %s is there, but is no durable topic exchange: delete it in RabbitMQ, serve makes it anew", name)
	}
	return err
}

// relayQueue tries to declare a queue like the one that only one relay can have.
func (t *trial) relayQueue() error {
	err := t.do(func(ch *amqp091.Channel) error {
		_, err := ch.QueueDelete(nowhere(guard), true, true, false)
		return err
	})
	if code(err) == amqp091.AccessRefused {
		return t.forbidden("declare the queue " + guard)
	}
	return err
}

// nowhere is a name beside name that nothing has.
func nowhere(name string) string { return name + "-" + slugid.Nice().String() }

func code(err error) int {
	if refusal, ok := errors.AsType[*amqp091.Error](err); ok {
		return refusal.Code
	}
	return 0
}

// permissions are those that the relay's user needs, as rabbitmqctl
// set_permissions takes them: to configure, to write and to read.
var permissions = [...]string{`^(exchange/taskcluster-.*|queue/taskcluster-relay/.*)$`, `^exchange/taskcluster-.*$`, `^$`}

// grant is the command that gives them.
func grant(uri amqp091.URI) string {
	words := []string{"rabbitmqctl", "set_permissions", "-p", quote(uri.Vhost), quote(uri.Username)}
	for _, pattern := range permissions {
		words = append(words, quote(pattern))
	}
	return strings.Join(words, " ")
}

// quote is a word for a shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

func (t *trial) forbidden(what string) error {
	return fmt.Errorf("the user %s may not %s: run %s", t.uri.Username, what, grant(t.uri))
}

// unreachable says why there is no connection.
func unreachable(err error, uri amqp091.URI) error {
	addr := net.JoinHostPort(uri.Host, fmt.Sprint(uri.Port))
	var (
		unknown   x509.UnknownAuthorityError
		otherName x509.HostnameError
		invalid   x509.CertificateInvalidError
		noTLS     tls.RecordHeaderError
		noName    *net.DNSError
		noFile    *fs.PathError
		refusal   *amqp091.Error
		slow      net.Error
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of RabbitMQ at %s is by an authority that this machine does not know (%w): "+
			"add ?cacertfile=/path/of/its/ca.pem to amqp-url, or the authority to those of the system", addr, unknown)
	case errors.As(err, &otherName):
		return fmt.Errorf("the certificate of RabbitMQ at %s is for another name (%w): use the name that it is for", addr, otherName)
	case errors.As(err, &invalid):
		return fmt.Errorf("the certificate of RabbitMQ at %s is not good (%w): renew it, and see this machine's clock", addr, invalid)
	case errors.As(err, &noTLS):
		return fmt.Errorf("%s does not speak TLS: write amqp:// in amqp-url, or the port that does, which is mostly 5671", addr)
	case errors.As(err, &noFile):
		return fmt.Errorf("a file that amqp-url names cannot be read (%w): see the path, and who may read it", noFile)
	case errors.As(err, &noName):
		return fmt.Errorf("the name %s of amqp-url is not known (%w): see the name, and this machine's DNS", uri.Host, noName)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s: see that RabbitMQ runs, and that amqp-url has its host and port, mostly 5672, or 5671 with TLS", addr)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return fmt.Errorf("RabbitMQ at %s did not answer in time: see that it runs, that no firewall stands between, and that amqp-url has its port", addr)
	case errors.As(err, &refusal):
		return refused(refusal, addr, uri)
	}
	return fmt.Errorf("%w: see that RabbitMQ runs at %s, and that amqp-url is right", err, addr)
}

// refused says why the broker does not want the connection.
func refused(err *amqp091.Error, addr string, uri amqp091.URI) error {
	switch {
	case err.Code == amqp091.AccessRefused:
		return fmt.Errorf("RabbitMQ at %s refuses the user %s or the password: see amqp-url; "+
			"\"rabbitmqctl authenticate_user\" tells whether they are right, and the user guest may come from its own machine only", addr, uri.Username)
	case err.Code == amqp091.NotAllowed && strings.Contains(err.Reason, "not found"):
		return fmt.Errorf("RabbitMQ at %s has no virtual host %s: mend the end of amqp-url, or run rabbitmqctl add_vhost %s, then %s",
			addr, uri.Vhost, quote(uri.Vhost), grant(uri))
	case err.Code == amqp091.NotAllowed && strings.Contains(err.Reason, "refused for user"):
		return fmt.Errorf("the user %s may not use the virtual host %s of RabbitMQ at %s: run %s", uri.Username, uri.Vhost, addr, grant(uri))
	}
	return fmt.Errorf("RabbitMQ at %s does not take the connection (%s): see its log, and that amqp-url has the port of AMQP 0-9-1", addr, err.Reason)
}

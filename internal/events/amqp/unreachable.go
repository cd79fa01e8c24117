package amqp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/rabbitmq/amqp091-go"
)

// unreachable says why there is no connection, for an operator: what is wrong, and
// what to do.
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
		return fmt.Errorf("the certificate of RabbitMQ at %s is for %.300q and not for %s: write a name that it is for into amqp-url, or give RabbitMQ one for this name",
			addr, names(otherName.Certificate), otherName.Host)
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

// names are those that a certificate is for.
func names(c *x509.Certificate) string {
	list := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	return strings.Join(list, ", ")
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

// Package mail sends plain messages through a mail server, by SMTP.
//
// What it promises:
//
//   - A message for which Send returns no error was taken by the server.
//   - A password travels over TLS alone, and is in no error.
//   - What a message says cannot become a header or a further recipient.
//   - A Send ends after Timeout, and with its context, and leaves no connection.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"taskcluster/internal/cacert"
)

// Timeout bounds Send and Check.
const Timeout = 30 * time.Second

// Message is a mail in plain text.
type Message struct {
	ID      string // the same when a message is sent again, so that it can be told: letters, digits, . and -
	To      string // an address for which CheckAddress has no complaint
	Subject string
	Text    string
}

// Mailer sends through one server.
type Mailer struct {
	host, addr     string
	user, password string
	implicit       bool // TLS from the first byte
	tls            *tls.Config
	from           *netmail.Address
}

// New makes a mailer for smtp://user:password@host:587, which changes to TLS by
// STARTTLS where the server offers it, and always when there is a password; or
// for smtps://user:password@host:465, which is TLS from the beginning. User and
// password may be left out. The query parameter cacertfile names a file with the
// certificates to trust in place of the system's. from is the sender's address,
// which may have a name before it. Errors do not repeat the URL.
func New(address, from string) (*Mailer, error) {
	const form = "it is not a URL like smtp://user:password@host:587 or smtps://user:password@host:465"
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return nil, errors.New(form)
	}
	m := &Mailer{host: u.Hostname(), implicit: u.Scheme == "smtps"}
	m.tls = &tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12}
	port := u.Port()
	if port == "" {
		port = "587"
		if m.implicit {
			port = "465"
		}
	}
	m.addr = net.JoinHostPort(m.host, port)
	if u.User != nil {
		m.user = u.User.Username()
		m.password, _ = u.User.Password()
		if m.user == "" || m.password == "" {
			return nil, errors.New("it has only one of user and password")
		}
	}
	if m.tls.RootCAs, err = cacert.Pool(u.Query()); err != nil {
		return nil, err
	}
	if m.from, err = netmail.ParseAddress(from); err != nil || CheckAddress(m.from.Address) != nil {
		return nil, fmt.Errorf("the sender %.100q is not an address like ci@example.com", from)
	}
	return m, nil
}

// CheckAddress says what is wrong with the address of a recipient: it must be
// one bare address of ASCII characters.
func CheckAddress(address string) error {
	parsed, err := netmail.ParseAddress(address)
	if err != nil || parsed.Name != "" || parsed.Address != address || len(address) > 254 ||
		strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r >= unicode.MaxASCII || strings.ContainsRune(`"<>,;\`, r) }) {
		return errors.New("it is not one e-mail address like someone@example.com")
	}
	return nil
}

// Permanent tells whether the server has refused a message for good: sending it
// again is of no use.
func Permanent(err error) bool {
	var e *gomail.SendError
	return errors.As(err, &e) && e.ErrorCode() >= 500 && e.ErrorCode() < 600
}

// Send hands a message to the server.
func (m *Mailer) Send(ctx context.Context, message Message) error {
	if err := CheckAddress(message.To); err != nil {
		return fmt.Errorf("the recipient cannot be used: %w", err)
	}
	msg := gomail.NewMsg()
	msg.FromMailAddress(m.from)
	msg.ToMailAddress(&netmail.Address{Address: message.To})
	msg.Subject(oneLine(message.Subject))
	msg.SetDate()
	msg.SetMessageIDWithValue(message.ID + m.from.Address[strings.LastIndexByte(m.from.Address, '@'):])
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, message.Text)
	return m.connected(ctx, func(c *gomail.Client, server *smtp.Client) error {
		return c.SendWithSMTPClient(server, msg)
	})
}

// Check connects to the server and signs in, as Send does.
func (m *Mailer) Check(ctx context.Context) error {
	return m.connected(ctx, func(_ *gomail.Client, server *smtp.Client) error { return server.Noop() })
}

// connected runs fn with a connection to the server.
func (m *Mailer) connected(ctx context.Context, fn func(*gomail.Client, *smtp.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	conn, err := m.dial(ctx)
	if err != nil {
		return fmt.Errorf("the mail server cannot be reached: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	policy := gomail.TLSOpportunistic
	options := []gomail.Option{
		gomail.WithTimeout(Timeout), gomail.WithTLSConfig(m.tls),
		gomail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) { return conn, nil }),
	}
	if m.user != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(m.user), gomail.WithPassword(m.password))
		if !m.implicit {
			policy = gomail.TLSMandatory
		}
	}
	c, err := gomail.NewClient(m.host, append(options, gomail.WithTLSPolicy(policy))...)
	if err != nil {
		return err
	}
	server, err := c.DialToSMTPClientWithContext(ctx)
	if err == nil {
		err = fn(c, server)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // the connection was closed for it
		}
		return fmt.Errorf("the mail server %s: %w", m.addr, err)
	}
	c.CloseWithSMTPClient(server) // the message is the server's already
	return nil
}

// dial connects, with TLS if that is there from the beginning.
func (m *Mailer) dial(ctx context.Context) (net.Conn, error) {
	if m.implicit {
		return (&tls.Dialer{Config: m.tls}).DialContext(ctx, "tcp", m.addr)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", m.addr)
}

// oneLine makes control characters visible, line breaks among them, and cuts
// what is long.
func oneLine(s string) string {
	quoted := strconv.Quote(s)
	if plain := quoted[1 : len(quoted)-1]; strings.ContainsFunc(s, unicode.IsControl) {
		s = plain
	}
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

//go:build unix

package testenv

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// The only user whom a mail server here knows.
const (
	MailUser     = "ci"
	MailPassword = "p@ss word"
)

// MailSecurity is how a mail server uses TLS.
type MailSecurity int

// Without TLS, from STARTTLS on, and from the first byte.
const (
	MailPlain MailSecurity = iota
	MailSTARTTLS
	MailTLS
)

// MailServer is a real mail server that keeps what it takes.
type MailServer struct {
	Addr string // 127.0.0.1:PORT
	CA   string // the file with the authority of its certificate, which nobody else knows

	mu      sync.Mutex
	got     []Mail
	users   []string
	refuses error
	open    int
}

// Mail is one that the server took.
type Mail struct {
	From string
	To   []string
	Text string // with its headers
	TLS  bool   // it came through TLS
}

// Mails starts a mail server and stops it at the end of the test.
func Mails(t testing.TB, security MailSecurity) *MailServer {
	t.Helper()
	s := &MailServer{CA: filepath.Join(t.TempDir(), "ca.pem")}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open++
		return &mailSession{server: s, conn: c}, nil
	}))
	server.Domain, server.ReadTimeout, server.WriteTimeout, server.MaxLineLength = "localhost", 30*time.Second, 30*time.Second, 2000
	server.AllowInsecureAuth = security == MailPlain
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	if security != MailPlain {
		ca, certificate, key, err := Certificate()
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.CA, []byte(ca), 0o644); err != nil {
			t.Fatal(err)
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	if security == MailTLS {
		l = tls.NewListener(l, server.TLSConfig)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-ended })
	return s
}

// Taken are the mails that the server took.
func (s *MailServer) Taken() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.got...)
}

// Users are those who signed in.
func (s *MailServer) Users() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.users...)
}

// Open is how many connections there are.
func (s *MailServer) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Refuse has the server refuse recipients with a code, until it is 0.
func (s *MailServer) Refuse(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = nil
	if code != 0 {
		s.refuses = &smtp.SMTPError{Code: code, Message: "no"}
	}
}

type mailSession struct {
	server *MailServer
	conn   *smtp.Conn
	mail   Mail
}

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != MailUser || password != MailPassword {
			return smtp.ErrAuthFailed
		}
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		s.server.users = append(s.server.users, user)
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.mail = Mail{From: from}
	_, s.mail.TLS = s.conn.TLSConnectionState()
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.mail.To = append(s.mail.To, to)
	return s.server.refuses
}

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mail.Text = string(text)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.got = append(s.server.got, s.mail)
	return err
}

func (s *mailSession) Reset() {}

func (s *mailSession) Logout() error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.open--
	return nil
}

package mail

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"taskcluster/internal/testenv"
)

// server is a real mail server that keeps what it takes.
type server struct {
	*smtp.Server
	addr string

	mu      sync.Mutex
	got     []received
	users   []string // who signed in
	refuses error    // of the recipient
	open    int
}

type received struct {
	from, body string
	to         []string
	tls        bool
}

// start starts a server. With a certificate it offers STARTTLS, or is TLS from
// the beginning.
func start(t *testing.T, cert *tls.Certificate, implicit bool) *server {
	t.Helper()
	s := &server{}
	s.Server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open++
		return &session{server: s, conn: c}, nil
	}))
	s.Domain, s.ReadTimeout, s.WriteTimeout, s.MaxLineLength = "localhost", 30*time.Second, 30*time.Second, 2000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	if cert != nil {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
		if implicit {
			l = tls.NewListener(l, s.TLSConfig)
		}
	} else {
		s.AllowInsecureAuth = true
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(l)
	}()
	t.Cleanup(func() { s.Close(); <-ended })
	return s
}

type session struct {
	server *server
	conn   *smtp.Conn
	mail   received
	user   string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "ci" || password != "p@ss word" {
			return smtp.ErrAuthFailed
		}
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		s.server.users = append(s.server.users, user)
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.mail = received{from: from}
	_, s.mail.tls = s.conn.TLSConnectionState()
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.mail.to = append(s.mail.to, to)
	return s.server.refuses
}

func (s *session) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	s.mail.body = string(body)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.got = append(s.server.got, s.mail)
	return err
}

func (s *session) Reset() {}

func (s *session) Logout() error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.open--
	return nil
}

func (s *server) one(t *testing.T) received {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) != 1 {
		t.Fatalf("%d mails came", len(s.got))
	}
	return s.got[0]
}

func mailer(t *testing.T, url string) *Mailer {
	t.Helper()
	m, err := New(url, "CI of Example <ci@example.com>")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func message() Message {
	return Message{ID: "id-1", To: "someone@example.org", Subject: "queue/a is full", Text: "It has\n.\n9 messages – too many.\n"}
}

// authority is a certificate for 127.0.0.1, and the file by which it is trusted.
func authority(t *testing.T) (*tls.Certificate, string) {
	t.Helper()
	ca, certificate, key, err := testenv.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(ca), 0o644); err != nil {
		t.Fatal(err)
	}
	return &pair, file
}

func TestSend(t *testing.T) {
	cert, ca := authority(t)
	for name, test := range map[string]struct {
		cert     *tls.Certificate
		implicit bool
		url      string
		tls      bool
	}{
		"plain":                 {nil, false, "smtp://%s", false},
		"STARTTLS":              {cert, false, "smtp://%s?cacertfile=" + ca, true},
		"STARTTLS and password": {cert, false, "smtp://ci:p%%40ss%%20word@%s?cacertfile=" + ca, true},
		"TLS":                   {cert, true, "smtps://%s/?cacertfile=" + ca, true},
		"TLS and password":      {cert, true, "smtps://ci:p%%40ss%%20word@%s?cacertfile=" + ca, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.cert, test.implicit)
			m := mailer(t, fmt.Sprintf(test.url, s.addr))
			if err := m.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := m.Send(t.Context(), message()); err != nil {
				t.Fatal(err)
			}
			got := s.one(t)
			parsed, err := netmail.ReadMessage(strings.NewReader(got.body))
			if err != nil {
				t.Fatal(err)
			}
			h := parsed.Header
			if got.from != "ci@example.com" || len(got.to) != 1 || got.to[0] != "someone@example.org" || got.tls != test.tls ||
				h.Get("From") != `"CI of Example" <ci@example.com>` || h.Get("To") != "<someone@example.org>" || h.Get("Subject") != "queue/a is full" ||
				h.Get("Message-ID") != "<id-1@example.com>" || h.Get("Date") == "" {
				t.Errorf("%+v", got)
			}
			if strings.Contains(test.url, "ci:") != (len(s.users) > 0) {
				t.Errorf("signed in: %v", s.users)
			}
		})
	}
}

// TestNoPasswordInClear: a server without TLS gets none.
func TestNoPasswordInClear(t *testing.T) {
	s := start(t, nil, false)
	err := mailer(t, "smtp://ci:p%40ss%20word@"+s.addr).Send(t.Context(), message())
	if err == nil || len(s.users) > 0 || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("%v, signed in: %v", err, s.users)
	}
}

func TestFailures(t *testing.T) {
	cert, ca := authority(t)
	s := start(t, cert, false)
	for what, url := range map[string]string{
		"a wrong password": "smtp://ci:wrong-password@" + s.addr + "?cacertfile=" + ca, "an unknown authority": "smtp://" + s.addr,
		"TLS where there is none": "smtps://" + s.addr + "?cacertfile=" + ca, "nobody": "smtp://127.0.0.1:1",
	} {
		m := mailer(t, url)
		for _, err := range []error{m.Check(t.Context()), m.Send(t.Context(), message())} {
			if err == nil || Permanent(err) || strings.Contains(err.Error(), "wrong-password") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	m := mailer(t, "smtp://"+s.addr+"?cacertfile="+ca)
	for _, test := range []struct {
		code      int
		permanent bool
	}{{451, false}, {550, true}} {
		s.mu.Lock()
		s.refuses = &smtp.SMTPError{Code: test.code, Message: "no"}
		s.mu.Unlock()
		if err := m.Send(t.Context(), message()); err == nil || Permanent(err) != test.permanent {
			t.Errorf("%d: %v, permanent: %v", test.code, err, Permanent(err))
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		open := s.open
		s.mu.Unlock()
		if open == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", open)
		}
	}
}

// TestSilentServer: one that takes the connection and says nothing.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := mailer(t, "smtp://"+l.Addr().String()).Send(ctx, message()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestInjection: nothing that a message says becomes a header or a recipient.
func TestInjection(t *testing.T) {
	s := start(t, nil, false)
	m := mailer(t, "smtp://"+s.addr)
	hostile := "a\r\nBcc: victim@example.com\r\n\r\nbody"
	if err := m.Send(t.Context(), Message{ID: "id", To: "someone@example.org", Subject: hostile + strings.Repeat("ä", 300), Text: hostile + "\r\n.\r\nMAIL FROM:<x@y>\r\n"}); err != nil {
		t.Fatal(err)
	}
	got := s.one(t)
	parsed, err := netmail.ReadMessage(bytes.NewReader([]byte(got.body)))
	if err != nil || len(got.to) != 1 || parsed.Header.Get("Bcc") != "" {
		t.Fatalf("%v %+v", err, got)
	}
	if subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject")); err != nil || !strings.HasPrefix(subject, `a\r\nBcc: victim`) || !strings.HasSuffix(subject, "ä…") {
		t.Errorf("%q %v", subject, err)
	}
	for _, to := range []string{"", "x", "a@b\r\nRCPT TO:<c@d>", "a@b>,<c@d", "A <a@b>", "a@b, c@d", "ä@example.com", `"a b"@c`, " a@b", "a@b ", strings.Repeat("a", 250) + "@example.com"} {
		if err := m.Send(t.Context(), Message{ID: "id", To: to}); err == nil {
			t.Errorf("the recipient %q is taken", to)
		}
	}
	for _, to := range []string{"a@b", "first.last+tag@sub.example.com"} {
		if err := CheckAddress(to); err != nil {
			t.Errorf("%q: %v", to, err)
		}
	}
}

func TestSettings(t *testing.T) {
	for _, bad := range []string{"", "smtp://", "http://user:sesame@host", "smtp://sesame@host", "smtp://user:sesame@host/path", "smtp://user:sesame@host?x=1", "smtp://:sesame@host", "smtp://user:sesame@host?cacertfile=/nowhere", "smtp://user:ses%ame@host"} {
		if _, err := New(bad, "ci@example.com"); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "ci", "a@b, c@d", "CI <ci>"} {
		if _, err := New("smtp://host", bad); err == nil {
			t.Errorf("the sender %q is taken", bad)
		}
	}
	for url, addr := range map[string]string{"smtp://host": "host:587", "smtps://host": "host:465", "smtp://[::1]:25": "[::1]:25"} {
		if m := mailer(t, url); m.addr != addr {
			t.Errorf("%s: %s", url, m.addr)
		}
	}
}

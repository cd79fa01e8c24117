package mail

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/testenv"
)

// one is the mail that a server took.
func one(t *testing.T, s *testenv.MailServer) testenv.Mail {
	t.Helper()
	got := s.Taken()
	if len(got) != 1 {
		t.Fatalf("%d mails came", len(got))
	}
	return got[0]
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

func TestSend(t *testing.T) {
	for name, test := range map[string]struct {
		security testenv.MailSecurity
		url      string // with the server's address, and the file of its authority
	}{
		"plain":                 {testenv.MailPlain, "smtp://%s"},
		"STARTTLS":              {testenv.MailSTARTTLS, "smtp://%s?cacertfile=%s"},
		"STARTTLS and password": {testenv.MailSTARTTLS, "smtp://ci:p%%40ss%%20word@%s?cacertfile=%s"},
		"TLS":                   {testenv.MailTLS, "smtps://%s/?cacertfile=%s"},
		"TLS and password":      {testenv.MailTLS, "smtps://ci:p%%40ss%%20word@%s?cacertfile=%s"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testenv.Mails(t, test.security)
			url := strings.Replace(test.url, "=%s", "="+s.CA, 1)
			m := mailer(t, fmt.Sprintf(url, s.Addr))
			if err := m.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := m.Send(t.Context(), message()); err != nil {
				t.Fatal(err)
			}
			got := one(t, s)
			parsed, err := netmail.ReadMessage(strings.NewReader(got.Text))
			if err != nil {
				t.Fatal(err)
			}
			h := parsed.Header
			if got.From != "ci@example.com" || len(got.To) != 1 || got.To[0] != "someone@example.org" || got.TLS != (test.security != testenv.MailPlain) ||
				h.Get("From") != `"CI of Example" <ci@example.com>` || h.Get("To") != "<someone@example.org>" || h.Get("Subject") != "queue/a is full" ||
				h.Get("Message-ID") != "<id-1@example.com>" || h.Get("Date") == "" {
				t.Errorf("%+v", got)
			}
			if strings.Contains(test.url, "ci:") != (len(s.Users()) > 0) {
				t.Errorf("signed in: %v", s.Users())
			}
		})
	}
}

// TestNoPasswordInClear: a server without TLS gets none.
func TestNoPasswordInClear(t *testing.T) {
	s := testenv.Mails(t, testenv.MailPlain)
	err := mailer(t, "smtp://ci:p%40ss%20word@"+s.Addr).Send(t.Context(), message())
	if err == nil || len(s.Users()) > 0 || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("%v, signed in: %v", err, s.Users())
	}
}

func TestFailures(t *testing.T) {
	s := testenv.Mails(t, testenv.MailSTARTTLS)
	for what, url := range map[string]string{
		"a wrong password": "smtp://ci:wrong-password@" + s.Addr + "?cacertfile=" + s.CA, "an unknown authority": "smtp://" + s.Addr,
		"TLS where there is none": "smtps://" + s.Addr + "?cacertfile=" + s.CA, "nobody": "smtp://127.0.0.1:1",
	} {
		m := mailer(t, url)
		for _, err := range []error{m.Check(t.Context()), m.Send(t.Context(), message())} {
			if err == nil || Permanent(err) || strings.Contains(err.Error(), "wrong-password") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	m := mailer(t, "smtp://"+s.Addr+"?cacertfile="+s.CA)
	for _, test := range []struct {
		code      int
		permanent bool
	}{{451, false}, {550, true}} {
		s.Refuse(test.code)
		if err := m.Send(t.Context(), message()); err == nil || Permanent(err) != test.permanent {
			t.Errorf("%d: %v, permanent: %v", test.code, err, Permanent(err))
		}
	}
	for deadline := time.Now().Add(time.Minute); s.Open() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", s.Open())
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
	s := testenv.Mails(t, testenv.MailPlain)
	m := mailer(t, "smtp://"+s.Addr)
	hostile := "a\r\nBcc: victim@example.com\r\n\r\nbody"
	if err := m.Send(t.Context(), Message{ID: "id", To: "someone@example.org", Subject: hostile + strings.Repeat("ä", 300), Text: hostile + "\r\n.\r\nMAIL FROM:<x@y>\r\n"}); err != nil {
		t.Fatal(err)
	}
	got := one(t, s)
	parsed, err := netmail.ReadMessage(strings.NewReader(got.Text))
	if err != nil || len(got.To) != 1 || parsed.Header.Get("Bcc") != "" {
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

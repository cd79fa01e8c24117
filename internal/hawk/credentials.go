package hawk

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Credentials are what a client signs its requests with. Formatting and
// logging them shows the client id only.
type Credentials struct {
	ClientID    string
	AccessToken string
	// Certificate is the JSON text that came with temporary credentials, or empty.
	Certificate string
	// AuthorizedScopes restricts each request to these scopes. Nil is no
	// restriction; an empty list leaves only what anyone may do.
	AuthorizedScopes []string
}

// String shows the client id and hides the secrets.
func (c Credentials) String() string {
	return "hawk.Credentials{" + strconv.Quote(c.ClientID) + "}"
}

// GoString is what %#v prints; it hides the secrets.
func (c Credentials) GoString() string { return c.String() }

// LogValue implements slog.LogValuer; it hides the secrets.
func (c Credentials) LogValue() slog.Value {
	return slog.GroupValue(slog.String("clientId", c.ClientID), slog.Bool("temporary", c.Certificate != ""))
}

// ErrHeaderTooLong says that credentials cannot sign any request.
var ErrHeaderTooLong = fmt.Errorf("hawk: the header would be longer than %d bytes: too many scopes in certificate or authorizedScopes", MaxHeaderLength)

// Header returns the Authorization header for a request at the time now.
// payloadHash (of PayloadHash) may be empty, which leaves the body unsigned.
func (c Credentials) Header(r Request, payloadHash string, now time.Time) (string, error) {
	var nonce [8]byte // base64url of 6 random bytes
	var random [6]byte
	rand.Read(random[:])
	base64.RawURLEncoding.Encode(nonce[:], random[:])
	return c.header(r, payloadHash, string(nonce[:]), now)
}

func (c Credentials) header(r Request, payloadHash, nonce string, now time.Time) (string, error) {
	if err := c.check(); err != nil {
		return "", err
	}
	if !isAttributeText(payloadHash) {
		return "", errors.New("hawk: payload hash is not base64")
	}
	ext, err := c.ext()
	if err != nil {
		return "", err
	}
	a := attributes{kind: "header", ts: strconv.FormatInt(now.Unix(), 10), nonce: nonce, hash: payloadHash, ext: ext}
	s := signerPool.Get().(*signer)
	defer s.release()
	mac := s.signRequest(c.AccessToken, &r, &a)

	b := s.text[:0] // the MAC is in a buffer of its own
	b = append(b, `Hawk id="`...)
	b = append(b, c.ClientID...)
	b = append(b, `", ts="`...)
	b = append(b, a.ts...)
	b = append(b, `", nonce="`...)
	b = append(b, nonce...)
	if payloadHash != "" {
		b = append(b, `", hash="`...)
		b = append(b, payloadHash...)
	}
	if ext != "" {
		b = append(b, `", ext="`...)
		b = append(b, ext...)
	}
	b = append(b, `", mac="`...)
	b = append(b, mac...)
	b = append(b, '"')
	s.text = b
	if len(b) > MaxHeaderLength {
		return "", fmt.Errorf("%w: it has %d bytes", ErrHeaderTooLong, len(b))
	}
	return string(b), nil
}

// SignURL returns rawURL, an http or https URL, with a bewit that lets its
// bearer read it until expires (whole seconds). A fragment is dropped.
func (c Credentials) SignURL(rawURL string, expires time.Time) (string, error) {
	if err := c.check(); err != nil {
		return "", err
	}
	ext, err := c.ext()
	if err != nil {
		return "", err
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", fmt.Errorf("hawk: sign URL: %w", err)
	}
	host, port, err := HostPort(u.Host, u.Scheme == "https")
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("hawk: sign URL: need http(s)://host[:port]/...")
	}
	u.Fragment, u.RawFragment, u.ForceQuery = "", "", false
	if u.Path == "" {
		u.Path = "/"
	}
	r := Request{Method: "GET", Resource: u.RequestURI(), Host: host, Port: port}
	a := attributes{kind: "bewit", ts: strconv.FormatInt(expires.Unix(), 10), ext: ext}

	s := signerPool.Get().(*signer)
	defer s.release()
	mac := s.signRequest(c.AccessToken, &r, &a)
	bewit := strings.Join([]string{c.ClientID, a.ts, string(mac), ext}, `\`)
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += bewitParameter + base64.RawURLEncoding.EncodeToString([]byte(bewit))
	if n := len(u.RequestURI()); n > MaxResourceLength {
		return "", fmt.Errorf("hawk: signed resource of %d bytes exceeds %d", n, MaxResourceLength)
	}
	return u.String(), nil
}

// HostPort splits the value of a Host header (or of url.URL.Host) into what a
// signature covers. Without a port it is 443 if https, else 80.
func HostPort(hostport string, https bool) (host string, port int, err error) {
	port = 80
	if https {
		port = 443
	}
	host = hostport
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 && i > strings.LastIndexByte(hostport, ']') {
		var text string
		if host, text, err = net.SplitHostPort(hostport); err != nil {
			return "", 0, err
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return "", 0, fmt.Errorf("hawk: bad port in host %q", hostport)
		}
		port = int(n)
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if host == "" {
		return "", 0, errors.New("hawk: no host")
	}
	return host, port, nil
}

// check refuses credentials that could not be sent.
func (c Credentials) check() error {
	switch {
	case c.ClientID == "" || !isAttributeText(c.ClientID):
		return errors.New("hawk: client id must be printable ASCII without quotes and backslashes")
	case c.AccessToken == "":
		return errors.New("hawk: no access token")
	}
	return nil
}

// ext returns the ext attribute, empty if there is nothing to say.
func (c Credentials) ext() (string, error) {
	if c.Certificate == "" && c.AuthorizedScopes == nil {
		return "", nil
	}
	b := make([]byte, 0, 32+len(c.Certificate)+64*len(c.AuthorizedScopes))
	b = append(b, '{')
	if c.Certificate != "" {
		if !json.Valid([]byte(c.Certificate)) {
			return "", errors.New("hawk: certificate is not JSON")
		}
		b = append(b, `"certificate":`...)
		b = append(b, c.Certificate...)
	}
	if c.AuthorizedScopes != nil {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, `"authorizedScopes":`...)
		var err error
		if b, err = appendScopes(b, c.AuthorizedScopes); err != nil {
			return "", err
		}
	}
	b = append(b, '}')
	return base64.StdEncoding.EncodeToString(b), nil
}

// TemporaryOptions say which temporary credentials to make.
type TemporaryOptions struct {
	Name   string // client id to appear as; empty to appear as the issuer
	Scopes []string
	Start  time.Time
	Expiry time.Time // at most MaxLifetime after Start
}

// Temporary makes temporary credentials without asking the server. c must be
// permanent credentials, whose client must satisfy the scopes and, for named
// ones, auth:create-client:<name>; the server checks that when they are used.
func (c Credentials) Temporary(o TemporaryOptions) (Credentials, error) {
	var random [seedLength / 4 * 3]byte
	rand.Read(random[:])
	return c.temporary(o, base64.RawURLEncoding.EncodeToString(random[:]))
}

func (c Credentials) temporary(o TemporaryOptions, seed string) (Credentials, error) {
	if err := c.check(); err != nil {
		return Credentials{}, err
	}
	cert := Certificate{Version: 1, Scopes: o.Scopes, Start: o.Start.UnixMilli(), Expiry: o.Expiry.UnixMilli(), Seed: seed}
	name := c.ClientID
	switch {
	case c.Certificate != "":
		return Credentials{}, errors.New("hawk: temporary credentials cannot issue others")
	case cert.Expiry < cert.Start:
		return Credentials{}, errors.New("hawk: temporary credentials would end before they start")
	case cert.Expiry-cert.Start > MaxLifetime.Milliseconds():
		return Credentials{}, errors.New("hawk: temporary credentials cannot last longer than 31 days")
	case o.Name == c.ClientID:
		return Credentials{}, errors.New("hawk: temporary credentials cannot have their issuer's name")
	case !isAttributeText(o.Name):
		return Credentials{}, errors.New("hawk: name must be printable ASCII without quotes and backslashes")
	case o.Name != "":
		name, cert.Issuer = o.Name, c.ClientID
	}

	s := signerPool.Get().(*signer)
	defer s.release()
	s.text = cert.appendSigned(s.text[:0], name)
	signature := s.sign(c.AccessToken)

	b := make([]byte, 0, 256+64*len(o.Scopes))
	b = append(b, `{"version":1,"scopes":`...)
	b, err := appendScopes(b, o.Scopes)
	if err != nil {
		return Credentials{}, err
	}
	b = append(b, `,"start":`...)
	b = strconv.AppendInt(b, cert.Start, 10)
	b = append(b, `,"expiry":`...)
	b = strconv.AppendInt(b, cert.Expiry, 10)
	b = append(b, `,"seed":"`...)
	b = append(b, seed...)
	b = append(b, `","signature":"`...)
	b = append(b, signature...)
	b = append(b, '"')
	if cert.Issuer != "" {
		b = append(b, `,"issuer":`...)
		b = appendQuoted(b, cert.Issuer)
	}
	b = append(b, '}')
	return Credentials{
		ClientID:         name,
		AccessToken:      cert.Key(c.AccessToken),
		Certificate:      string(b),
		AuthorizedScopes: c.AuthorizedScopes,
	}, nil
}

// appendScopes appends a JSON array of scopes, which must be valid.
func appendScopes(b []byte, scopes []string) ([]byte, error) {
	b = append(b, '[')
	for i, scope := range scopes {
		if !printable(scope) {
			return nil, fmt.Errorf("hawk: scope %q is not printable ASCII", scope)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, scope)
	}
	return append(b, ']'), nil
}

// appendQuoted appends s, which must be printable ASCII, as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

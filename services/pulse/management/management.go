// Package management is a client for as much of RabbitMQ's management HTTP API
// as the pulse service needs: users, their permissions, and what there is on a
// virtual host.
//
// What it promises:
//
//   - A call ends after Timeout, and with its context. A Client has at most
//     MaxRequests calls under way; further ones wait for their turn.
//   - Answers are read up to MaxAnswer bytes, and lists up to MaxItems items.
//   - Names may have any characters: they are encoded in URLs, and quoted in
//     regular expressions.
//   - No error holds the password of the administrator or that of a user.
package management

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"taskcluster/internal/cacert"
	"taskcluster/internal/secret"
)

// The limits of a Client.
const (
	Timeout     = 10 * time.Second
	MaxRequests = 8
	MaxAnswer   = 32 << 20
	MaxItems    = 100_000
)

// ErrNotFound is the answer about what does not exist.
var ErrNotFound = errors.New("RabbitMQ has no such object")

// Refusal is an answer of the API that is no success.
type Refusal struct {
	Status int
	Reason string
}

func (r *Refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("RabbitMQ's management API answers %d %s", r.Status, r.Reason))
}

// Refused tells whether an error is RabbitMQ's answer to this very call, so that
// other calls may well succeed.
func Refused(err error) bool {
	var r *Refusal
	return errors.Is(err, ErrNotFound) ||
		errors.As(err, &r) && r.Status >= 400 && r.Status < 500 && r.Status != http.StatusUnauthorized && r.Status != http.StatusForbidden
}

// Unauthorized tells whether RabbitMQ does not know the user or its password.
func Unauthorized(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Status == http.StatusUnauthorized
}

// Client calls the API as an administrator.
type Client struct {
	base           string // without a slash at its end
	user, password string
	http           *http.Client

	// MaxAnswer and MaxItems; tests have less, which they reach sooner.
	maxAnswer int64
	maxItems  int
}

// New makes a client for https://user:password@host:port/path. The query
// parameter cacertfile names a file with the certificates to trust in place of
// the system's. Errors do not repeat the URL.
func New(address string) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
		return nil, errors.New("it is not a URL like https://user:password@host:15671")
	}
	password, ok := u.User.Password()
	if !ok || u.User.Username() == "" || password == "" {
		return nil, errors.New("it has no user and password, as in https://user:password@host:15671")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = MaxRequests, MaxRequests
	pool, err := cacert.Pool(u.Query())
	if err != nil {
		return nil, err
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}
	return &Client{
		base: base.String(), user: u.User.Username(), password: password, maxAnswer: MaxAnswer, maxItems: MaxItems,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one call. Where its path, which is encoded, is below /api.
type request struct {
	method, path string
	query        url.Values
	body         any
	reason       string // why something is ended, for the broker's log
	secret       string // is kept out of errors
}

// do makes a call and hands the body of a good answer to read, if that is given.
func (c *Client) do(ctx context.Context, r request, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	address := c.base + "/api" + r.path
	if r.query != nil {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, body)
	if err != nil {
		return err
	}
	req.SetBasicAuth(c.user, c.password)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.reason != "" {
		req.Header.Set("X-Reason", r.reason)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("RabbitMQ's management API cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	limited := io.LimitReader(resp.Body, c.maxAnswer)
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return ErrNotFound
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return r.refusal(resp.StatusCode, limited)
	case read != nil:
		if err := read(limited); err != nil {
			return fmt.Errorf("RabbitMQ's management API gives an answer that cannot be read: %w", err)
		}
	}
	return nil
}

// refusal is an answer with RabbitMQ's reason, when it gives one.
func (r *request) refusal(status int, body io.Reader) error {
	var said struct{ Error, Reason string }
	if json.NewDecoder(io.LimitReader(body, 4096)).Decode(&said) != nil || said.Reason == "" {
		return &Refusal{Status: status}
	}
	reason := said.Error + ": " + said.Reason
	if r.secret != "" {
		reason = strings.ReplaceAll(reason, r.secret, secret.Redacted)
	}
	return &Refusal{status, fmt.Sprintf("%.200q", reason)}
}

func path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}

func (c *Client) get(ctx context.Context, into any, parts ...string) error {
	return c.do(ctx, request{method: http.MethodGet, path: path(parts...)}, func(r io.Reader) error {
		return json.NewDecoder(r).Decode(into)
	})
}

func (c *Client) delete(ctx context.Context, parts ...string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: path(parts...)}, nil)
}

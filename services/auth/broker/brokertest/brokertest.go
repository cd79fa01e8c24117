// Package brokertest has doubles of the systems that package broker gets
// credentials from: AWS's token service, Azure's storage, Google's identity
// services, Sentry and GitHub. They are for tests only, of this package's
// neighbours or of a whole deployment: Setting is what makes a deployment use
// one.
//
// A double checks what the real system would check (signatures, tokens, times,
// the form of requests) and refuses with the real system's error. Why it
// refused is in Refusals, as real errors tell little.
package brokertest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// double is what the doubles share.
type double struct {
	server *httptest.Server
	now    func() time.Time

	mu       sync.Mutex
	requests []string // "GET /path?query"
	refusals []string
	override http.HandlerFunc
}

func (d *double) start(now func() time.Time, handle http.HandlerFunc) {
	if d.now = now; now == nil {
		d.now = time.Now
	}
	d.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.requests = append(d.requests, r.Method+" "+r.URL.RequestURI())
		override := d.override
		d.mu.Unlock()
		if override != nil {
			override(w, r)
			return
		}
		handle(w, r)
	}))
}

// URL is where the double is.
func (d *double) URL() string { return d.server.URL }

// Close stops the double.
func (d *double) Close() { d.server.Close() }

// Override has all requests answered by another handler, or again by the
// double when it is nil.
func (d *double) Override(handle http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.override = handle
}

// Requests are the requests until now, "GET /path?query", and forgets them.
func (d *double) Requests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.requests
	d.requests = nil
	return all
}

// Refusals are the reasons why requests were refused until now, and forgets
// them.
func (d *double) Refusals() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.refusals
	d.refusals = nil
	return all
}

func (d *double) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusals = append(d.refusals, fmt.Sprintf(format, args...))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// body reads a request's body, of which the systems take little.
func body(r *http.Request) []byte {
	b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	return b
}

// random is a string that nobody guesses, beginning with prefix.
func random(prefix string) string {
	var b [24]byte
	rand.Read(b[:])
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// rsaKey is a key pair, and the private key as a PEM file has it.
func rsaKey() (*rsa.PrivateKey, string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // the machine has no random numbers
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return key, string(pem.EncodeToMemory(block))
}

// setting is a setting's JSON.
func setting(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // the doubles' own values
	}
	return string(text)
}

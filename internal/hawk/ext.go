package hawk

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxLifetime is the longest that temporary credentials may last.
	MaxLifetime = 31 * 24 * time.Hour
	// CertificateSkew is by how much start and expiry may be missed.
	CertificateSkew = 5 * time.Minute

	seedLength = 44
	maxInteger = 1 << 53 // beyond it, JSON numbers are not exact
)

// Ext is what Taskcluster carries in Hawk's ext attribute. Null counts as absent.
type Ext struct {
	Certificate         json.RawMessage // see ParseCertificate
	HasCertificate      bool
	AuthorizedScopes    json.RawMessage // see ParseAuthorizedScopes
	HasAuthorizedScopes bool
}

// ParseExt reads an ext attribute: base64 of a JSON object, or nothing. Keys
// that it does not know are left for later versions to use.
func ParseExt(ext string) (Ext, error) {
	if ext == "" {
		return Ext{}, nil
	}
	failed := &Error{Message: "Failed to parse ext"}
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(ext, "="))
	if err != nil {
		return Ext{}, failed
	}
	const before, after = `{"certificate":`, `}`
	if plain, ok := strings.CutPrefix(string(text), before); ok {
		if rest, ok := issued(plain, nil); ok && rest == after {
			return Ext{Certificate: text[len(before) : len(text)-len(after)], HasCertificate: true}, nil
		}
	}
	object, ok := parseObject(text)
	if !ok {
		return Ext{}, failed
	}
	var e Ext
	e.Certificate, e.HasCertificate = object["certificate"]
	e.AuthorizedScopes, e.HasAuthorizedScopes = object["authorizedScopes"]
	return e, nil
}

// parseObject reads a JSON object and drops its null members. A map rather
// than a struct, for encoding/json ignores the case of a struct's names.
func parseObject(text []byte) (map[string]json.RawMessage, bool) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return nil, false
	}
	for name, value := range object {
		if string(value) == "null" {
			delete(object, name)
		}
	}
	return object, true
}

// parseScopes reads an array of valid scopes. isArray tells the two failures apart.
func parseScopes(raw json.RawMessage) (scopes []string, isArray, ok bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		return nil, false, false
	}
	if err := json.Unmarshal(raw, &scopes); err != nil {
		return nil, true, false
	}
	for _, scope := range scopes {
		if !printable(scope) {
			return nil, true, false
		}
	}
	// A null reads as an empty scope; look closer where there may be one.
	if slices.Contains(scopes, "") {
		var pointers []*string
		if json.Unmarshal(raw, &pointers) != nil || slices.Contains(pointers, nil) {
			return nil, true, false
		}
	}
	return scopes, true, true
}

// ParseAuthorizedScopes reads Ext.AuthorizedScopes. The result is not nil: an
// empty list is a restriction to no scopes.
func ParseAuthorizedScopes(raw json.RawMessage) ([]string, error) {
	scopes, isArray, ok := parseScopes(raw)
	switch {
	case !isArray:
		return nil, &Error{Message: "ext.authorizedScopes must be an array"}
	case !ok:
		return nil, &Error{Message: "ext.authorizedScopes must be an array of valid scopes"}
	}
	return scopes, nil
}

// Certificate is what an issuing client signed to hand on some of its scopes
// for some time.
type Certificate struct {
	Version     int
	Scopes      []string
	Start       int64 // unix milliseconds
	Expiry      int64 // unix milliseconds
	Seed        string
	Signature   string // base64; empty if it was not a string
	Issuer      string // set for named credentials only
	HasClientID bool   // there is a clientId member, which only named credentials may have
}

func certificateError(problem string) error {
	return &Error{Message: "ext.certificate" + problem}
}

// ParseCertificate reads Ext.Certificate and checks its form; errors are *Error.
func ParseCertificate(raw json.RawMessage) (Certificate, error) {
	var c Certificate
	if rest, ok := issued(string(raw), &c); ok && rest == "" {
		return c, nil
	}
	return parseCertificate(raw)
}

// parseCertificate reads a certificate that may be written in any way.
func parseCertificate(raw json.RawMessage) (Certificate, error) {
	var c Certificate
	fail := func(problem string) (Certificate, error) { return Certificate{}, certificateError(problem) }

	object, ok := parseObject(raw)
	if !ok {
		return fail(" must be a JSON object")
	}
	if issuer, present := object["issuer"]; present {
		if c.Issuer, ok = parseString(issuer); !ok {
			return fail(".issuer must be a string")
		}
	}
	_, c.HasClientID = object["clientId"]
	if version, ok := parseInteger(object["version"]); !ok || version != 1 {
		return fail(".version must be 1")
	}
	c.Version = 1
	if c.Seed, ok = parseString(object["seed"]); !ok {
		return fail(".seed must be a string")
	}
	// Control characters could move the line breaks of the signed text.
	if len(c.Seed) != seedLength || !printable(c.Seed) {
		return fail(".seed must be 44 characters")
	}
	if c.Start, ok = parseInteger(object["start"]); !ok {
		return fail(".start must be a number")
	}
	if c.Expiry, ok = parseInteger(object["expiry"]); !ok {
		return fail(".expiry must be a number")
	}
	var isArray bool
	if c.Scopes, isArray, ok = parseScopes(object["scopes"]); !isArray {
		return fail(".scopes must be an array")
	} else if !ok {
		return fail(".scopes must be an array of valid scopes")
	}
	c.Signature, _ = parseString(object["signature"])
	return c, nil
}

func parseString(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	// raw is one valid JSON value, so without escapes its text is as it stands.
	if s := string(raw[1 : len(raw)-1]); printable(s) && !strings.Contains(s, `\`) {
		return s, true
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// parseInteger accepts every way to write an integer (1e3, 1.0), as the
// signed text holds the plain form.
func parseInteger(raw json.RawMessage) (int64, bool) {
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, false
	}
	if f < -maxInteger || f > maxInteger || f != float64(int64(f)) {
		return 0, false
	}
	return int64(f), true
}

// CheckIssuer checks that a named certificate is not by the client it names,
// and that an unnamed one does not pretend to have a name.
func (c *Certificate) CheckIssuer(credentialName string) error {
	switch {
	case c.Issuer == credentialName && c.Issuer != "":
		return certificateError(".issuer must differ from the supplied clientId")
	case c.Issuer == "" && c.HasClientID:
		return certificateError(".clientId must only be used with ext.certificate.issuer")
	}
	return nil
}

// CheckTimes checks that the certificate is valid now, give or take
// CertificateSkew, and for no longer than MaxLifetime.
func (c *Certificate) CheckTimes(now time.Time) error {
	ms := now.UnixMilli()
	switch {
	case c.Start > ms+CertificateSkew.Milliseconds():
		return certificateError(".start > now")
	case c.Expiry < ms-CertificateSkew.Milliseconds():
		return certificateError(".expiry < now")
	case c.Expiry-c.Start > MaxLifetime.Milliseconds():
		return certificateError(" cannot last longer than 31 days!")
	}
	return nil
}

// CheckSignature checks that the issuer, whose access token is given, signed
// the certificate for credentialName. The text signed for an empty list of
// scopes ends in a line break with some clients and not with others; both pass.
func (c *Certificate) CheckSignature(credentialName, issuerToken string) error {
	s := signerPool.Get().(*signer)
	defer s.release()
	s.text = c.appendSigned(s.text[:0], credentialName)
	valid := subtle.ConstantTimeCompare(s.sign(issuerToken), []byte(c.Signature)) == 1
	if !valid && len(c.Scopes) == 0 {
		s.text = append(s.text, '\n')
		valid = subtle.ConstantTimeCompare(s.sign(issuerToken), []byte(c.Signature)) == 1
	}
	switch {
	case valid:
		return nil
	case c.Issuer != "":
		return certificateError(".signature is not valid, or wrong clientId provided")
	}
	return certificateError(".signature is not valid")
}

// appendSigned appends the text that the signature covers: lines joined by
// line breaks, none at the end.
func (c *Certificate) appendSigned(b []byte, credentialName string) []byte {
	b = append(b, "version:1"...)
	if c.Issuer != "" {
		b = append(b, "\nclientId:"...)
		b = append(b, credentialName...)
		b = append(b, "\nissuer:"...)
		b = append(b, c.Issuer...)
	}
	b = append(b, "\nseed:"...)
	b = append(b, c.Seed...)
	b = append(b, "\nstart:"...)
	b = strconv.AppendInt(b, c.Start, 10)
	b = append(b, "\nexpiry:"...)
	b = strconv.AppendInt(b, c.Expiry, 10)
	b = append(b, "\nscopes:"...)
	for _, scope := range c.Scopes {
		b = append(b, '\n')
		b = append(b, scope...)
	}
	return b
}

// Key returns the Hawk key of the temporary credentials.
func (c *Certificate) Key(issuerToken string) string {
	h := hmac.New(sha256.New, []byte(issuerToken))
	h.Write([]byte(c.Seed))
	var sum [sha256.Size]byte
	return base64.RawURLEncoding.EncodeToString(h.Sum(sum[:0]))
}

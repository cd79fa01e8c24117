package hawk

import (
	"slices"
	"strconv"
	"strings"
)

// issued reads a certificate in exactly the form in which Temporary writes it,
// and the official clients send it on: members in this order, no white space,
// no escapes, plain integers. c, unless nil, receives what parseCertificate would
// read from the same text. rest is what follows the certificate; ok is false
// for every other form, which may well be a valid certificate.
//
// A worker signs each call with its task's certificate, which is new to the
// server at the first: reading it as general JSON was most of its cost.
func issued(text string, c *Certificate) (rest string, ok bool) {
	r := issuedReader{text: text, ok: true}
	r.skip(`{"version":1,"scopes":[`)
	scopes := []string{}
	if !r.has(`]`) {
		for more := true; more && r.ok; more = r.has(`,`) {
			if s := r.string(); c != nil {
				if len(scopes) == 0 {
					scopes = slices.Grow(scopes, 4)
				}
				scopes = append(scopes, s)
			}
		}
		r.skip(`]`)
	}
	r.skip(`,"start":`)
	start := r.integer()
	r.skip(`,"expiry":`)
	expiry := r.integer()
	r.skip(`,"seed":`)
	seed := r.string()
	r.skip(`,"signature":`)
	signature := r.string()
	issuer := ""
	if r.has(`,"issuer":`) {
		issuer = r.string()
	}
	r.skip(`}`)
	if !r.ok || len(seed) != seedLength {
		return "", false
	}
	if c != nil {
		*c = Certificate{Version: 1, Scopes: scopes, Start: start, Expiry: expiry, Seed: seed, Signature: signature, Issuer: issuer}
	}
	return r.text, true
}

// issuedReader takes one part after the other from the front of text; ok turns
// false at the first that is not there.
type issuedReader struct {
	text string
	ok   bool
}

// has takes token if the text begins with it.
func (r *issuedReader) has(token string) (found bool) {
	r.text, found = strings.CutPrefix(r.text, token)
	return found
}

func (r *issuedReader) skip(token string) {
	if !r.has(token) {
		r.ok = false
	}
}

// string takes a string of printable ASCII without escapes.
func (r *issuedReader) string() string {
	if r.has(`"`) {
		for i := 0; i < len(r.text); i++ {
			switch b := r.text[i]; {
			case b == '"':
				s := r.text[:i]
				r.text = r.text[i+1:]
				return s
			case b == '\\' || b < 0x20 || b > 0x7e:
				r.ok = false
				return ""
			}
		}
	}
	r.ok = false
	return ""
}

// integer takes digits without a leading zero, few enough to be exact.
func (r *issuedReader) integer() int64 {
	n := 0
	for n < len(r.text) && r.text[n] >= '0' && r.text[n] <= '9' {
		n++
	}
	digits := r.text[:n]
	r.text = r.text[n:]
	if n == 0 || n > 15 || n > 1 && digits[0] == '0' {
		r.ok = false
		return 0
	}
	i, _ := strconv.ParseInt(digits, 10, 64)
	return i
}

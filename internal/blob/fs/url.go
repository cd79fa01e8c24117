package fs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"taskcluster/internal/blob"
	"taskcluster/internal/clock"
)

// A signed URL is <RootURL>/blob/<key>?expires=<seconds>&signature=<base64url>,
// for PUT with &contentType=… besides, and where they are bound &disposition=…
// and &length=…. The signature is HMAC-SHA256 over a version word, the method,
// the key, the expiry, the content type, and what else is bound with its name,
// one per line; none of them can hold a line break. A GET URL also serves HEAD.

// PutURL implements blob.Store.
func (s *Store) PutURL(_ context.Context, key string, u blob.Upload, valid time.Duration) (string, error) {
	if err := (blob.Info{ContentType: u.ContentType, ContentDisposition: u.ContentDisposition}).CheckHeaders(); err != nil {
		return "", err
	}
	if s.maxSize > 0 && u.Length > s.maxSize {
		return "", blob.ErrTooLarge
	}
	return s.signed(http.MethodPut, key, u, valid)
}

// GetURL implements blob.Store.
func (s *Store) GetURL(_ context.Context, key string, valid time.Duration) (string, error) {
	return s.signed(http.MethodGet, key, blob.Upload{Length: blob.AnyLength}, valid)
}

func (s *Store) signed(method, key string, upload blob.Upload, valid time.Duration) (string, error) {
	if err := blob.CheckKey(key); err != nil {
		return "", err
	}
	expires := strconv.FormatInt(s.clock.Now().Add(valid).Millis()/1000, 10)
	signature := s.sign(method, key, expires, upload)
	u := s.base + escapeKey(key) + "?expires=" + expires
	if method == http.MethodPut {
		u += "&contentType=" + url.QueryEscape(upload.ContentType)
		if upload.ContentDisposition != "" {
			u += "&disposition=" + url.QueryEscape(upload.ContentDisposition)
		}
		if upload.Length >= 0 {
			u += "&length=" + strconv.FormatInt(upload.Length, 10)
		}
	}
	return u + "&signature=" + signature, nil
}

// sign answers the signature of a URL, as it is written there.
func (s *Store) sign(method, key, expires string, upload blob.Upload) string {
	parts := []string{"taskcluster-blob-1", method, key, expires, upload.ContentType}
	if upload.ContentDisposition != "" {
		parts = append(parts, "disposition="+upload.ContentDisposition)
	}
	if upload.Length >= 0 {
		parts = append(parts, "length="+strconv.FormatInt(upload.Length, 10))
	}
	h := hmac.New(sha256.New, s.key)
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{'\n'})
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

var (
	errURL       = errors.New("this is not a signed URL of this deployment")
	errSignature = errors.New("the signature of the URL does not fit: wrong method, or the URL was changed")
	errExpired   = errors.New("the URL has expired")
)

// permit is what a signed URL allows.
type permit struct {
	key     string
	upload  blob.Upload // of a PUT
	expires clock.Time
}

// verify checks a URL (its escaped path and its raw query) for a method, which
// is GET or PUT.
func (s *Store) verify(method, escapedPath, rawQuery string) (permit, error) {
	escaped, ok := strings.CutPrefix(escapedPath, s.prefix)
	if !ok {
		return permit{}, errURL
	}
	key, err := url.PathUnescape(escaped)
	if err != nil || blob.CheckKey(key) != nil {
		return permit{}, errURL
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return permit{}, errURL
	}
	expires := query.Get("expires")
	upload := blob.Upload{ContentType: query.Get("contentType"), ContentDisposition: query.Get("disposition"), Length: blob.AnyLength}
	if length := query.Get("length"); length != "" {
		if upload.Length, err = strconv.ParseInt(length, 10, 64); err != nil || upload.Length < 0 {
			return permit{}, errURL
		}
	}
	// The text is compared, not its bytes: a signature has one spelling.
	if !hmac.Equal([]byte(query.Get("signature")), []byte(s.sign(method, key, expires, upload))) {
		return permit{}, errSignature
	}
	seconds, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		return permit{}, errURL
	}
	at := clock.OfMillis(seconds * 1000)
	if s.clock.Now() >= at {
		return permit{}, errExpired
	}
	return permit{key, upload, at}, nil
}

// escapeKey writes a key as the rest of a URL's path. Its slashes stay
// readable, except beside an empty, "." or ".." segment: browsers, proxies and
// routers would rewrite those, so there the slash is escaped too.
func escapeKey(key string) string {
	var b strings.Builder
	segments := strings.Split(key, "/")
	for i, segment := range segments {
		if i > 0 {
			if odd(segments[i-1]) || odd(segment) {
				b.WriteString("%2F")
			} else {
				b.WriteByte('/')
			}
		}
		b.WriteString(url.PathEscape(segment))
	}
	return b.String()
}

func odd(segment string) bool { return segment == "" || segment == "." || segment == ".." }

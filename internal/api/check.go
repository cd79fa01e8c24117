package api

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/andybalholm/brotli"

	"taskcluster/internal/schema"
	"taskcluster/internal/tcerr"
)

// MaxBody is the largest request body, in bytes, after inflating.
const MaxBody = 10 << 20

func malformedEscape(err error) error {
	return tcerr.New(tcerr.InvalidRequestArguments, "Invalid URL: %v", err)
}

// isJSON tells whether a content type is application/json, and refuses
// charsets other than UTF-8.
func isJSON(contentType string) (bool, error) {
	if contentType == "application/json" {
		return true, nil
	}
	t, params, err := mime.ParseMediaType(contentType)
	if err != nil || t != "application/json" {
		return false, nil
	}
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		return true, tcerr.New(tcerr.MalformedPayload, "unsupported charset %q: send the body as UTF-8", cs)
	}
	return true, nil
}

// readBody reads a JSON body, inflating it when it is compressed. Any other
// body is left unread, and counts as "{}".
func (c *Call) readBody(w http.ResponseWriter) error {
	c.body = emptyBody
	r := c.Request
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	ok, err := isJSON(r.Header.Get("Content-Type"))
	if !ok || err != nil {
		return err
	}
	inflate, err := inflation(r.Header.Get("Content-Encoding"))
	if err != nil {
		return err
	}
	// What inflates has large buffers, and gets to work when all is there.
	text, err := take(http.MaxBytesReader(w, r.Body, MaxBody), r.ContentLength)
	if err == nil && inflate != nil {
		var plain io.Reader
		if plain, err = inflate(bytes.NewReader(text)); err == nil {
			text, err = take(plain, 0)
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge) || len(text) > MaxBody:
		return tcerr.New(tcerr.InputTooLarge, "The body is larger than the %d bytes that are allowed", MaxBody)
	case err != nil:
		return unreadable(err)
	}
	c.raw = text
	if len(c.raw) == 0 {
		return nil
	}
	if c.method.input == nil {
		if !json.Valid(c.raw) {
			return tcerr.New(tcerr.MalformedPayload, "Failed to parse JSON: %v", json.Unmarshal(c.raw, new(any)))
		}
	}
	if first := bytes.TrimLeft(c.raw, " \t\r\n"); len(first) > 0 && first[0] != '{' && first[0] != '[' {
		if !json.Valid(c.raw) {
			return tcerr.New(tcerr.MalformedPayload, "Failed to parse JSON: %v", json.Unmarshal(c.raw, new(any)))
		}
		return tcerr.New(tcerr.MalformedPayload, "Must be an object or array")
	}
	c.body = c.raw
	return nil
}

// announced is how much room a body gets because its length was announced. It
// gets more as it arrives: to announce costs nothing.
const announced = 32 << 10

// take reads a body, or a byte more than is allowed. length may be not known.
func take(r io.Reader, length int64) ([]byte, error) {
	var buf bytes.Buffer
	if length > 0 {
		buf.Grow(int(min(length, announced)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(r, MaxBody+1))
	return buf.Bytes(), err
}

// inflation is how to read a body in a content encoding, nil if it is as it is.
func inflation(encoding string) (func(io.Reader) (io.Reader, error), error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return nil, nil
	case "gzip", "x-gzip":
		return func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }, nil
	case "deflate":
		return inflater, nil
	case "br":
		return func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }, nil
	}
	return nil, tcerr.New(tcerr.MalformedPayload, "unsupported content encoding %q: send the body as it is, or as gzip, deflate or br", strings.ToLower(encoding))
}

// unreadable explains a body that could not be read, without the addresses that
// network errors tell.
func unreadable(err error) error {
	why := "it is not what its Content-Encoding says"
	var network net.Error
	switch {
	case errors.As(err, &network) && network.Timeout():
		why = "it did not arrive in time"
	case errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF):
		why = "it ended too early"
	}
	return tcerr.Wrap(tcerr.MalformedPayload, err, "Failed to read the body: %s", why)
}

var emptyBody = []byte("{}")

// inflater reads "deflate", which is zlib by the standard and raw deflate by
// the habit of some senders.
func inflater(r io.Reader) (io.Reader, error) {
	var head [1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	r = io.MultiReader(bytes.NewReader(head[:]), r)
	if head[0]&0x0f == 8 {
		return zlib.NewReader(r)
	}
	return flate.NewReader(r), nil
}

// checkParams compares URL parameters with their patterns.
func (c *Call) checkParams() error {
	var problems []string
	for i, v := range c.params {
		if p := c.method.patterns[i]; p != nil && !p.match(v) {
			problems = append(problems, fmt.Sprintf("URL parameter '%s' given as '%s' must match regular expression: '/%s/'",
				c.method.route.names[i], v, p.source))
		} else if !isText(v) {
			problems = append(problems, fmt.Sprintf("URL parameter '%s' given as %q must be UTF-8 without NUL characters", c.method.route.names[i], v))
		}
	}
	if problems != nil {
		return tcerr.New(tcerr.InvalidRequestArguments, "Invalid URL patterns:\n%s", strings.Join(problems, "\n"))
	}
	return nil
}

// checkQuery admits declared query parameters, and "bewit".
func (c *Call) checkQuery() error {
	raw := c.Request.URL.RawQuery
	if len(c.method.Query) > 0 {
		c.query = make([]string, len(c.method.Query))
	}
	if raw == "" {
		return nil
	}
	given, err := url.ParseQuery(raw)
	if err != nil {
		return tcerr.New(tcerr.InvalidRequestArguments, "Query string is malformed: %v", err)
	}
	var problems []string
	for name, values := range given {
		if name == "bewit" {
			continue
		}
		i := c.method.queryIndex(name)
		switch {
		case i < 0:
			problems = append(problems, fmt.Sprintf("Query-string parameter: %s is not supported!", name))
		case len(values) > 1:
			problems = append(problems, fmt.Sprintf("Query-string parameter: %s must be a string!", name))
		case !c.method.Query[i].Pattern.match(values[0]):
			problems = append(problems, fmt.Sprintf("Query-string parameter: %s=%q %s", name, values[0], c.method.Query[i].Pattern.says()))
		case !isText(values[0]):
			problems = append(problems, fmt.Sprintf("Query-string parameter: %s=%q must be UTF-8 without NUL characters", name, values[0]))
		default:
			c.query[i] = values[0]
		}
	}
	if problems != nil {
		return tcerr.New(tcerr.InvalidRequestArguments, "%s", strings.Join(problems, "\n"))
	}
	return nil
}

// isText tells whether a database takes s as text.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// says is what is wrong with a query parameter that does not match.
func (p *Pattern) says() string {
	if p.problem != "" {
		return "is not valid, error: " + p.problem
	}
	return "does not match expression: /" + p.source + "/"
}

func (m *method) queryIndex(name string) int {
	for i := range m.Query {
		if m.Query[i].Name == name {
			return i
		}
	}
	return -1
}

// checkInput validates the body and fills in defaults.
func (c *Call) checkInput() error {
	m := c.method
	if m.input == nil {
		return nil
	}
	if ok, _ := isJSON(c.Request.Header.Get("Content-Type")); !ok {
		return tcerr.New(tcerr.MalformedPayload, "Payload must be JSON with content-type: application/json got content-type: %s",
			c.Request.Header.Get("Content-Type"))
	}
	doc, err := c.Accept(m.input, c.body)
	if err != nil {
		return err
	}
	c.body = doc
	return nil
}

// Accept checks a JSON text by a schema and fills in its defaults. It refuses
// in the words in which the framework refuses bodies, so that a method whose
// body holds other methods' bodies can answer for each of them.
func (c *Call) Accept(by *schema.Schema, text []byte) ([]byte, error) {
	doc, problems, err := by.Accept(text)
	if err != nil {
		return nil, tcerr.New(tcerr.MalformedPayload, "Failed to parse JSON: %v", err)
	}
	if len(problems) > 0 {
		return nil, tcerr.New(tcerr.InputValidationError, "%s", schema.ErrorText(c.server.rootURL+by.ID(), problems))
	}
	return doc, nil
}

// Schema is a schema of the service that was called: "v1/task.json#".
func (c *Call) Schema(ref string) (*schema.Schema, error) {
	return c.server.schemas.Schema(c.method.service.Name, ref)
}

package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"taskcluster/internal/tcerr"
)

// writeAnswer sends what a handler returned.
func (s *Server) writeAnswer(c *Call, w http.ResponseWriter, answer any) int {
	status := http.StatusOK
	if r, ok := answer.(*Response); ok {
		for k, v := range r.Header {
			w.Header()[k] = v
		}
		if r.Status != 0 {
			status = r.Status
		}
		answer = r.Body
	}
	if answer == nil {
		if c.method.Output != "" && c.method.Output != Blob && status == http.StatusOK {
			return s.writeError(c, w, fmt.Errorf("%s answered nothing but declares the output %s", c.method.Name, c.method.Output))
		}
		if status == http.StatusOK {
			status = http.StatusNoContent
		}
		w.WriteHeader(status)
		return status
	}
	if stream, ok := answer.(Stream); ok {
		if c.Request.Method == http.MethodHead {
			w.WriteHeader(status)
			return status
		}
		c.stream = stream
		return status
	}
	if text, ok := answer.(Text); ok {
		w.Header()["Content-Type"] = textType
		w.WriteHeader(status)
		io.WriteString(w, string(text)) // net/http leaves it out of answers to HEAD
		return status
	}
	body, ok := answer.(JSON)
	if !ok {
		b, err := marshal(answer)
		if err != nil {
			return s.writeError(c, w, err)
		}
		body = b
	}
	writeJSON(w, c.Request, status, body)
	return status
}

func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// compressAbove is the size in bytes from which answers are compressed for
// callers who accept that.
const compressAbove = 1024

func writeJSON(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	if status == http.StatusOK && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		tag := entityTag(body)
		h["Etag"] = []string{tag}
		if matches(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if len(body) > compressAbove && h.Get("Content-Encoding") == "" && acceptsGzip(r) {
		body = compress(body)
		h.Set("Content-Encoding", "gzip")
		h.Set("Vary", "Accept-Encoding")
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

// entityTag is the weak tag of an answer: its length and a checksum.
func entityTag(body []byte) string {
	b := make([]byte, 0, 32)
	b = append(b, `W/"`...)
	b = strconv.AppendInt(b, int64(len(body)), 16)
	b = append(b, '-')
	b = strconv.AppendUint(b, crc64.Checksum(body, entityTable), 16)
	return string(append(b, '"'))
}

var entityTable = crc64.MakeTable(crc64.ECMA)

// matches compares an If-None-Match header with a tag, weakly.
func matches(header, tag string) bool {
	if header == "" {
		return false
	}
	for _, h := range strings.Split(header, ",") {
		if h = strings.TrimSpace(h); h == "*" || strings.TrimPrefix(h, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, q, _ := strings.Cut(part, ";")
		if c := strings.TrimSpace(coding); c == "gzip" || c == "*" {
			return strings.ReplaceAll(q, " ", "") != "q=0"
		}
	}
	return false
}

func compress(body []byte) []byte {
	var buf bytes.Buffer
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(&buf)
	z.Write(body)
	z.Close()
	return buf.Bytes()
}

var gzipWriters = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return z
}}

// errorBody is the published form of an error.
type errorBody struct {
	Code        tcerr.Code  `json:"code"`
	Message     string      `json:"message"`
	RequestInfo requestInfo `json:"requestInfo"`
}

type requestInfo struct {
	Method  string            `json:"method"`
	Params  map[string]string `json:"params"`
	Payload any               `json:"payload"`
	Time    string            `json:"time"`
}

// statusClientGone stands for a request whose sender went away before the
// answer. It is seen in metrics and logs only.
const statusClientGone = 499

// writeError answers in the published error format. What is not a *tcerr.Error
// is logged with an incident id, and only the id reaches the caller. An outage is
// one incident, however many it refuses.
func (s *Server) writeError(c *Call, w http.ResponseWriter, err error) int {
	if c.Context.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(c.Context))) {
		return statusClientGone
	}
	var e *tcerr.Error
	if !errors.As(err, &e) || e.Code == tcerr.InternalServerError {
		var incident string
		if what, ok := outageOf(err); ok {
			c.outage, incident = true, s.refusedByOutage(what, err)
		} else {
			incident = newUUID()
			s.log.Error("incident", "incidentId", incident, "service", c.method.service.Name, "name", c.method.Name,
				"requestId", w.Header()["X-For-Request-Id"][0], "traceId", w.Header()["X-For-Trace-Id"][0], "error", err.Error())
		}
		e = tcerr.New(tcerr.InternalServerError, "Internal Server Error, incidentId %s.", incident)
	}
	status := e.Code.Status()
	now := s.clock.Now().String()
	message := fmt.Sprintf("%s\n\n---\n\n* method:     %s\n* errorCode:  %s\n* statusCode: %d\n* time:       %s",
		e.Message, c.method.Name, e.Code, status, now)
	body, err := marshal(errorBody{Code: e.Code, Message: message, RequestInfo: requestInfo{
		Method: c.method.Name, Params: c.paramsMap(), Payload: c.payload(), Time: now,
	}})
	if err != nil {
		body = fmt.Appendf(nil, `{"code":%q,"message":%q}`, e.Code, e.Message)
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "hawk")
	}
	writeJSON(w, c.Request, status, body)
	return status
}

func panicError(p any) error {
	return fmt.Errorf("panic: %v\n%s", p, debug.Stack())
}

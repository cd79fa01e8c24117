package fs

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"taskcluster/internal/blob"
)

// stalled is how long a peer may neither send nor take a byte.
const stalled = 2 * time.Minute

// Handler serves signed URLs. It is mounted at /blob/ of the root URL and needs
// the request's path as it was sent: nothing in front may clean or decode it.
func (s *Store) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Store) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "*")
	h.Set("X-Content-Type-Options", "nosniff")
	switch r.Method {
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "GET, PUT, HEAD")
		h.Set("Access-Control-Allow-Headers", "*")
		h.Set("Access-Control-Max-Age", "3600")
		w.WriteHeader(http.StatusNoContent)
	case http.MethodGet, http.MethodHead:
		s.get(w, r)
	case http.MethodPut:
		s.put(w, r)
	default:
		h.Set("Allow", "GET, HEAD, PUT, OPTIONS")
		refuse(w, http.StatusMethodNotAllowed, "InputError", "a signed URL takes GET, HEAD, PUT and OPTIONS")
	}
}

func (s *Store) put(w http.ResponseWriter, r *http.Request) {
	p, err := s.verify(http.MethodPut, r.URL.EscapedPath(), r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusForbidden, "AuthenticationFailed", err.Error())
		return
	}
	for _, bound := range [][2]string{{"Content-Type", p.upload.ContentType}, {"Content-Disposition", p.upload.ContentDisposition}} {
		if got := r.Header.Get(bound[0]); got != bound[1] && (bound[1] != "" || bound[0] == "Content-Type") {
			refuse(w, http.StatusForbidden, "InputError",
				"the URL is for "+bound[0]+" "+strconv.Quote(bound[1])+", the request has "+strconv.Quote(got))
			return
		}
	}
	if p.upload.Length >= 0 && r.ContentLength != p.upload.Length {
		refuse(w, http.StatusForbidden, "InputError", "the URL is for a body of "+strconv.FormatInt(p.upload.Length, 10)+
			" bytes, and the request must say so with Content-Length; it says "+strconv.FormatInt(r.ContentLength, 10))
		return
	}
	if s.maxSize > 0 && r.ContentLength > s.maxSize {
		s.failed(w, blob.ErrTooLarge)
		return
	}
	meta := blob.Info{ContentType: p.upload.ContentType, ContentDisposition: p.upload.ContentDisposition,
		ContentEncoding: r.Header.Get("Content-Encoding")}
	if meta.ContentEncoding == "identity" {
		meta.ContentEncoding = ""
	}
	control := http.NewResponseController(w)
	body := &patientReader{r.Body, control}
	info, err := s.Put(r.Context(), p.key, meta, body)
	control.SetWriteDeadline(time.Now().Add(stalled)) // however long the body took
	if err != nil {
		s.failed(w, err)
		return
	}
	w.Header().Set("ETag", quote(info.ETag))
	w.WriteHeader(http.StatusOK)
}

func (s *Store) get(w http.ResponseWriter, r *http.Request) {
	p, err := s.verify(http.MethodGet, r.URL.EscapedPath(), r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusForbidden, "AuthenticationFailed", err.Error())
		return
	}
	f, t, err := s.open(p.key)
	if err != nil {
		s.failed(w, err)
		return
	}
	defer f.Close()

	h := w.Header()
	if t.ContentType != "" {
		h.Set("Content-Type", t.ContentType)
	} else {
		h["Content-Type"] = nil // else the server would guess one
	}
	if t.ContentDisposition != "" {
		h.Set("Content-Disposition", t.ContentDisposition)
	}
	// A task's page may run its own scripts, but in an origin of its own, where
	// it can neither call the API as the viewer nor read the site's storage.
	h.Set("Content-Security-Policy", "sandbox allow-scripts allow-forms allow-popups allow-downloads")
	h.Set("Referrer-Policy", "no-referrer") // the address holds a signature
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Cache-Control", "private, no-cache")
	w = &patientWriter{w, http.NewResponseController(w)}

	stored := &window{f, t.Size}
	if t.ContentEncoding == "gzip" {
		h.Set("Vary", "Accept-Encoding")
		if !acceptsGzip(r.Header.Values("Accept-Encoding")) {
			if z, err := gzip.NewReader(stored); err == nil {
				serveDecoded(w, r, z, t)
				return
			}
			// Not gzip after all: it is served as it was uploaded.
			stored.Seek(0, io.SeekStart)
		}
	}
	if t.ContentEncoding != "" {
		h.Set("Content-Encoding", t.ContentEncoding)
		h.Set("Content-Length", strconv.FormatInt(t.Size, 10)) // ServeContent leaves it out of encoded answers
	}
	h.Set("ETag", quote(t.etag()))
	http.ServeContent(w, r, "", time.Time{}, stored)
}

// serveDecoded answers a client that cannot take gzip. Offsets into the text
// are unknown without decoding all of it, so there are no ranges.
func serveDecoded(w http.ResponseWriter, r *http.Request, z *gzip.Reader, t trailer) {
	h := w.Header()
	etag := quote(t.etag() + "-decoded")
	h.Set("ETag", etag)
	h.Set("Accept-Ranges", "none")
	for part := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if part = strings.TrimSpace(part); part == etag || part == "W/"+etag || part == "*" {
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(w, z); err != nil {
		panic(http.ErrAbortHandler) // the client must not take a part for the whole
	}
}

// failed answers with an error of the store itself. What an operator has to
// look into is not told to the client.
func (s *Store) failed(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, blob.ErrNotFound):
		refuse(w, http.StatusNotFound, "ResourceNotFound", "nothing was uploaded here, or it has expired")
	case errors.Is(err, blob.ErrTooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, "InputTooLarge",
			"an object may have at most "+strconv.FormatInt(s.maxSize, 10)+" bytes here")
	case errors.Is(err, blob.ErrDiskFull):
		s.log.Error("artifact store is full", "error", err)
		refuse(w, http.StatusInsufficientStorage, "InternalServerError",
			"the disk of the artifact store is full; nothing was kept of this upload")
	case errors.Is(err, blob.ErrInvalid):
		refuse(w, http.StatusBadRequest, "InputError", err.Error())
	case errors.Is(err, io.ErrUnexpectedEOF):
		refuse(w, http.StatusBadRequest, "InputError", "the upload ended early; nothing was kept of it")
	default:
		s.log.Error("artifact store failed", "error", err)
		refuse(w, http.StatusInternalServerError, "InternalServerError", "the artifact store failed; try again")
	}
}

// refuse answers with an error in the form of the API's.
func refuse(w http.ResponseWriter, status int, code, message string) {
	body, _ := json.Marshal(map[string]string{"code": code, "message": message})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

func quote(etag string) string { return `"` + etag + `"` }

// acceptsGzip reads Accept-Encoding. A client that sends none is taken to
// want the text: command-line tools that cannot decode do just that.
func acceptsGzip(values []string) bool {
	any := false
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		coding, params, _ := strings.Cut(part, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "gzip" && coding != "x-gzip" && coding != "*" {
			continue
		}
		accepted := true
		if q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
			weight, err := strconv.ParseFloat(q, 64)
			accepted = err != nil || weight > 0
		}
		if coding != "*" {
			return accepted
		}
		any = accepted
	}
	return any
}

// patientReader and patientWriter replace the server's limit on the whole
// transfer by one on each step: large objects take as long as they take.
type patientReader struct {
	io.Reader
	control *http.ResponseController
}

func (p *patientReader) Read(b []byte) (int, error) {
	p.control.SetReadDeadline(time.Now().Add(stalled)) // not supported under tests' recorders
	return p.Reader.Read(b)
}

type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p *patientWriter) Write(b []byte) (int, error) {
	p.control.SetWriteDeadline(time.Now().Add(stalled))
	return p.ResponseWriter.Write(b)
}

// sendStep is how much of a file the kernel is told to send at once. A peer
// that takes less than that within stalled is cut off, which is 20 kB/s.
const sendStep = 2 << 20

// ReadFrom sends what http.ServeContent copies from a window by the kernel,
// without its bytes passing through here.
func (p *patientWriter) ReadFrom(src io.Reader) (n int64, err error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{p}, src)
	}
	stored, ok := limited.R.(*window)
	if !ok {
		return io.Copy(struct{ io.Writer }{p}, src)
	}
	for limited.N > 0 && err == nil {
		p.control.SetWriteDeadline(time.Now().Add(stalled))
		var sent int64
		sent, err = io.CopyN(p.ResponseWriter, stored.File, min(limited.N, sendStep))
		n, limited.N = n+sent, limited.N-sent
	}
	return n, err
}

// window is the file of an object without its trailer.
type window struct {
	*os.File
	size int64
}

// Read implements io.Reader.
func (w *window) Read(b []byte) (int, error) {
	at, err := w.File.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if at >= w.size {
		return 0, io.EOF
	}
	return w.File.Read(b[:min(int64(len(b)), w.size-at)])
}

// Seek implements io.Seeker.
func (w *window) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		offset, whence = w.size+offset, io.SeekStart
	}
	return w.File.Seek(offset, whence)
}

// WriteTo would have io.Copy send the trailer too.
func (w *window) WriteTo(to io.Writer) (int64, error) {
	return io.Copy(to, struct{ io.Reader }{w})
}

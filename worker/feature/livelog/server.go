// Package livelog lets people read a task's log while it runs, and keeps it
// afterwards.
//
// While the task runs, `public/logs/live.log` (the payload may name it
// otherwise) is a reference to a URL of the worker under a random token. At the
// end the log is uploaded as `public/logs/live_backing.log`, and live.log
// becomes a link to that.
package livelog

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"taskcluster/worker/tasklog"
)

// Server serves logs at <URL>/log/<token>, each from its first byte and
// following it until it ends, to any number of readers. It is an http.Handler
// that may be mounted below any path.
type Server struct {
	url string

	mu   sync.Mutex
	logs map[string]*tasklog.Log
}

// NewServer makes a server that readers reach at the URL.
func NewServer(url string) *Server {
	return &Server{url: strings.TrimRight(url, "/"), logs: map[string]*tasklog.Log{}}
}

// Add offers a log and returns its URL. After remove there are no new readers;
// those who read already come to the log's end.
func (s *Server) Add(l *tasklog.Log) (url string, remove func()) {
	token := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[token] = l
	return s.url + "/log/" + token, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.logs, token)
	}
}

// stalled is how long a reader may not take a byte.
const stalled = 2 * time.Minute

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Transfer-Encoding")
	h.Set("X-Content-Type-Options", "nosniff")
	dir, token := path.Split(r.URL.Path)
	if !strings.HasSuffix(dir, "/log/") {
		refuse(w, http.StatusNotFound, "ResourceNotFound", "live logs are at /log/<token> only")
		return
	}
	switch r.Method {
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "GET, HEAD")
		h.Set("Access-Control-Allow-Headers", "*")
		h.Set("Access-Control-Max-Age", "3600")
		w.WriteHeader(http.StatusNoContent)
		return
	case http.MethodGet, http.MethodHead:
	default:
		h.Set("Allow", "GET, HEAD, OPTIONS")
		refuse(w, http.StatusMethodNotAllowed, "InputError", "a log takes GET, HEAD and OPTIONS")
		return
	}
	s.mu.Lock()
	log := s.logs[token]
	s.mu.Unlock()
	if log == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFound", "there is no such live log: its run has ended, or the address is wrong")
		return
	}
	reader, err := log.Follow(r.Context())
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalServerError", "the log cannot be read; try again")
		return
	}
	defer reader.Close()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies must pass on each part at once
	if r.Method == http.MethodHead {
		return
	}
	stream(w, reader)
}

// refuse answers with an error in the form of the API's.
func refuse(w http.ResponseWriter, status int, code, message string) {
	body, _ := json.Marshal(map[string]string{"code": code, "message": message})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// stream copies and flushes each part as it comes. Each has a limit of its own,
// in place of the server's on the whole answer.
func stream(w http.ResponseWriter, r io.Reader) {
	control := http.NewResponseController(w)
	patient := func() { control.SetWriteDeadline(time.Now().Add(stalled)) }
	patient()
	if control.Flush() != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		patient() // also for the end: a log may be silent for long before it
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if control.Flush() != nil {
				return
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the reader must not take a part for the whole
		}
	}
}

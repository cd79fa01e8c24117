package fs

import (
	"io"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/blob"
)

// TestConstantMemory: an object that is a hundred times as large takes the same
// memory to upload and to download.
func TestConstantMemory(t *testing.T) {
	s := over(t)
	allocated := func(size int64) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sendTo(t, s, "k/x", size)
		fetch(t, s, "k/x", size)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	allocated(1 << 20) // connections and buffers
	small, large := allocated(1<<20), allocated(100<<20)
	t.Logf("%d bytes allocated for 1 MiB, %d for 100 MiB", small, large)
	if large > small+(2<<20) {
		t.Errorf("%d bytes allocated for 1 MiB, %d for 100 MiB", small, large)
	}
}

// fileWriter is a http.ResponseWriter that can send files by the kernel.
type fileWriter struct {
	*httptest.ResponseRecorder
	files int64
}

func (w *fileWriter) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if ok {
		if _, ok = limited.R.(*os.File); ok {
			w.files += limited.N
		}
	}
	return io.Copy(struct{ io.Writer }{w.ResponseRecorder}, src)
}

// TestKernelSends: whole objects and ranges of them go to the socket as files,
// and no further than the object.
func TestKernelSends(t *testing.T) {
	s := over(t)
	content := strings.Repeat("0123456789", 600_000)
	if _, err := s.Put(t.Context(), "k/x", blob.Info{ContentType: "a/b"}, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	u, err := s.GetURL(t.Context(), "k/x", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]string{
		"": content, "bytes=5-": content[5:], "bytes=-7": content[len(content)-7:], "bytes=100-199": content[100:200],
		"bytes=5999990-9999999": content[5999990:],
	} {
		w := &fileWriter{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("GET", u[strings.Index(u, "/blob/"):], nil)
		if header != "" {
			r.Header.Set("Range", header)
		}
		s.Handler().ServeHTTP(w, r)
		if w.Body.String() != want || w.files != int64(len(want)) {
			t.Errorf("%q: %d bytes, %d of them from the file, want %d", header, w.Body.Len(), w.files, len(want))
		}
	}
	// Several ranges are put together here.
	w := &fileWriter{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest("GET", u[strings.Index(u, "/blob/"):], nil)
	r.Header.Set("Range", "bytes=0-4,10-14")
	s.Handler().ServeHTTP(w, r)
	if n := strings.Count(w.Body.String(), "01234"); w.Code != 206 || n != 2 || w.files != 0 {
		t.Error(w.Code, n, w.files)
	}
}

package api

import (
	"fmt"
	"hash/crc64"
	"testing"
)

// Each read renders a tag, so it may cost no more than its own text.
func TestEntityTag(t *testing.T) {
	for _, body := range []string{"", "{}", `{"status":{"taskId":"fN1SbArXTPSVFNUvaOlinQ"}}`} {
		want := fmt.Sprintf(`W/"%x-%x"`, len(body), crc64.Checksum([]byte(body), entityTable))
		if got := entityTag([]byte(body)); got != want {
			t.Errorf("%q: %s, want %s", body, got, want)
		}
	}
	body := []byte(`{"status":{}}`)
	if n := testing.AllocsPerRun(100, func() { entityTag(body) }); n > 1 {
		t.Errorf("%.0f allocations", n)
	}
}

package slugid

import (
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"
)

var pattern = regexp.MustCompile(Pattern)

func TestNewMatchesPattern(t *testing.T) {
	for range 5000 {
		if s := New().String(); !pattern.MatchString(s) {
			t.Fatalf("New made %q, which Pattern does not match", s)
		}
	}
}

func TestNiceStartsWithALetter(t *testing.T) {
	nice := regexp.MustCompile(`^[A-Za-f]`)
	for range 5000 {
		s := Nice().String()
		if !pattern.MatchString(s) || !nice.MatchString(s) {
			t.Fatalf("Nice made %q", s)
		}
	}
}

func TestNewNeverRepeats(t *testing.T) {
	const workers, each = 8, 2000
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := make(map[ID]bool)
	for range workers {
		wg.Go(func() {
			mine := make([]ID, each)
			for i := range mine {
				mine[i] = New()
			}
			mu.Lock()
			defer mu.Unlock()
			for _, id := range mine {
				seen[id] = true
			}
		})
	}
	wg.Wait()
	if len(seen) != workers*each {
		t.Fatalf("%d different ids of %d", len(seen), workers*each)
	}
}

func TestParse(t *testing.T) {
	for _, s := range []string{
		"AAAAAAAAQACAAAAAAAAAAA",
		"VdQ7Fs5SQgOJKVW2r0XTdQ",
		"fN1SbArXTPSVFNUvaOlinQ",
	} {
		id, err := Parse(s)
		if got := pattern.MatchString(s); got != (err == nil) {
			t.Errorf("%q: pattern %v, Parse %v", s, got, err)
		}
		if err == nil && id.String() != s {
			t.Errorf("%q came back as %q", s, id)
		}
	}
	for _, s := range []string{
		"", "A", strings.Repeat("A", 22), strings.Repeat("A", 23),
		"AAAAAAAAQACAAAAAAAAAA",    // 21 characters
		"AAAAAAAAQACAAAAAAAAAAAA",  // 23
		"AAAAAAAAQACAAAAAAAAAAB",   // unused bits set
		"AAAAAAAAUACAAAAAAAAAAA",   // version 5
		"AAAAAAAAQADAAAAAAAAAAA",   // other variant
		"AAAA+AAAQACAAAAAAAAAAA",   // standard base64
		"AAAA AAAQACAAAAAAAAAAA",   // space
		"AAAAAAAAQACAAAAAAAAA\n\n", // line breaks the decoder would skip
		"AAAAAAAAQACAAAAAAAAAA\n",
		"AAAAAAAAQACAAAAAAAAAA=",
		"é2345678Q0C1234567890",
	} {
		if id, err := Parse(s); err == nil || id != (ID{}) {
			t.Errorf("Parse(%q) = %v, %v", s, id, err)
		}
		if pattern.MatchString(s) {
			t.Errorf("bad case: Pattern matches %q", s)
		}
	}
}

func TestKnownUUID(t *testing.T) {
	// 550e8400-e29b-41d4-a716-446655440000
	want := ID{0x55, 0x0e, 0x84, 0x00, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0x00, 0x00}
	if got := MustParse("VQ6EAOKbQdSnFkRmVUQAAA"); got != want {
		t.Errorf("got % x", got[:])
	}
	if got := want.String(); got != "VQ6EAOKbQdSnFkRmVUQAAA" {
		t.Errorf("got %q", got)
	}
}

func TestMustParsePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	MustParse("nonsense")
}

func TestJSON(t *testing.T) {
	type doc struct {
		ID   ID `json:"id"`
		None ID `json:"none,omitzero"`
	}
	in := doc{ID: MustParse("VQ6EAOKbQdSnFkRmVUQAAA")}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"id":"VQ6EAOKbQdSnFkRmVUQAAA"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var out doc
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Fatalf("%v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"id":"x"}`), &out); err == nil {
		t.Fatal("bad id accepted")
	}
}

func TestAllocations(t *testing.T) {
	id, text, buf := New(), New().String(), make([]byte, 0, 64)
	for _, c := range []struct {
		name string
		max  float64
		f    func()
	}{
		{"New", 0, func() { id = New() }},
		{"Parse", 0, func() { id, _ = Parse(text) }},
		{"AppendTo", 0, func() { buf = id.AppendTo(buf[:0]) }},
		{"String", 1, func() { text = id.String() }},
	} {
		// AllocsPerRun rounds down, so a collection that empties the pool once
		// does not disturb.
		if got := testing.AllocsPerRun(1000, c.f); got > c.max {
			t.Errorf("%s allocates %v times, allowed %v", c.name, got, c.max)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("VQ6EAOKbQdSnFkRmVUQAAA")
	f.Add("AAAAAAAAQACAAAAAAAAA\n\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Parse(s)
		if (err == nil) != pattern.MatchString(s) {
			t.Fatalf("%q: Pattern and Parse disagree: %v", s, err)
		}
		if err == nil && id.String() != s {
			t.Fatalf("%q came back as %q", s, id)
		}
	})
}

func FuzzString(f *testing.F) {
	f.Add([]byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 16 {
			return
		}
		id := ID(b[:16])
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
		if got, err := Parse(id.String()); err != nil || got != id {
			t.Fatalf("% x -> %q -> % x, %v", id[:], id, got[:], err)
		}
	})
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		New()
	}
}

func BenchmarkParse(b *testing.B) {
	s := New().String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkString(b *testing.B) {
	id := New()
	b.ReportAllocs()
	for b.Loop() {
		_ = id.String()
	}
}

package clock

import (
	"encoding/json"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"2026-01-02T03:04:05Z":             "2026-01-02T03:04:05.000Z",
		"2026-01-02t03:04:05.1z":           "2026-01-02T03:04:05.100Z",
		"2026-01-02 03:04:05.123987654321": "2026-01-02T03:04:05.123Z",
		"2026-01-02T03:04:05+01:30":        "2026-01-02T01:34:05.000Z",
		"2026-01-02T03:04:05-0130":         "2026-01-02T04:34:05.000Z",
		"2024-02-29T00:00:00.000Z":         "2024-02-29T00:00:00.000Z",
	} {
		got, err := Parse(in)
		if err != nil || got.String() != want {
			t.Errorf("Parse(%q) = %v, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "2026-01-02", "2026-01-02T03:04Z", "2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z",
		"2026-01-02T24:00:00Z", "2026-01-02T23:59:60Z", "2026-01-02T03:04:05+01", "2026-01-02T03:04:05.Z",
		"2026-13-02T03:04:05Z", "2026-01-02X03:04:05Z", "2026-01-02T03:04:05Zz", "2026-01-02T03:04:05+24:00",
	} {
		if got, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", in, got)
		}
	}
}

func TestJSON(t *testing.T) {
	at := Of(time.Date(2026, 5, 4, 3, 2, 1, 987654000, time.UTC))
	b, err := json.Marshal(at)
	if err != nil || string(b) != `"2026-05-04T03:02:01.987Z"` {
		t.Fatalf("%s, %v", b, err)
	}
	var back Time
	if err := json.Unmarshal(b, &back); err != nil || back != at.Truncate() {
		t.Fatalf("%v, %v", back, err)
	}
}

func TestFake(t *testing.T) {
	f := NewFake(OfMillis(1000))
	due, _ := f.After(f.Now().Add(time.Second))
	gone, cancel := f.After(f.Now().Add(time.Second))
	cancel()
	select {
	case <-due:
		t.Fatal("fired early")
	default:
	}
	f.Advance(time.Second)
	<-due
	select {
	case <-gone:
		t.Fatal("a cancelled timer fired")
	default:
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2026-01-02T03:04:05.123Z")
	f.Add("2026-01-02 03:04:05+0100")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if err != nil || got < 0 {
			return
		}
		again, err := Parse(got.String())
		if err != nil || again != got {
			t.Fatalf("%q -> %v -> %v, %v", s, got, again, err)
		}
	})
}

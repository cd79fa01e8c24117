package clock

import (
	"encoding/json"
	"sync"
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
		if err != nil || got < 0 || got.Std().Year() > 9999 {
			return // what lies before 1970 or after 9999 is written in another form
		}
		again, err := Parse(got.String())
		if err != nil || again != got {
			t.Fatalf("%q -> %v -> %v, %v", s, got, again, err)
		}
	})
}

// TestAppend compares with the standard library.
func TestAppend(t *testing.T) {
	for _, s := range []string{"1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "2000-02-29T12:00:00Z", "1900-02-28T23:59:59Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"} {
		std, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := Of(std).String(), std.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	at := Of(time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC))
	for range 200_000 {
		at = at.Add(17*time.Hour + 13*time.Minute + 7*time.Second + 211*time.Millisecond + 3*time.Microsecond)
		if got, want := at.String(), at.Std().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	for in, want := range map[string]string{
		"9999-12-31T23:59:59-01:00": "+010000-01-01T00:59:59.000Z",
		"0000-01-01T00:00:00+01:00": "-000001-12-31T23:00:00.000Z",
	} {
		if got, err := Parse(in); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	b := make([]byte, 0, 32)
	if n := testing.AllocsPerRun(100, func() { b = at.Append(b[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, 32)
	at := Of(time.Now())
	for b.Loop() {
		buf = at.Append(buf[:0])
	}
}

// What became due when the machine's clock was set is noticed.
func TestClockIsSet(t *testing.T) {
	var mu sync.Mutex
	now := Time(0)
	tell := func() Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	set := func(to Time) {
		mu.Lock()
		defer mu.Unlock()
		now = to
	}
	due, _ := after(tell().Add(time.Hour), tell, time.Millisecond)
	gone, cancel := after(tell().Add(time.Hour), tell, time.Millisecond)
	cancel()
	set(tell().Add(30 * time.Minute))
	select {
	case <-due:
		t.Fatal("early")
	case <-time.After(20 * time.Millisecond):
	}
	set(tell().Add(30 * time.Minute))
	<-due
	select {
	case <-gone:
		t.Error("it was given up")
	case <-time.After(20 * time.Millisecond):
	}

	set(Time(0).Add(time.Hour))
	began := time.Now()
	due, _ = after(tell().Add(30*time.Millisecond), tell, time.Hour)
	set(0)
	<-due
	if waited := time.Since(began); waited < 30*time.Millisecond {
		t.Errorf("early, after %v", waited)
	}
}

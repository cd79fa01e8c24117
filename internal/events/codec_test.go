package events

import (
	"reflect"
	"strings"
	"testing"
)

func encode(events ...Event) []byte {
	var enc encoder
	enc.reset()
	for i := range events {
		enc.add(&events[i])
	}
	return enc.buf
}

func TestCodec(t *testing.T) {
	events := []Event{
		{Exchange: "x/a", Key: "k.1", CC: []string{"route.a", "", strings.Repeat("l", 255)}, Payload: []byte(`{"version":1}`)},
		{Exchange: "x/b", Key: "", Payload: []byte{}},
		{Exchange: "x/a", Key: "k.2", Payload: []byte(strings.Repeat("p", 100_000))},
		{Exchange: "x/b", Key: "é", CC: []string{"c"}, Payload: []byte("{}")},
	}
	row := encode(events...)
	got, err := decode(row)
	if err != nil || !reflect.DeepEqual(got, events) {
		t.Fatalf("%v, %v", got, err)
	}
	for end := range len(row) - 1 {
		cut, err := decode(row[:end])
		if err == nil && (len(cut) >= len(events) || !reflect.DeepEqual(cut, events[:len(cut)]) && len(cut) > 0) {
			t.Fatalf("a row cut at %d reads as %d events", end, len(cut))
		}
	}
	for _, bad := range []string{"", "\x02", "\x01\x05", "\x01\x00\x01x", "\x01\x00\x01x\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if events, err := decode([]byte(bad)); err == nil {
			t.Errorf("%q reads as %v", bad, events)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(Event{Exchange: "x", Key: "k", CC: []string{"a", "b"}, Payload: []byte("{}")}, Event{Exchange: "x", Payload: []byte("1")}))
	f.Add([]byte("\x01\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, row []byte) {
		events, err := decode(row)
		if err != nil {
			return
		}
		again, err := decode(encode(events...))
		if err != nil || !reflect.DeepEqual(events, again) {
			t.Fatalf("%x\n%v\n%v, %v", row, events, again, err)
		}
	})
}

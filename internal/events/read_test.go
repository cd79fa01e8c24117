package events

import (
	"bytes"
	"context"
	"testing"

	"taskcluster/internal/store"
)

// However many rows there are, and however large, Read goes through all of them,
// with few statements for small ones and little memory for large ones.
func TestReadInParts(t *testing.T) {
	s, l := newLog(t, Options{})
	const rows = 3 * firstRows
	for n := range rows {
		publish(t, s, l, n, n+1)
	}
	before := s.Stats().Statements
	messages, err := l.Read(t.Context(), 0, 10*rows)
	if err != nil || len(messages) != rows {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	if n := s.Stats().Statements - before; n != 2 {
		t.Errorf("it took %d statements", n)
	}
	for n, m := range messages {
		if want := event(n); m.Key != want.Key || !bytes.Equal(m.Payload, want.Payload) || m.Position.row() != messages[0].Position.row()+int64(n) {
			t.Fatalf("message %d is %s at %d", n, m.Key, m.Position)
		}
	}
	if some, err := l.Read(t.Context(), messages[4].Position, 2*firstRows); err != nil || len(some) != 2*firstRows || some[0].Key != messages[5].Key {
		t.Errorf("%d messages behind the fifth, %v", len(some), err)
	}

	const large = 10
	for n := range large {
		if err := s.Write(context.Background(), func(tx *store.Tx) error {
			e := event(n)
			e.Payload = bytes.Repeat([]byte{'x'}, readBytes/4)
			l.Publish(tx, e)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for after, left := messages[rows-1].Position, large; left > 0; {
		some, err := l.Read(t.Context(), after, 10*rows)
		if err != nil || len(some) == 0 || len(some) > 4 {
			t.Fatalf("%d large messages at once, %v", len(some), err)
		}
		after, left = some[len(some)-1].Position, left-len(some)
	}
}

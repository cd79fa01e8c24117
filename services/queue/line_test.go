package queue

import (
	"fmt"
	"testing"
)

// Callers are woken in their order for what they can take, and pass on what they
// did not look at.
func TestLine(t *testing.T) {
	l := newLine()
	a, b, c := l.enter("q/x", 1), l.enter("q/x", 4), l.enter("q/x", 1)
	other := l.enter("q/y", 1)
	want := func(text string) {
		t.Helper()
		got := ""
		for _, w := range []*standing{a, b, c, other} {
			got += fmt.Sprintf("%d/%d ", w.due, len(w.token))
		}
		if got != text+" " {
			t.Fatalf("%s, want %s", got, text)
		}
	}
	l.wake("q/none", 3)
	l.wake("q/x", 3)
	want("1/1 2/1 0/0 0/0")
	if n := l.look(b); n != 2 {
		t.Error(n)
	}
	l.leave(a) // without having looked
	want("1/1 1/1 0/0 0/0")
	l.wake("q/x", 4)
	want("1/1 4/1 1/1 0/0")
	l.look(b)
	l.look(c)
	l.stay(c)
	l.stay(other)
	if n := l.waiting(); len(n) != 2 || n["q/x"] != 1 {
		t.Error(n)
	}
	l.leave(b)
	l.leave(b)
	l.wake("q/x", 1)
	want("1/1 0/0 1/1 0/0")
	l.leave(c)
	l.leave(other)
	if len(l.queues) != 0 {
		t.Error(l.queues)
	}
}

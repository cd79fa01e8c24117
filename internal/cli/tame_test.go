package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var tameCases = []struct{ in, want string }{
	{"plain\ttext é\n", "plain\ttext é\n"},
	{"\x1b[1;31mred\x1b[m", "\x1b[1;31mred\x1b[m\x1b[0m"},
	{"\x1b[38:2::1:2:3mx", "\x1b[38:2::1:2:3mx\x1b[0m"},
	{"a\x1b[2K\x1b[1Gb\x1b[10;5Hc\x1b[?25ld\x1b[>4;2me", "abcde"},
	{"\x1b]0;title\x07x\x1b]8;;http://x\x1b\\y", "\uFFFD]0;title\uFFFDx\uFFFD]8;;http://x\uFFFD\\y"},
	{"\x1bPq\x1b\\ \x1bc \x1b", "\uFFFDPq\uFFFD\\ \uFFFDc \uFFFD"},
	{"\x9b31m \u009b31m \u0085 \x7f \x08 \x00", "\uFFFD31m \uFFFD31m \uFFFD \uFFFD \uFFFD \uFFFD"},
	{"a\u202eb\u2066c\u200fd\u2028e", "a\uFFFDb\uFFFDc\uFFFDd\uFFFDe"},
	{"10%\r20%\r\nnext\r", "10%\n20%\nnext\n"},
	{"\x1b[31", "\uFFFD[31"},
	{"\x1b[31\nx", "\uFFFD[31\nx"},
	{"\x1b[" + strings.Repeat("1", 100) + "m", "\uFFFD[" + strings.Repeat("1", 100) + "m"},
	{"\xc3", "\uFFFD"},
}

func TestTame(t *testing.T) {
	for _, c := range tameCases {
		if got := string(tamed([]byte(c.in))); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

var colours = regexp.MustCompile("\x1b\\[[0-9:;]*m")

// FuzzTame: whatever the pieces, nothing that steers the terminal comes through.
func FuzzTame(f *testing.F) {
	for _, c := range tameCases {
		f.Add([]byte(c.in), uint8(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		var b bytes.Buffer
		w := &tame{w: &b}
		for rest := text; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		w.close()
		if whole := tamed(text); !bytes.Equal(whole, b.Bytes()) {
			t.Fatalf("in pieces %q, as a whole %q", b.Bytes(), whole)
		}
		if !utf8.Valid(b.Bytes()) {
			t.Fatalf("%q is not UTF-8", b.Bytes())
		}
		bare := colours.ReplaceAllString(b.String(), "")
		if safe := strings.NewReplacer("\n", "", "\t", "").Replace(bare); safe != printable(safe) {
			t.Fatalf("%q comes through", safe)
		}
	})
}

const hostileLog = "\x1b[32mgreen\x1b[0m \x1b]0;title\x07\u202e"

func TestLogOnATerminal(t *testing.T) {
	f := newFakeQueue(t)
	task := f.add(idA, group, "one", "completed")
	task.env["LOG"] = hostileLog
	f.frozen = true
	task.end("completed", "completed")
	terminal := func(s *session) { s.terminal = true }
	for name, args := range map[string][]string{"once": {"task", "log", idA}, "followed": {"task", "log", "--follow", idA}} {
		raw, shown := f.command("", args...), f.session("", terminal, args...)
		if !strings.Contains(raw.stdout, hostileLog) {
			t.Errorf("%s: the log was changed: %q", name, raw.stdout)
		}
		if want := string(tamed([]byte(raw.stdout))); shown.stdout != want || strings.Contains(want, "\x1b]") || !strings.Contains(want, "\x1b[32mgreen") {
			t.Errorf("%s: %q, want %q", name, shown.stdout, want)
		}
	}
	raw := f.session("", terminal, "task", "log", "--json", idA)
	if strings.ContainsRune(raw.stdout, '\uFFFD') {
		t.Errorf("JSON was changed: %q", raw.stdout)
	}
}

func TestFollowedRunOnATerminal(t *testing.T) {
	const file = "tasks:\n  a: {command: a, env: {LOG: %q}}\n  b: {command: b, env: {LOG: \"b\\n\"}}\n"
	f := newFakeQueue(t)
	text := fmt.Sprintf(file, "\x1b[31mred\x1b]0;x\a\r[b] forged\n")
	shown := f.session(text, func(s *session) { s.terminal = true }, "run", "--follow", "-")
	contains(t, "terminal", shown.stdout, "[a] \x1b[31mred\uFFFD]0;x\uFFFD\n[a] [b] forged\x1b[0m\n")
	raw := f.command(text, "run", "--follow", "-")
	contains(t, "file", raw.stdout, "[a] \x1b[31mred\x1b]0;x\a\r[b] forged\n")
}

// TestUnexpectedAnswers: a server that is no queue is told, and not shown as an
// empty task.
func TestUnexpectedAnswers(t *testing.T) {
	for _, answer := range []string{`null`, `{}`, `[]`, `"x"`, `{"status":{}}`, `{"status":{"taskId":"` + idB + `","state":"running"}}`,
		`{"status":{"taskId":"` + idA + `","state":"asleep"}}`, `{"tasks":[{}],"statuses":[{}],"artifacts":[{}]}`} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, answer)
		}))
		defer server.Close()
		f := newFakeQueue(t)
		f.server.URL, server.URL = server.URL, f.server.URL
		for _, args := range []string{
			"task status " + idA, "task status --json " + idA, "task log " + idA, "task log --follow " + idA, "task def " + idA,
			"task cancel " + idA, "task rerun --json " + idA, "task artifacts " + idA, "task artifacts --run 0 --json " + idA,
			"group list " + group, "group status --json " + group, "group cancel --force " + group, "run -", "run --follow -", "env --check",
		} {
			r := f.session("command: a", nil, strings.Fields(args)...)
			if r.status != 1 || !strings.Contains(r.stderr, "unexpected answer") || strings.Contains(r.stdout, "0001-") {
				t.Errorf("%s, answer %s: %+v", args, answer, r)
			}
		}
		f.server.URL, server.URL = server.URL, f.server.URL
	}
}

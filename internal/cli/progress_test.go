package cli

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/cli/graph"
)

// screen is a terminal that understands what the block writes: \r, \n, cursor
// up, erase to the end of the line or the screen, colours. Anything else is an
// error.
type screen struct {
	t        *testing.T
	width    int
	lines    [][]rune
	row, col int
}

func (s *screen) Write(p []byte) (int, error) {
	text := []rune(string(p))
	for i := 0; i < len(text); i++ {
		for s.row >= len(s.lines) {
			s.lines = append(s.lines, nil)
		}
		switch c := text[i]; c {
		case '\r':
			s.col = 0
		case '\n':
			s.row, s.col = s.row+1, 0
		case '\x1b':
			if text[i+1] != '[' {
				s.t.Fatalf("escape %q", text[i+1])
			}
			end := i + 2
			for text[end] >= '0' && text[end] <= '9' {
				end++
			}
			n, _ := strconv.Atoi(string(text[i+2 : end]))
			switch text[end] {
			case 'A':
				if s.row -= n; s.row < 0 {
					s.t.Fatal("cursor above the screen")
				}
			case 'K':
				s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
			case 'J':
				s.lines = s.lines[:s.row]
			case 'm':
			default:
				s.t.Fatalf("escape [%c", text[end])
			}
			i = end
		default:
			if c < ' ' {
				s.t.Fatalf("control character %q", c)
			}
			if s.col >= s.width {
				s.t.Fatalf("a line is wider than the terminal")
			}
			line := s.lines[s.row]
			for len(line) <= s.col {
				line = append(line, ' ')
			}
			line[s.col] = c
			s.lines[s.row] = line
			s.col++
		}
	}
	return len(p), nil
}

func (s *screen) String() string {
	var b strings.Builder
	for _, line := range s.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return b.String()
}

func at(state string, since time.Duration) *queue.TaskStatus {
	run := queue.TaskStatusRun{State: state, WorkerGroup: "g", WorkerID: "w", Scheduled: client.At(fakeTime)}
	if state != "pending" {
		run.Started = client.At(fakeTime.Add(-since))
	}
	if resolved(state) {
		run.Resolved, run.ReasonResolved = client.At(fakeTime), state
	}
	return &queue.TaskStatus{State: state, Runs: []queue.TaskStatusRun{run}}
}

func TestBlockIsRedrawnInPlace(t *testing.T) {
	build, test := &watched{Task: &graph.Task{Name: "build"}}, &watched{Task: &graph.Task{Name: "long-name-\x1b[2J-of-a-test-that-is-cut"}}
	test.Needs = []*graph.Task{build.Task}
	for _, color := range []bool{true, false} {
		build.status, test.status, test.blockedBy = nil, nil, nil
		s := &screen{t: t, width: 40}
		d := &block{w: s, tasks: []*watched{build, test}, color: color, size: func() (int, int) { return 40, 24 }}
		d.begin("http://h", &graph.Graph{GroupID: "G"})
		show := func(now time.Time, want string) {
			t.Helper()
			d.draw(now)
			if diff := cmp.Diff("Task group http://h/tasks/groups/G\n"+want, s.String()); diff != "" {
				t.Error(diff)
			}
		}
		show(fakeTime, "· build                 unscheduled\n· long-name-\uFFFD[2J-of-a…  waits for build\n2 tasks, 2 unscheduled, 0.0s\n")
		build.status, test.status = at("running", 2*time.Second), &queue.TaskStatus{State: "unscheduled"}
		show(fakeTime.Add(time.Second), "● build                 running on g/w…\n· long-name-\uFFFD[2J-of-a…  waits for build\n2 tasks, 1 unscheduled, 1 running, 1.0s\n")
		s.Write([]byte("trouble\n"))
		d.moved()
		s.lines, s.row = nil, 0 // what stands above is not touched again
		d.begin("http://h", &graph.Graph{GroupID: "G"})
		build.status, test.blockedBy = at("failed", 2*time.Second), build
		show(fakeTime.Add(61*time.Second), "✗ build                 failed after 2…\n– long-name-\uFFFD[2J-of-a…  will not start…\n2 tasks, 1 failed, 1 blocked, 1m01s\n")
	}
}

func TestBlockFitsTheTerminal(t *testing.T) {
	var tasks []*watched
	for i := range 100 {
		state := "completed"
		switch i {
		case 90:
			state = "failed"
		case 50, 20:
			state = "running"
		}
		tasks = append(tasks, &watched{Task: &graph.Task{Name: "t" + strconv.Itoa(i)}, status: at(state, time.Second)})
	}
	s := &screen{t: t, width: 60}
	d := &block{w: s, tasks: tasks, size: func() (int, int) { return 60, 6 }}
	d.draw(fakeTime)
	d.draw(fakeTime)
	want := "✓ t0   completed after 1.0s\n● t20  running on g/w for 1.0s\n● t50  running on g/w for 1.0s\n✗ t90  failed after 1.0s\n100 tasks, 2 running, 97 completed, 1 failed, 0.0s\n"
	if diff := cmp.Diff(want, s.String()); diff != "" {
		t.Error(diff)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 0: "0.0s", 1250 * time.Millisecond: "1.2s", 59 * time.Second: "59s",
		65 * time.Second: "1m05s", 130 * time.Minute: "2h10m",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[31mb\nc\u202ed\u0085é"); got != "a\uFFFD[31mb\uFFFDc\uFFFDd\uFFFDé" {
		t.Errorf("%q", got)
	}
}

// FuzzLines: whatever the pieces, the lines are those of the whole.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\nc"), uint8(1))
	f.Add([]byte("\n\n"), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		if len(text) >= maxLine {
			return
		}
		var got []string
		l := &lines{emit: func(line []byte) { got = append(got, string(line)) }}
		step := int(size) + 1
		for i := 0; i < len(text); i += step {
			l.Write(text[i:min(i+step, len(text))])
		}
		l.close()
		var want []string
		for line := range strings.Lines(string(text)) {
			if bare, ended := strings.CutSuffix(line, "\n"); ended {
				line = strings.TrimSuffix(bare, "\r")
			}
			want = append(want, line)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestLongLineIsBroken(t *testing.T) {
	var got []int
	l := &lines{emit: func(line []byte) { got = append(got, len(line)) }}
	for range 5 {
		l.Write([]byte(strings.Repeat("x", maxLine/2)))
	}
	l.close()
	if diff := cmp.Diff([]int{maxLine, maxLine, maxLine / 2}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSkipper(t *testing.T) {
	var b strings.Builder
	s := &skipper{w: &b}
	s.Write([]byte("abc"))
	s.rewind()
	s.Write([]byte("ab"))
	s.Write([]byte("cde"))
	s.rewind()
	s.Write([]byte("abcdef"))
	if b.String() != "abcdef" {
		t.Errorf("%q", b.String())
	}
}

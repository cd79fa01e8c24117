package workload

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/events"
)

// story is the events of one task, as a healthy deployment publishes them, each
// with the runs as they were then.
func story(t *testing.T) (messages []events.Message, last *queue.TaskStatus) {
	t.Helper()
	at := client.At(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	run := func(id int, state, created, reason, worker string) queue.TaskStatusRun {
		return queue.TaskStatusRun{RunID: id, State: state, ReasonCreated: created, ReasonResolved: reason, WorkerID: worker, Scheduled: at}
	}
	add := func(name string, p message) {
		p.Status.TaskID, p.Status.TaskGroupID, p.Status.Priority, p.TaskGroupID = "T", "G", "low", "G"
		payload, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, events.Message{Position: events.Position(len(messages) + 1),
			Event: events.Event{Exchange: "exchange/taskcluster-queue/v1/" + name, Payload: payload}})
		last = &p.Status
	}
	with := func(runs ...queue.TaskStatusRun) queue.TaskStatus {
		st := queue.TaskStatus{State: "unscheduled", Runs: runs}
		if len(runs) > 0 {
			st.State = runs[len(runs)-1].State
		}
		return st
	}
	add("task-defined", message{Status: with()})
	add("task-pending", message{Status: with(run(0, "pending", "scheduled", "", ""))})
	add("task-running", message{Status: with(run(0, "running", "scheduled", "", "w")), WorkerID: "w"})
	lost := run(0, "exception", "scheduled", "claim-expired", "w")
	add("task-exception", message{Status: with(lost, run(1, "pending", "retry", "", "")), WorkerID: "w"})
	add("task-pending", message{Status: with(lost, run(1, "pending", "retry", "", "")), RunID: 1})
	add("task-running", message{Status: with(lost, run(1, "running", "retry", "", "x")), RunID: 1, WorkerID: "x"})
	add("task-completed", message{Status: with(lost, run(1, "completed", "retry", "completed", "x")), RunID: 1, WorkerID: "x"})
	final := *last
	add("task-group-resolved", message{})
	return messages, &final
}

// tell has a history read messages, and compares it with how the task stands.
func tell(messages []events.Message, st *queue.TaskStatus) []string {
	h := NewHistory()
	h.Add(messages)
	problems := h.Problems()
	if told := h.tasks["T"]; told == nil {
		problems = append(problems, "there is no task")
	} else if problem := told.agrees(st); problem != "" {
		problems = append(problems, problem)
	}
	if g := h.groups["G"]; g != nil && g.open == 0 && !g.told {
		problems = append(problems, "the group's resolution is missing")
	}
	return problems
}

// TestHistory: a story that is right is believed; one that lacks any event, or
// has any two in the wrong order, is not.
func TestHistory(t *testing.T) {
	messages, st := story(t)
	if problems := tell(messages, st); len(problems) > 0 {
		t.Fatalf("what is right is not believed: %q", problems)
	}
	renumber := func(list []events.Message) []events.Message {
		for i := range list {
			list[i].Position = events.Position(i + 1)
		}
		return list
	}
	for i := range messages {
		lacking := renumber(append(append([]events.Message{}, messages[:i]...), messages[i+1:]...))
		if problems := tell(lacking, st); len(problems) == 0 {
			t.Errorf("%s is missing, and nobody noticed", messages[i].Exchange)
		}
		if i == 0 {
			continue
		}
		swapped := append([]events.Message{}, messages...)
		swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
		if problems := tell(renumber(swapped), st); len(problems) == 0 {
			t.Errorf("%s came before %s, and nobody noticed", messages[i].Exchange, messages[i-1].Exchange)
		}
	}
	// A claim that is told twice is two claims.
	twice := renumber(append(append([]events.Message{}, messages[:3]...), messages[2:]...))
	if problems := tell(twice, st); len(problems) == 0 {
		t.Error("a run was claimed twice, and nobody noticed")
	}
	// Nobody comes into a group that was sealed.
	sealed := events.Message{Event: events.Event{Exchange: "exchange/taskcluster-queue/v1/task-group-sealed", Payload: []byte(`{"taskGroupId":"G"}`)}}
	for at, right := range []bool{false, true, true} {
		if problems := tell(renumber(slices.Insert(slices.Clone(messages), at, sealed)), st); (len(problems) == 0) != right {
			t.Errorf("the group is sealed as event %d: %q", at, problems)
		}
	}
	h := NewHistory()
	h.Add(renumber(append([]events.Message{messages[0], sealed}, events.Message{Event: events.Event{Exchange: messages[0].Exchange,
		Payload: []byte(strings.ReplaceAll(string(messages[0].Payload), `"T"`, `"U"`))}})))
	if len(h.Problems()) == 0 {
		t.Error("a task came into a sealed group, and nobody noticed")
	}
	// What may be repeated is counted.
	h = NewHistory()
	h.Add(renumber(append(append([]events.Message{}, messages[:2]...), messages[1:]...)))
	if len(h.Problems()) > 0 || h.Repeated != 1 {
		t.Errorf("a repetition: %d, %q", h.Repeated, h.Problems())
	}
}

// TestLedger: answers that contradict each other are noticed, and answers that
// overtake each other are none.
func TestLedger(t *testing.T) {
	_, st := story(t)
	earlier := *st
	earlier.Runs = []queue.TaskStatusRun{st.Runs[0]}
	earlier.Runs[0].State, earlier.Runs[0].ReasonResolved = "running", ""
	broken := func(f func(l *Ledger)) string {
		l := NewLedger()
		l.define("T", nil, 1, "low")
		l.with(func() { f(l) })
		return strings.Join(l.Problems(), "\n")
	}
	if got := broken(func(l *Ledger) { l.acknowledge(&earlier); l.acknowledge(st); l.acknowledge(&earlier) }); got != "" {
		t.Error(got)
	}
	other := *st
	other.Runs = append([]queue.TaskStatusRun{}, st.Runs...)
	other.Runs[1].State = "failed"
	if broken(func(l *Ledger) { l.acknowledge(st); l.acknowledge(&other) }) == "" {
		t.Error("a run completed and failed, and nobody noticed")
	}
	claim := &queue.ClaimWorkResponseTask{Status: earlier}
	if broken(func(l *Ledger) { l.claimed(claim, "w"); l.claimed(claim, "w2") }) == "" {
		t.Error("a run was given to two workers, and nobody noticed")
	}
	floors := map[string]*queue.TaskStatus{"T": st}
	for name, found := range map[string]map[string]*queue.TaskStatus{
		"gone":   {},
		"behind": {"T": &earlier},
	} {
		if broken(func(l *Ledger) { l.compare(floors, found) }) == "" {
			t.Errorf("the task is %s, and nobody noticed", name)
		}
	}
}

// TestWalk: what arrives may go back and repeat; whatever is missing, overtaken
// or made up is noticed.
func TestWalk(t *testing.T) {
	sums := func(letters string) (out []sum) {
		for _, c := range letters {
			out = append(out, sumOf("x", string(c), nil, nil))
		}
		return out
	}
	for _, c := range []struct {
		log, arrived string
		next, again  int
		right        bool
	}{
		{"abcdef", "abcdef", 0, 0, true},
		{"abcdef", "cdef", 2, 0, true},
		{"abcdef", "abcbcdef", 0, 2, true},
		{"abcdef", "cdabcdef", 2, 4, true},
		{"abcdef", "abcdabcbcdef", 0, 6, true},
		{"abacad", "abacabacad", 0, 4, true}, // one that is published more than once
		{"abcdef", "abcde", 0, 0, false},
		{"abcdef", "bcdef", 0, 0, false},
		{"abcdef", "abdef", 0, 0, false},
		{"abcdef", "abdcef", 0, 0, false},
		{"abcdef", "abcabdef", 0, 2, false}, // in the repetition as well
		{"abcdef", "abcxdef", 0, 0, false},
		{"abcdef", "", 0, 0, false},
	} {
		again, problem := walk(sums(c.log), c.next, sums(c.arrived))
		if (problem == "") != c.right || c.right && len(again) != c.again {
			t.Errorf("%s as %s from %d: %d came again, %q", c.log, c.arrived, c.next, len(again), problem)
		}
	}
}

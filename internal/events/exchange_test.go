package events

import (
	"strings"
	"testing"
)

// taskKey is the routing key of most messages about tasks.
var taskKey = []KeyPart{
	{Name: "routingKeyKind", Constant: "primary", Required: true},
	{Name: "taskId", Required: true, MaxSize: 22},
	{Name: "runId", MaxSize: 3},
	{Name: "workerGroup", MaxSize: 38},
	{Name: "workerId", MaxSize: 38},
	{Name: "provisionerId", Required: true, MaxSize: 38},
	{Name: "workerType", Required: true, MaxSize: 38},
	{Name: "schedulerId", Required: true, MaxSize: 38},
	{Name: "taskGroupId", Required: true, MaxSize: 22},
	{Name: "reserved", MultipleWords: true, MaxSize: 1},
}

func TestRoutingKey(t *testing.T) {
	x := Exchange{Name: "task-running", Key: taskKey}
	if err := x.Check(); err != nil {
		t.Fatal(err)
	}
	with := func(changes ...string) map[string]string {
		values := map[string]string{
			"taskId": "fN1SbArXTPSVFNUvaOlinQ", "runId": "0", "workerGroup": "my-group", "workerId": "my-worker",
			"provisionerId": "proj", "workerType": "ci", "schedulerId": "taskcluster-github", "taskGroupId": "fN1SbArXTPSVFNUvaOlinQ",
		}
		for i := 0; i < len(changes); i += 2 {
			values[changes[i]] = changes[i+1]
			if changes[i+1] == "(none)" {
				delete(values, changes[i])
			}
		}
		return values
	}
	const start, end = "primary.fN1SbArXTPSVFNUvaOlinQ.", ".proj.ci.taskcluster-github.fN1SbArXTPSVFNUvaOlinQ."
	for _, c := range []struct {
		values map[string]string
		want   string // or what the error says
	}{
		{with(), start + "0.my-group.my-worker" + end + "_"},
		{with("runId", "(none)", "workerGroup", "", "workerId", "(none)"), start + "_._._" + end + "_"},
		{with("routingKeyKind", "primary"), start + "0.my-group.my-worker" + end + "_"},
		{with("reserved", "."), start + "0.my-group.my-worker" + end + "."},
		{with("routingKeyKind", "other"), `is the constant "primary"`},
		{with("taskId", "(none)"), "taskId of the routing key is required"},
		{with("taskId", ""), "taskId of the routing key is required"},
		{with("runId", "1000"), `may have 3 bytes, "1000" has 4`},
		{with("workerId", "a.b"), `is one word, "a.b" has a dot`},
		{with("nonsense", "x"), "a part that it does not have"},
	} {
		got, err := x.RoutingKey(c.values)
		if err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v\n\tgave %q, %v\n\twant %q", c.values, got, err, c.want)
		}
	}
	if got, want := x.Pattern(map[string]string{"taskId": "abc"}), "primary.abc.*.*.*.*.*.*.*.#"; got != want {
		t.Errorf("the pattern is %q, want %q", got, want)
	}
	for what, key := range map[string][]KeyPart{
		"none": nil, "too long": {{Name: "a", MaxSize: 200}, {Name: "b", MaxSize: 55}}, "no size": {{Name: "a"}},
		"two of a name": {{Name: "a", MaxSize: 1}, {Name: "a", MaxSize: 1}}, "no name": {{MaxSize: 1}},
		"twice many words": {{Name: "a", MaxSize: 1, MultipleWords: true}, {Name: "b", MaxSize: 1, MultipleWords: true}},
	} {
		if (&Exchange{Name: "x", Key: key}).Check() == nil {
			t.Errorf("a key of %s passes", what)
		}
	}
	if err := (&Exchange{Name: "x", Key: []KeyPart{{Name: "a", MaxSize: 200}, {Name: "b", MaxSize: 54}}}).Check(); err != nil {
		t.Errorf("a key of 255 bytes: %v", err)
	}
}

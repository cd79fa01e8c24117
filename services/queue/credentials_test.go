package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/hawk"
	"taskcluster/internal/slugid"
	"taskcluster/internal/tcerr"
)

// Whatever createTask accepts can be reported by any worker, and what it
// refuses cannot by some.
func TestScopeRoom(t *testing.T) {
	s := deploy(t).queue
	longest := strings.Repeat("x", maxWorkerName)
	now := s.clock.Now()
	r := &run{id: maxRuns - 1, workerGroup: longest, workerID: longest, takenUntil: now.Add(20*time.Minute + 123*time.Millisecond)}
	random := rand.New(rand.NewPCG(1, 2))
	const plain = `abcXYZ019:/-_.*"\ ~`
	var fit, refused int
	for range 300 {
		var scopes []string
		for left := 2000 + random.IntN(900); left > 0; {
			b := make([]byte, 1+random.IntN(min(left, 200)))
			for i := range b {
				b[i] = plain[random.IntN(len(plain))]
			}
			scopes = append(scopes, string(b))
			left -= len(b)
		}
		c, err := s.credentialsFor(slugid.New(), r, scopes, now)
		if err != nil {
			t.Fatal(err)
		}
		request := hawk.Request{Method: "POST", Resource: "/api/queue/v1/task", Host: testHost, Port: testPort}
		_, err = c.Header(request, hawk.PayloadHash("application/json", []byte("{}")), now.Std())
		if err != nil && !errors.Is(err, hawk.ErrHeaderTooLong) {
			t.Fatal(err)
		}
		if got := s.scopeRoom.check(scopes); (got == nil) != (err == nil) {
			t.Fatalf("checked: %v; in fact: %v", got, err)
		}
		if err == nil {
			fit++
		} else {
			refused++
		}
	}
	if fit < 50 || refused < 50 {
		t.Errorf("%d fit, %d do not: the test looks at one side only", fit, refused)
	}
	if err := s.scopeRoom.check([]string{strings.Repeat("<", 500)}); tcerr.CodeOf(err) != tcerr.InputError {
		t.Error("characters that some clients escape: ", err)
	}
}

func TestTooManyScopes(t *testing.T) {
	d := deploy(t)
	list := func(n int) (scopes []string) {
		for i := range n {
			scopes = append(scopes, fmt.Sprintf("queue:route:index.project.some-project.%03d", i))
		}
		return scopes
	}
	id := slugid.New().String()
	a := d.call(root, "PUT", "/task/"+id, d.definition(with{"scopes": list(60)}))
	a.want(400, "InputError", "`task.scopes`", "at most 4096", "`*`", "assume:")
	d.call(root, "GET", "/task/"+id, nil).want(404)
	// Not before it is known that the caller may.
	d.call(d.client("queue:create-task:*"), "PUT", "/task/"+id, d.definition(with{"scopes": list(60)})).want(403)

	// As many as fit, and the longest names.
	n := 59
	for d.call(root, "PUT", "/task/"+id, d.definition(with{"scopes": list(n)})).status != 200 {
		n--
	}
	t.Logf("%d scopes of %d characters fit", n, len(list(1)[0]))
	longest := strings.Repeat("w", maxWorkerName)
	c := d.call(root, "POST", "/claim-work/"+testQueue, with{"workerGroup": longest, "workerId": longest, "tasks": 1}).want(200).credentials("tasks", 0)
	c = d.call(c, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(200).credentials()
	d.call(c, "POST", "/task/"+id+"/runs/0/artifacts/"+strings.Repeat("n", 200), with{"storageType": "error",
		"expires": d.clock.Now().Add(time.Minute).String(), "reason": "file-missing-on-worker", "message": "m"}).want(200)
	d.call(c, "POST", "/task/"+id+"/runs/0/exception", with{"reason": "internal-error"}).want(200)
	d.wantState(id, "exception", "scheduled", "internal-error")
}

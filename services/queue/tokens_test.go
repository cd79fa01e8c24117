package queue

import (
	"net/url"
	"strings"
	"testing"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
)

func TestTokens(t *testing.T) {
	for _, key := range []string{"a", "prov/type", "wg/w", "public/é", strings.Repeat("k", 300)} {
		token := makeToken(key)
		if got, err := strictToken(token); err != nil || got != key {
			t.Errorf("%q: %q, %v", key, got, err)
		}
		if got := laxToken(token[:len(token)-1]); got != "" {
			t.Errorf("%q: cut short it is %q", key, got)
		}
	}
	for _, row := range []int64{0, 1, 12345, 1<<63 - 1} {
		if got, err := strictRowToken(rowToken(row)); err != nil || got != row {
			t.Errorf("%d: %d, %v", row, got, err)
		}
		if at, got := laxTimeToken(timeToken(clock.Time(row), row)); at != clock.Time(row) || got != row {
			t.Errorf("%d: %d %d", row, at, got)
		}
	}
	// Forged, or of another method.
	for _, key := range []string{"\xff", "a\x00b", "-5", "99999999999999999999", "1.2.3"} {
		if row, err := strictRowToken(makeToken(key)); row != 0 || err != nil {
			t.Errorf("%q: %d, %v", key, row, err)
		}
	}
	for _, key := range []string{"\xff", "a\x00b"} {
		if got := laxToken(makeToken(key)); got != "" {
			t.Errorf("%q: %q", key, got)
		}
	}
}

// What becomes of tokens that nobody gave: see section 8 of the framework's
// description.
func TestGarbageTokens(t *testing.T) {
	d := deploy(t)
	group, first := slugid.New().String(), d.create()
	id := d.create(with{"taskGroupId": group})
	d.create(with{"taskGroupId": group, "dependencies": []string{first}})
	d.claim("w", 1)
	for range 2 {
		d.call(root, "POST", "/task/"+first+"/runs/0/artifacts/public/a", with{"storageType": "error",
			"expires": d.clock.Now().Add(1e9).String(), "reason": "file-missing-on-worker", "message": "m"}).want(200)
	}
	both := with{"taskIds": []string{first, id}}
	for _, m := range []struct {
		verb, path, list string
		body             any
		strict           bool
	}{
		{"GET", "/task-group/" + group + "/list", "tasks", nil, true},
		{"GET", "/task/" + first + "/dependents", "tasks", nil, true},
		{"POST", "/tasks", "tasks", both, true},
		{"POST", "/tasks/status", "statuses", both, true},
		{"GET", "/task-queues", "taskQueues", nil, true},
		{"GET", "/provisioners", "provisioners", nil, true},
		{"GET", "/provisioners/prov/worker-types", "worker-types", nil, true},
		{"GET", "/provisioners/prov/worker-types/type/workers", "workers", nil, true},
		{"GET", "/task/" + first + "/runs/0/artifacts", "artifacts", nil, false},
		{"GET", "/task/" + first + "/artifacts", "artifacts", nil, false},
		{"GET", "/task-queues/prov%2Ftype/pending", "tasks", nil, false},
		{"GET", "/task-queues/prov%2Ftype/claimed", "tasks", nil, false},
	} {
		get := func(token string) answer {
			path := m.path
			if token != "" {
				path += "?continuationToken=" + url.QueryEscape(token)
			}
			return d.call(root, m.verb, path, m.body)
		}
		whole := get("").want(200)
		list := m.list
		if whole.at(list) == nil {
			list = "workerTypes"
		}
		if whole.len(list) == 0 {
			t.Errorf("%s: the list is empty: %s", m.path, whole.body)
		}
		for _, token := range []string{"x", "zzzzzzzzzzzz", "41", "0123456789abcdef", strings.Repeat("9", 200)} {
			if a := get(token).want(200); a.body != whole.body {
				t.Errorf("%s: %q does not begin anew: %s", m.path, token, a.body)
			}
		}
		for _, token := range []string{"!!", "a-b", "ab_", "=", "é", "..", " "} {
			a := get(token)
			if m.strict {
				a.want(400, "InputError", "Invalid continuation token")
			} else if a.want(200); a.body != whole.body {
				t.Errorf("%s: %q does not begin anew: %s", m.path, token, a.body)
			}
		}
	}
}

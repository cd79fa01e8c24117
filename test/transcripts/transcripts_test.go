// Package transcripts plays stories against a deployment of their own and
// compares all that it says with what was recorded: every answer in full, and
// every event that the story published, in order. Ids, times, tokens and URLs
// are replaced by names, the same value by the same name everywhere, so that a
// change of the API shows in the diff of these files and nothing else does.
//
// A story is a file testdata/SERVICE/NAME.txtar. A person writes its requests,
// `go test ./test/transcripts -update` writes the answers:
//
//	What the story is about.
//	serve --claim-timeout 5s
//
//	-- name of a step --
//	PUT /api/queue/v1/task/TASK1
//	scopes queue:create-task:lowest:p/t queue:scheduler-id:-
//	{"taskQueueId": "p/t", "created": "now", "deadline": "now+1h", …}
//	-- name of a step: answer --
//	200
//	{ … }
//	-- events --
//	after name of a step
//	queue/v1/task-defined primary.TASK1…
//	{ … }
//
// Between the request line and the body a step may have these lines:
//
//	as NAME        who signs: root (the default), nobody, or the client id of
//	               credentials that an answer held; those of a task's run are
//	               TASK1/0, those of the API's test methods tester:no-secret
//	scopes S…      signed with temporary credentials of the client tester, which
//	               have these scopes; may be repeated
//	only S…        authorizedScopes of the credentials that sign
//	bewit          the signature is part of the URL
//	header N: V    a header
//	until TEXT     sent again until the answer contains the text
//	sort KEY       this list of the answer has no order: sort it
//	fill N BYTE    the body is N times this byte
//
// In place of the request line, "again STEP" repeats a step's request; lines and
// a body of its own take the place of the other's.
//
// Names: TASK1, GROUP1, ID1 and UPLOAD1 are slugids, made when first used. TOKEN1
// is an access token, PAGE1 a continuation token, URL1 the latest signed URL for
// something that the deployment keeps: these come from answers, and may be used
// after that. ROOT is the root URL. "now+1h" (s, m, h, d, y) is a time that a request gave, relative to
// the story's start. TIME is a time that the server took while the story was
// played, TIME+20m twenty minutes after. BROKER is the address of a RabbitMQ, which
// is started when a story's "serve" names it, and MANAGEMENT the setting that leads
// to its management API. A text of several lines is shown as the
// list of its lines under the property's name with ↵.
//
// Headers that every answer of the API has are checked, not shown, and so are the
// last lines of an error's message, which repeat its other properties. An answer
// that is the same as an earlier one is named after that.
package transcripts

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"

	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

var update = flag.Bool("update", false, "write what the deployment says into the files")

func stories(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	return files
}

func TestTranscripts(t *testing.T) {
	binary := harness.Binary(t)
	// Stories wait more than they work, for claims to expire and for workers
	// that are kept waiting, but each has a server.
	slots := make(chan struct{}, 6)
	var mu sync.Mutex
	broker := sync.OnceValues(func() (*testenv.RabbitMQServer, error) {
		s, err := testenv.StartRabbitMQ()
		if err == nil {
			t.Cleanup(func() {
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
			})
		}
		return s, err
	})
	for _, file := range stories(t) {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(file), "testdata/"), ".txtar"), func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := parse(txtar.Parse(before))
			if err != nil {
				t.Fatal(err)
			}
			after := txtar.Format(s.play(t, binary, broker))
			if t.Failed() || string(before) == string(after) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if *update {
				if err := os.WriteFile(file, after, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("the deployment says something else than %s; if it should, record it with\n\tgo test ./test/transcripts -run '%s' -update\n%s",
				file, t.Name(), diff.Diff("recorded", before, "now", after))
		})
	}
}

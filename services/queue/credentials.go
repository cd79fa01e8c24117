package queue

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/hawk"
	"taskcluster/internal/slugid"
	"taskcluster/internal/tcerr"
)

// appendCredentials appends the member "credentials": temporary ones, with
// which a worker keeps, resolves and fills its run until the claim expires.
// They have the task's scopes too.
func (s *Service) appendCredentials(b []byte, t *task, taskScopes []string) ([]byte, error) {
	// When the clock was set forward since the claim it may be over already. That
	// must not keep the worker from learning what else it was given.
	start := min(s.clock.Now(), t.last.takenUntil.Add(-time.Millisecond))
	c, err := s.credentialsFor(t.id, &t.last, taskScopes, start)
	if err != nil {
		return nil, err
	}
	b = appendString(append(b, `,"credentials":{"clientId":`...), c.ClientID)
	b = appendString(append(b, `,"accessToken":`...), c.AccessToken)
	b = appendQuoted(append(b, `,"certificate":`...), c.Certificate)
	return append(b, '}'), nil
}

// credentialsFor issues the credentials for a claimed run.
func (s *Service) credentialsFor(id slugid.ID, r *run, taskScopes []string, now clock.Time) (hawk.Credentials, error) {
	run := id.String() + "/" + strconv.Itoa(r.id)
	until := strconv.FormatFloat(float64(r.takenUntil.Millis())/1000, 'f', -1, 64)
	scopes := make([]string, 0, 3+len(taskScopes))
	scopes = append(scopes, "queue:reclaim-task:"+run, "queue:resolve-task:"+run, "queue:create-artifact:"+run)
	scopes = append(scopes, taskScopes...)
	return s.credentials.Temporary(hawk.TemporaryOptions{
		Name:   "task-client/" + run + "/on/" + r.workerGroup + "/" + r.workerID + "/until/" + until,
		Scopes: scopes,
		Start:  now.Std(),
		Expiry: r.takenUntil.Std(),
	})
}

// scopeRoom tells which task scopes fit into the Authorization header of a
// worker's calls. All of them are in the certificate, which each call carries,
// and hawk.MaxHeaderLength bounds the header: with more than that the run
// could be claimed but never reported.
type scopeRoom struct {
	around int // characters of the header without ext
	inside int // bytes of ext without the task's scopes
}

// measureScopeRoom issues credentials with the longest name that a run and a
// worker can have, and counts.
func (s *Service) measureScopeRoom() (scopeRoom, error) {
	longest := strings.Repeat("w", maxWorkerName)
	at := clock.Of(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)) // with milliseconds
	r := &run{id: maxRuns - 1, workerGroup: longest, workerID: longest, takenUntil: at}
	c, err := s.credentialsFor(slugid.ID{}, r, nil, at)
	if err != nil {
		return scopeRoom{}, err
	}
	request := hawk.Request{Method: "POST", Resource: "/", Host: "localhost", Port: 80} // of no matter for the length
	header, err := c.Header(request, hawk.PayloadHash("application/json", nil), at.Std())
	if err != nil {
		return scopeRoom{}, err
	}
	inside := len(`{"certificate":}`) + len(c.Certificate)
	return scopeRoom{around: len(header) - base64.StdEncoding.EncodedLen(inside), inside: inside}, nil
}

// check refuses scopes that do not fit.
func (m scopeRoom) check(scopes []string) error {
	inside := m.inside
	for _, scope := range scopes {
		inside += len(`,""`) + len(scope)
		for i := 0; i < len(scope); i++ {
			switch scope[i] {
			case '"', '\\':
				inside++
			case '<', '>', '&': // some clients write them as \u003c
				inside += 5
			}
		}
	}
	if n := m.around + base64.StdEncoding.EncodedLen(inside); n > hawk.MaxHeaderLength {
		return tcerr.New(tcerr.InputError, "`task.scopes` are too long: the Authorization header of the worker that runs the task has to carry them, "+
			"and would have %d characters instead of at most %d. Use fewer or shorter scopes, scopes that end with `*`, "+
			"or a role that has them: `assume:<roleId>`.", n, hawk.MaxHeaderLength)
	}
	return nil
}

// appendQuoted appends printable ASCII, such as a certificate, as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

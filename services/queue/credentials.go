package queue

import (
	"strconv"

	"taskcluster/internal/hawk"
)

// appendCredentials appends the member "credentials": temporary ones, with
// which a worker keeps, resolves and fills its run until the claim expires.
// They have the task's scopes too.
func (s *Service) appendCredentials(b []byte, t *task, taskScopes []string) ([]byte, error) {
	r := &t.last
	run := t.id.String() + "/" + strconv.Itoa(r.id)
	until := strconv.FormatFloat(float64(r.takenUntil.Millis())/1000, 'f', -1, 64)
	scopes := make([]string, 0, 3+len(taskScopes))
	scopes = append(scopes, "queue:reclaim-task:"+run, "queue:resolve-task:"+run, "queue:create-artifact:"+run)
	scopes = append(scopes, taskScopes...)
	c, err := s.credentials.Temporary(hawk.TemporaryOptions{
		Name:   "task-client/" + run + "/on/" + r.workerGroup + "/" + r.workerID + "/until/" + until,
		Scopes: scopes,
		Start:  s.clock.Now().Std(),
		Expiry: r.takenUntil.Std(),
	})
	if err != nil {
		return nil, err
	}
	b = appendString(append(b, `,"credentials":{"clientId":`...), c.ClientID)
	b = appendString(append(b, `,"accessToken":`...), c.AccessToken)
	b = appendQuoted(append(b, `,"certificate":`...), c.Certificate)
	return append(b, '}'), nil
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

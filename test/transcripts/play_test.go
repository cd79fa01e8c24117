package transcripts

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"taskcluster/internal/events"
	"taskcluster/internal/hawk"
	"taskcluster/internal/store"
	"taskcluster/internal/store/sqlite"
	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

// player plays one story.
type player struct {
	t      *testing.T
	server *harness.Server
	names  *names
	http   *http.Client
	root   hawk.Credentials
	known  map[string]hawk.Credentials // by client id with names, as in "as"
}

// play returns the story with the answers of a fresh deployment.
func (s *story) play(t *testing.T, binary string, broker func() (*testenv.RabbitMQServer, error)) *txtar.Archive {
	args, address := s.arguments(t, broker)
	server := harness.Start(t, binary, t.TempDir(), args...)
	p := &player{
		t: t, server: server, names: newNames(server.RootURL, address),
		http: &http.Client{
			Timeout:       time.Minute,
			Transport:     &http.Transport{DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		root:  hawk.Credentials{ClientID: server.ClientID, AccessToken: server.AccessToken},
		known: map[string]hawk.Credentials{},
	}
	defer p.http.CloseIdleConnections()
	time.Sleep(2 * time.Millisecond) // no time that the server takes is the story's "now"
	a := &txtar.Archive{Comment: s.comment}
	first := map[string]string{} // answer -> the step that got it first
	began := make([]time.Time, len(s.steps))
	for i, st := range s.steps {
		began[i] = time.Now()
		answer, err := p.step(st)
		if err != nil {
			t.Fatalf("step %q: %v\n%s", st.name, err, server.Log())
		}
		if name, ok := first[answer]; ok && strings.Count(answer, "\n") > 2 {
			status, _, _ := strings.Cut(answer, "\n")
			answer = status + " as answered to " + name + "\n"
		} else if !ok {
			first[answer] = st.name
		}
		a.Files = append(a.Files, txtar.File{Name: st.name, Data: []byte(st.text)}, txtar.File{Name: st.name + answerMark, Data: []byte(answer)})
	}
	server.Stop()
	if e := p.events(s, began); e != "" {
		a.Files = append(a.Files, txtar.File{Name: "events", Data: []byte(e)})
	}
	return a
}

// arguments are those of the story's server, with a broker if it names one, whose
// address it returns.
func (s *story) arguments(t *testing.T, broker func() (*testenv.RabbitMQServer, error)) (args []string, address string) {
	t.Helper()
	if !slices.Contains(s.serve, "MANAGEMENT") {
		return s.serve, ""
	}
	rabbit, err := broker()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "management")
	if err := os.WriteFile(file, []byte(rabbit.ManagementURL()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arg := range s.serve {
		args = append(args, strings.NewReplacer("MANAGEMENT", "file:"+file, "BROKER", rabbit.Addr).Replace(arg))
	}
	return args, rabbit.Addr
}

// step sends a request and returns the answer's text.
func (p *player) step(st *step) (string, error) {
	deadline := time.Now().Add(time.Minute)
	for {
		answer, raw, err := p.request(st)
		if err != nil || st.until == "" || strings.Contains(raw, st.until) {
			return answer, err
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("after a minute the answer still does not contain %q: %s", st.until, raw)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *player) request(st *step) (answer, raw string, err error) {
	target, err := p.names.expand(st.path)
	if err != nil {
		return "", "", err
	}
	if strings.HasPrefix(target, "/") {
		target = p.server.RootURL + target
	}
	body, err := p.names.expand(st.body)
	if err != nil {
		return "", "", err
	}
	if body, err = p.headersInText(body); err != nil {
		return "", "", err
	}
	credentials, signed, err := p.signer(st)
	if err != nil {
		return "", "", err
	}
	if st.bewit {
		if target, err = credentials.SignURL(target, time.Now().Add(time.Hour)); err != nil {
			return "", "", err
		}
	}
	req, err := http.NewRequestWithContext(p.t.Context(), st.method, target, strings.NewReader(body))
	if err != nil {
		return "", "", err
	}
	if body == "" {
		req.Body = http.NoBody
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range st.headers {
		v, err := p.names.expand(h[1])
		if err != nil {
			return "", "", err
		}
		req.Header.Set(h[0], v)
	}
	if signed && !st.bewit && strings.HasPrefix(target, p.server.RootURL+"/api/") {
		host, port, err := hawk.HostPort(req.URL.Host, false)
		if err != nil {
			return "", "", err
		}
		hash := ""
		if body != "" {
			hash = hawk.PayloadHash(req.Header.Get("Content-Type"), []byte(body))
		}
		authorization, err := credentials.Header(hawk.Request{Method: st.method, Resource: req.URL.RequestURI(), Host: host, Port: port}, hash, time.Now())
		if err != nil {
			return "", "", err
		}
		req.Header.Set("Authorization", authorization)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", err
	}
	p.names.upTo = time.Now()
	if strings.HasPrefix(req.URL.Path, "/api/") {
		p.checkHeaders(st, resp.Header)
	}
	answer, err = p.answer(st, resp, text)
	return answer, string(text), err
}

// signer picks whose credentials sign a step.
func (p *player) signer(st *step) (c hawk.Credentials, signed bool, err error) {
	switch st.as {
	case "nobody":
		return c, false, nil
	case "root":
		c = p.root
	case "tester":
		var list []string
		for _, s := range st.scopes {
			s, err := p.names.expand(s)
			if err != nil {
				return c, false, err
			}
			list = append(list, s)
		}
		c, err = p.root.Temporary(hawk.TemporaryOptions{Name: "tester", Scopes: list, Start: time.Now().Add(-time.Minute), Expiry: time.Now().Add(time.Hour)})
	case "tester:no-secret":
		c = hawk.Credentials{ClientID: "tester", AccessToken: "no-secret"}
	default:
		var ok bool
		if c, ok = p.known[st.as]; !ok {
			err = fmt.Errorf("no answer before had credentials of %q, but of %q", st.as, sortedNames(p.known))
		}
	}
	for _, s := range st.only {
		s, err := p.names.expand(s)
		if err != nil {
			return c, false, err
		}
		c.AuthorizedScopes = append(c.AuthorizedScopes, s)
	}
	return c, true, err
}

func sortedNames(m map[string]hawk.Credentials) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

var hawkCall = regexp.MustCompile(`\{hawk (\S+) (\S+) (\S+) (\d+) ([^\s}]+)\}`)

// headersInText replaces {hawk CLIENT METHOD HOST PORT RESOURCE} by a signature
// of that request, for bodies that hold one.
func (p *player) headersInText(body string) (string, error) {
	var failed error
	out := hawkCall.ReplaceAllStringFunc(body, func(s string) string {
		m := hawkCall.FindStringSubmatch(s)
		c, _, err := p.signer(&step{as: m[1]})
		var port int
		fmt.Sscan(m[4], &port)
		if err == nil {
			s, err = c.Header(hawk.Request{Method: m[2], Resource: m[5], Host: m[3], Port: port}, "", time.Now())
		}
		if err != nil {
			failed = err
		}
		return strings.ReplaceAll(s, `"`, `\"`)
	})
	return out, failed
}

// onEvery are the headers that each answer of the API has.
var onEvery = map[string]string{
	"Cache-Control":                 "no-store no-cache must-revalidate",
	"Access-Control-Allow-Origin":   "*",
	"Access-Control-Max-Age":        "900",
	"Access-Control-Allow-Methods":  "OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT",
	"Access-Control-Request-Method": "*",
	"Access-Control-Allow-Headers":  "X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control",
	"X-Content-Type-Options":        "nosniff",
	"Content-Security-Policy":       "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; report-uri /__cspreport__",
	"X-For-Request-Id":              "",
	"X-For-Trace-Id":                "",
}

func (p *player) checkHeaders(st *step, h http.Header) {
	for name, want := range onEvery {
		if got := h.Get(name); got == "" || want != "" && got != want {
			p.t.Errorf("step %q: header %s is %q, want %q", st.name, name, got, want)
		}
	}
}

// shown are the headers that belong to an answer's meaning.
var shown = []string{"Location", "WWW-Authenticate", "X-Taskcluster-Artifact-Storage-Type", "Content-Encoding", "Content-Range", "Content-Disposition", "Accept-Ranges", "Retry-After"}

const jsonType = "application/json; charset=utf-8"

// answer renders an answer, and keeps the credentials in it.
func (p *player) answer(st *step, resp *http.Response, body []byte) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", resp.StatusCode)
	contentType := resp.Header.Get("Content-Type")
	if contentType != jsonType && contentType != "" {
		fmt.Fprintf(&b, "content-type: %s\n", contentType)
	}
	for _, name := range shown {
		for _, v := range resp.Header.Values(name) {
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), p.names.text(v))
		}
	}
	v, err := decode(body)
	if len(body) == 0 || err != nil || !strings.HasPrefix(contentType, "application/json") {
		if contentType == jsonType && err != nil {
			return "", fmt.Errorf("not JSON, though it says so: %q", body)
		}
		if len(body) > 0 {
			fmt.Fprintf(&b, "%s\n", p.names.text(strings.TrimSuffix(string(body), "\n")))
		}
		return b.String(), nil
	}
	if err := p.cutTrailer(v, resp.StatusCode); err != nil {
		return "", err
	}
	named := p.names.json("", v)
	p.keep(v)
	if st.sort != "" {
		list, ok := named.(map[string]any)[st.sort].([]any)
		if !ok {
			return "", fmt.Errorf("the answer has no list %q: %s", st.sort, body)
		}
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(render(a), render(b)) })
	}
	b.WriteString(render(named))
	return b.String(), nil
}

// cutTrailer checks the lines at the end of an error's message, which repeat
// what stands elsewhere in it, and takes them away.
func (p *player) cutTrailer(v any, status int) error {
	body, _ := v.(map[string]any)
	message, _ := body["message"].(string)
	info, ok := body["requestInfo"].(map[string]any)
	if !ok {
		return nil
	}
	trailer := fmt.Sprintf("\n\n---\n\n* method:     %s\n* errorCode:  %s\n* statusCode: %d\n* time:       %s", info["method"], body["code"], status, info["time"])
	text, ok := strings.CutSuffix(message, trailer)
	if !ok {
		return fmt.Errorf("the message does not end with its trailer %q: %q", trailer, message)
	}
	body["message"] = text
	return nil
}

var taskClient = regexp.MustCompile(`^task-client/([^/]+/[0-9]+)/on/`)

// keep remembers all credentials in an answer.
func (p *player) keep(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			p.keep(e)
		}
	case map[string]any:
		id, _ := v["clientId"].(string)
		token, ok := v["accessToken"].(string)
		if ok && id != "" {
			certificate, _ := v["certificate"].(string)
			name := p.names.text(id)
			if m := taskClient.FindStringSubmatch(name); m != nil {
				name = m[1]
			}
			p.known[name] = hawk.Credentials{ClientID: id, AccessToken: token, Certificate: certificate}
		}
		for _, k := range sortedKeys(v) {
			p.keep(v[k])
		}
	}
}

// events renders what the story published, from the data directory that the
// server has left: nothing that the API offers shows the whole log. began says
// when each step began, which tells what an event came after.
func (p *player) events(s *story, began []time.Time) string {
	db, err := sqlite.Open(p.t.Context(), filepath.Join(p.server.DataDir, "taskcluster.db"), store.Options{Migrations: []store.Migrations{events.Migrations}})
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	messages, err := events.NewLog(db, events.Options{}).Read(context.Background(), 0, 100_000)
	if err != nil {
		p.t.Fatal(err)
	}
	var b strings.Builder
	last := -1
	for _, m := range messages {
		at := time.UnixMicro(int64(m.Time))
		i := -1
		for i+1 < len(began) && !began[i+1].Truncate(time.Microsecond).After(at) {
			i++
		}
		if i < 0 {
			continue // of the deployment's first start
		}
		if i != last {
			fmt.Fprintf(&b, "after %s\n", s.steps[i].name)
			last = i
		}
		fmt.Fprintf(&b, "%s %s", strings.TrimPrefix(m.Exchange, "exchange/taskcluster-"), p.names.text(m.Key))
		for _, cc := range m.CC {
			fmt.Fprintf(&b, " cc:%s", p.names.text(cc))
		}
		payload, err := decode(m.Payload)
		if err != nil {
			p.t.Fatalf("event of %s: %v: %s", m.Exchange, err, m.Payload)
		}
		fmt.Fprintf(&b, "\n%s", render(p.names.json("", payload)))
	}
	return b.String()
}

// path is the path that a step's request line names, without the query.
func (st *step) pathOnly() string {
	u, err := url.Parse(st.path)
	if err != nil {
		return st.path
	}
	return u.Path
}

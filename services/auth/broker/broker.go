// Package broker gets temporary credentials of other systems for callers whom
// the auth service has found to be allowed: parts of S3 buckets, Azure tables
// and containers, Google service accounts, Sentry projects, GitHub
// repositories.
//
// What it promises:
//
//   - What is handed out is never good for more than was asked for.
//   - A system that the deployment has no access to is answered with an error
//     that names the setting which is missing.
//   - No request to another system lasts longer than requestTimeout or reads
//     more than maxAnswer bytes, and none follows a redirect.
//   - Nothing secret is in an error, be it for the caller or for the log.
//
// Errors that the caller can do something about are *tcerr.Error; all others
// are the deployment's fault or the other system's.
package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"taskcluster/internal/clock"
)

const (
	// requestTimeout is for one request to another system. Most methods make
	// one or two, and clients give up after 30 seconds.
	requestTimeout = 10 * time.Second
	// maxAnswer is how many bytes of an answer are read. GitHub describes each
	// of the 500 repositories that a token may be for in about 7 kilobytes.
	maxAnswer = 8 << 20
	// credentialLifetime is how long AWS and Google credentials last.
	credentialLifetime = time.Hour
)

// The settings that give access to other systems.
const (
	AWSSetting    = "aws-credentials-allowed-buckets"
	AzureSetting  = "azure-accounts"
	GCPSetting    = "gcp-credentials-allowed-projects"
	SentrySetting = "sentry"
	GitHubSetting = "github-apps"
)

// Settings are what gives the deployment access to other systems, each as the
// JSON that docs/credentials.md describes. An empty one leaves a system out.
type Settings struct {
	AWS, Azure, GCP, Sentry, GitHub string
}

// Brokers are the brokers of a deployment. Those of systems that are left out
// answer with errors.
type Brokers struct {
	AWS    *AWS
	Azure  *Azure
	GCP    *GCP
	Sentry *Sentry
	GitHub *GitHub
}

// New reads the settings. Its errors name what is wrong without repeating
// values. The machine's clock is used when c is nil.
func New(s Settings, c clock.Clock) (*Brokers, error) {
	if c == nil {
		c = clock.Real{}
	}
	web := newWebClient()
	b := &Brokers{}
	var errs [5]error
	b.AWS, errs[0] = newAWS(s.AWS, web)
	b.Azure, errs[1] = newAzure(s.Azure, web, c)
	b.GCP, errs[2] = newGCP(s.GCP, web)
	b.Sentry, errs[3] = newSentry(s.Sentry, web, c)
	b.GitHub, errs[4] = newGitHub(s.GitHub, web, c)
	return b, errors.Join(errs[:]...)
}

// parse reads the JSON of a setting. What it reports has no values in it, as
// these may be secret.
func parse(setting, text string, into any) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			return fmt.Errorf("setting %s: there is more behind the JSON", setting)
		}
		return nil
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return fmt.Errorf("setting %s: %s must not be of this type", setting, kind.Field)
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return fmt.Errorf("setting %s: there is no member %s", setting, strings.TrimPrefix(err.Error(), "json: unknown field "))
	case errors.As(err, &syntax):
		return fmt.Errorf("setting %s: not JSON, at byte %d", setting, syntax.Offset)
	}
	return fmt.Errorf("setting %s: not JSON", setting)
}

// endpoint checks an address of another system, and gives fallback for none.
func endpoint(setting, member, address, fallback string) (string, error) {
	if address == "" {
		return fallback, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("setting %s: %s is not an address like https://example.com", setting, member)
	}
	return strings.TrimRight(address, "/"), nil
}

// newWebClient is how other systems are reached.
func newWebClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{
		Timeout:   requestTimeout,
		Transport: bounded{transport},
		// A redirect would take what authenticates us elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded reads no more than maxAnswer bytes of an answer.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	}
	return answer, err
}

// answer is what another system said.
type answer struct {
	request string // "GET api.example.com/path", for errors
	status  int
	header  http.Header
	body    []byte
}

// ask sends a request with JSON, if there is a body, and reads the answer.
func ask(ctx context.Context, web *http.Client, method, address string, header http.Header, body any) (*answer, error) {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, address, payload)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return send(web, r)
}

func send(web *http.Client, r *http.Request) (*answer, error) {
	r.Header.Set("User-Agent", "taskcluster")
	a := &answer{request: r.Method + " " + r.URL.Host + r.URL.EscapedPath()}
	reply, err := web.Do(r)
	if err != nil {
		var at *url.Error // whose text would repeat the query
		if errors.As(err, &at) {
			err = at.Err
		}
		return nil, fmt.Errorf("%s: %w", a.request, err)
	}
	defer reply.Body.Close()
	a.status, a.header = reply.StatusCode, reply.Header
	if a.body, err = io.ReadAll(reply.Body); err != nil {
		return nil, fmt.Errorf("%s: %w", a.request, err)
	}
	return a, nil
}

// unexpected is the error for an answer that nothing can be done about. said
// is what the system gave as its reason, from a member that holds no secrets.
func (a *answer) unexpected(said string) error {
	return fmt.Errorf("%s: status %d: %q", a.request, a.status, short(said))
}

// decode reads the JSON of an answer.
func (a *answer) decode(into any) error {
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("%s: status %d: the answer is not the JSON that it should be", a.request, a.status)
	}
	return nil
}

// said is a text member of an answer, "" if there is none.
func (a *answer) said(member string) string {
	var object map[string]any
	if json.Unmarshal(a.body, &object) != nil {
		return ""
	}
	text, _ := object[member].(string)
	return short(text)
}

// short limits foreign text that goes into errors.
func short(s string) string {
	const most = 300
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

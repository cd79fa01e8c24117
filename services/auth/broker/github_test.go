package broker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/tcerr"
	"taskcluster/services/auth/broker"
	"taskcluster/services/auth/broker/brokertest"
)

// onGitHub is a broker of tokens beside a double of GitHub.
type onGitHub struct {
	*testing.T
	double *brokertest.GitHub
	broker *broker.GitHub
	clock  *clock.Fake
}

func withGitHub(t *testing.T) onGitHub {
	t.Helper()
	c := clock.NewFake(clock.Of(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)))
	double := brokertest.NewGitHub(func() time.Time { return c.Now().Std() }, map[string]string{"contents": "write", "issues": "read", "metadata": "read"})
	t.Cleanup(double.Close)
	all, err := broker.New(broker.Settings{GitHub: double.Setting()}, c)
	if err != nil {
		t.Fatal(err)
	}
	return onGitHub{t, double, all.GitHub, c}
}

var readContents = map[string]string{"contents": "read"}

func (g onGitHub) ask(owner string, repositories ...string) (broker.GitHubToken, error) {
	return g.broker.RepoToken(context.Background(), brokertest.GitHubApp, owner, repositories, readContents)
}

// got asks for a token that must be given.
func (g onGitHub) got(owner string, repositories ...string) *brokertest.GitHubGrant {
	g.Helper()
	token, err := g.ask(owner, repositories...)
	if err != nil {
		g.Fatal(err, g.double.Refusals())
	}
	grant := g.double.Grant(token.Token)
	if grant == nil || clock.Of(grant.Expires) != token.Expires {
		g.Fatalf("not a token that was made, or until %s: %+v", token.Expires, grant)
	}
	return grant
}

// refused checks an error: its code, words in it, and that nothing secret is.
func (g onGitHub) refused(err error, code tcerr.Code, words ...string) {
	g.Helper()
	checkRefusal(g.T, err, code, words, g.double.PrivateKey(), "Bearer", "eyJ", "ghs_")
}

// checkRefusal is for all brokers. An empty code is for errors that are not the
// caller's, which the API answers with 500.
func checkRefusal(t *testing.T, err error, code tcerr.Code, words []string, secrets ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there is no error")
	}
	var own *tcerr.Error
	if errors.As(err, &own) != (code != "") || own != nil && own.Code != code {
		t.Errorf("want code %q: %#v", code, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error lacks %q: %v", word, err)
		}
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err)} {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("something secret is in the error: %s", text)
			}
		}
	}
}

func TestGitHubToken(t *testing.T) {
	g := withGitHub(t)
	g.double.InstallAtOrganization("MozIlla", "One", "two", "three")
	grant := g.got("mozilla", "one", "two")
	if grant.Owner != "MozIlla" || !slices.Equal(grant.Repositories, []string{"One", "two"}) ||
		!maps.Equal(grant.Permissions, map[string]string{"contents": "read", "metadata": "read"}) {
		t.Errorf("the token is good for %+v", grant)
	}
	if got, want := clock.Of(grant.Expires), g.clock.Now().Add(time.Hour); got != want {
		t.Errorf("until %s, want %s", got, want)
	}
	g.double.InstallAtUser("Octocat", "Hello.World")
	if grant := g.got("octocat", "hello.world"); grant.Owner != "Octocat" {
		t.Errorf("the token is of %s", grant.Owner)
	}
}

// TestGitHubManyRepositories: GitHub describes each of them in its answer.
func TestGitHubManyRepositories(t *testing.T) {
	g := withGitHub(t)
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprintf("a-repository-with-a-name-that-is-long-%d", i))
	}
	g.double.InstallAtOrganization("mozilla", names...)
	if grant := g.got("mozilla", names...); len(grant.Repositories) != 500 {
		t.Error(len(grant.Repositories))
	}
}

func TestGitHubInstallationsAreRemembered(t *testing.T) {
	g := withGitHub(t)
	g.double.InstallAtOrganization("mozilla", "one")
	lookUps := func() (n int) {
		for _, r := range g.double.Requests() {
			if strings.HasSuffix(r, "/installation") {
				n++
			}
		}
		return n
	}
	g.got("mozilla", "one")
	g.clock.Advance(59 * time.Minute)
	g.got("mozilla", "one")
	if n := lookUps(); n != 1 {
		t.Errorf("%d look-ups within an hour", n)
	}
	g.clock.Advance(2 * time.Minute)
	g.got("mozilla", "one")
	if n := lookUps(); n != 1 {
		t.Errorf("%d look-ups after an hour", n)
	}
	// It is installed anew, under another id.
	g.double.Uninstall("mozilla")
	g.double.InstallAtOrganization("mozilla", "one")
	g.got("mozilla", "one")
	if n := lookUps(); n != 1 {
		t.Errorf("%d look-ups of a new installation", n)
	}
	// It is gone, and then there again.
	g.double.Uninstall("mozilla")
	_, err := g.ask("mozilla", "one")
	g.refused(err, tcerr.ResourceNotFound, "not installed", "mozilla")
	g.double.InstallAtOrganization("mozilla", "one")
	g.got("mozilla", "one")
}

func TestGitHubAppThatIsNot(t *testing.T) {
	g := withGitHub(t)
	_, err := g.broker.RepoToken(context.Background(), "other", "mozilla", []string{"one"}, readContents)
	g.refused(err, tcerr.ResourceNotFound, "other", broker.GitHubSetting)
	_, err = g.ask("mozilla", "one")
	g.refused(err, tcerr.ResourceNotFound, "not installed", "mozilla")
	g.double.InstallAtOrganization("suspended", "one")
	g.double.Suspend("suspended")
	_, err = g.ask("suspended", "one")
	g.refused(err, tcerr.ResourceNotFound, "suspended")

	// These would be steps in a path.
	g.double.Requests()
	for _, owner := range []string{".", ".."} {
		_, err := g.ask(owner, "one")
		g.refused(err, tcerr.ResourceNotFound, "not installed")
	}
	if r := g.double.Requests(); len(r) != 0 {
		t.Errorf("GitHub was asked %q", r)
	}
}

func TestGitHubRenamedOwner(t *testing.T) {
	g := withGitHub(t)
	g.double.InstallAtOrganization("before", "one")
	g.double.Rename("before", "after")
	_, err := g.ask("before", "one")
	g.refused(err, tcerr.InputError, "another name")
	if r := g.double.Requests(); len(r) != 1 {
		t.Errorf("a redirect was followed: %q", r)
	}
	g.got("after", "one")

	// It is renamed while its installation is remembered.
	g.double.Rename("after", "later")
	_, err = g.ask("after", "one")
	g.refused(err, tcerr.InputError, "another name")
	g.got("later", "one")

	// A proxy, or GitHub itself, may follow its own redirect.
	g.double.Override(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"id": 1, "account": {"login": "after"}}`)
	})
	_, err = g.ask("before", "one")
	g.refused(err, tcerr.InputError, "another name")
}

func TestGitHubRefusesTheToken(t *testing.T) {
	g := withGitHub(t)
	g.double.InstallAtOrganization("mozilla", "one")
	_, err := g.ask("mozilla", "one", "unknown")
	g.refused(err, tcerr.InputError, "at least one repository that does not exist")
	for _, more := range []map[string]string{{"issues": "write"}, {"secrets": "read"}} {
		_, err := g.broker.RepoToken(context.Background(), brokertest.GitHubApp, "mozilla", []string{"one"}, more)
		g.refused(err, tcerr.InputError, "not granted to this installation")
	}
}

// TestGitHubIsAskedForSomething: without names of repositories or permissions,
// GitHub gives all of them.
func TestGitHubIsAskedForSomething(t *testing.T) {
	g := withGitHub(t)
	g.double.InstallAtOrganization("mozilla", "one")
	_, err := g.ask("mozilla")
	g.refused(err, tcerr.InputError)
	_, err = g.broker.RepoToken(context.Background(), brokertest.GitHubApp, "mozilla", []string{"one"}, nil)
	g.refused(err, tcerr.InputError)
}

// TestGitHubGivesMore: a token that is good for more than was asked for, as
// when a repository has another name now, is not handed out.
func TestGitHubGivesMore(t *testing.T) {
	for name, test := range map[string]struct {
		granted string
		code    tcerr.Code
	}{
		"another repository": {`"repositories": [{"name": "renamed"}], "permissions": {"contents": "read"}`, tcerr.InputError},
		"all repositories":   {`"repository_selection": "all", "permissions": {"contents": "read"}`, ""},
		"no list":            {`"permissions": {"contents": "read"}`, ""},
		"another owner's":    {`"repositories": [{"name": "one", "owner": {"login": "after"}}], "permissions": {"contents": "read"}`, tcerr.InputError},
		"another level":      {`"repositories": [{"name": "one"}], "permissions": {"contents": "write"}`, ""},
		"another permission": {`"repositories": [{"name": "one"}], "permissions": {"contents": "read", "issues": "read"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := withGitHub(t)
			g.double.InstallAtOrganization("mozilla", "one")
			g.got("mozilla", "one")
			g.double.Override(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusCreated)
				fmt.Fprintf(w, `{"token": "ghs_secret", "expires_at": "2026-05-04T04:02:01Z", %s}`, test.granted)
			})
			_, err := g.ask("mozilla", "one")
			g.refused(err, test.code)
		})
	}
}

func TestGitHubRateLimits(t *testing.T) {
	g := withGitHub(t)
	g.double.InstallAtOrganization("mozilla", "one")
	g.double.LimitRequests(0)
	_, err := g.ask("mozilla", "one")
	g.refused(err, tcerr.TooManyRequests)
	g.double.LimitRequests(1) // the look-up, and no token
	_, err = g.ask("mozilla", "one")
	g.refused(err, tcerr.TooManyRequests)
	g.double.LimitRequests(-1)
	g.got("mozilla", "one")

	for name, answer := range map[string]http.HandlerFunc{
		"429": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"Retry-After": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusForbidden)
		},
		"secondary": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"message": "You have exceeded a secondary rate limit."}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g.T = t
			g.double.Override(answer)
			_, err := g.ask("mozilla", "one")
			g.refused(err, tcerr.TooManyRequests)
		})
	}
}

// TestGitHubFails has answers that are the deployment's or GitHub's fault.
func TestGitHubFails(t *testing.T) {
	for name, answer := range map[string]string{
		"403 Resource not accessible": `{"message": "Resource not accessible by integration"}`,
		"401 could not be decoded":    `{"message": "A JSON web token could not be decoded"}`,
		"500 status 500":              `<html>`,
		"201 not the JSON":            `{"token": "ghs_secret", "expires_at": 7}`,
		"201 has no token":            `{"expires_at": "2026-05-04T04:02:01Z"}`,
		"302 status 302":              ``,
	} {
		t.Run(name, func(t *testing.T) {
			g := withGitHub(t)
			g.double.InstallAtOrganization("mozilla", "one")
			g.got("mozilla", "one") // so that the next request is for a token
			var status int
			_, word, _ := strings.Cut(name, " ")
			fmt.Sscan(name, &status)
			g.double.Override(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				fmt.Fprint(w, answer)
			})
			_, err := g.ask("mozilla", "one")
			g.refused(err, "", word, "/access_tokens")
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		g := withGitHub(t)
		g.double.Close()
		_, err := g.ask("mozilla", "one")
		g.refused(err, "", "/orgs/mozilla/installation")
	})
}

func TestGitHubSetting(t *testing.T) {
	g := withGitHub(t)
	good := g.double.Setting()
	// An app's id is a number at GitHub, and in settings files too.
	if _, err := broker.New(broker.Settings{GitHub: strings.Replace(good, `"4711"`, `4711`, 1)}, nil); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"no id":        strings.Replace(good, `"4711"`, `""`, 1),
		"id of a kind": strings.Replace(good, `"4711"`, `true`, 1),
		"two of one":   "[" + strings.Trim(good, "[]") + "," + strings.Trim(good, "[]") + "]",
		"not a key":    strings.Replace(good, "BEGIN", "BEGUN", 1),
		"an address":   strings.Replace(good, "http://", "http://user:hunter2@", 1),
		"a misspelt":   strings.Replace(good, "privateKey", "privatekeys", 1),
		"not a list":   strings.Trim(good, "[]"),
		"none":         "[null]",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := broker.New(broker.Settings{GitHub: text}, nil)
			checkRefusal(t, err, "", []string{broker.GitHubSetting}, g.double.PrivateKey()[40:80], "hunter2")
		})
	}
}

package broker_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/tcerr"
	"taskcluster/services/auth/broker"
	"taskcluster/services/auth/broker/brokertest"
)

// fails checks an error: its code, "" for one that is not the caller's, and that
// nothing secret is in it.
func fails(t *testing.T, err error, code tcerr.Code, secrets ...string) {
	t.Helper()
	var own *tcerr.Error
	if err == nil || errors.As(err, &own) != (code != "") || own != nil && own.Code != code {
		t.Errorf("want an error with the code %q: %v", code, err)
		return
	}
	for _, s := range secrets {
		if strings.Contains(err.Error(), s) {
			t.Errorf("something secret is in the error: %v", err)
		}
	}
}

func brokers(t *testing.T, s broker.Settings, c clock.Clock) *broker.Brokers {
	t.Helper()
	all, err := broker.New(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// broken answers like a system that fails, and repeats what it was sent.
func broken(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
	w.Write([]byte(r.Header.Get("Authorization")))
}

func TestAWS(t *testing.T) {
	double := brokertest.NewSTS(nil, "us-west-2", "my-bucket")
	defer double.Close()
	aws := brokers(t, broker.Settings{AWS: double.Setting()}, nil).AWS
	arn := func(key string) string { return "arn:aws:s3:::my-bucket/" + key }
	for _, test := range []struct {
		prefix           string
		write            bool
		inside, outside  string
		listed, unlisted string
	}{
		{"a/b/", false, "a/b/c", "a/bc", "a/b/", "a/"},
		{"a/b/", true, "a/b/c", "a/c", "a/b/x", ""},
		{"", true, "anything", "", "x", "\x00"},
		{"a*?${x}", true, "a*?${x}/1", "abc/1", "a*?${x}", "abcx"},
	} {
		got, err := aws.Credentials(t.Context(), "my-bucket", test.prefix, test.write)
		if err != nil {
			t.Fatalf("%q: %v %v", test.prefix, err, double.Refusals())
		}
		p := double.Policy(got.SessionToken)
		if p == nil || clock.Of(p.Expires) != got.Expires {
			t.Fatalf("%q: not a session that was made, or until %s", test.prefix, got.Expires)
		}
		if left := time.Until(p.Expires); left < 55*time.Minute || left > time.Hour {
			t.Errorf("%q: good for %s", test.prefix, left)
		}
		for action, want := range map[string]bool{"s3:GetObject": true, "s3:PutObject": test.write, "s3:DeleteObject": test.write, "s3:PutBucketPolicy": false} {
			if p.Allows(action, arn(test.inside), nil) != want {
				t.Errorf("%q, write %v: %s of %s", test.prefix, test.write, action, test.inside)
			}
		}
		if test.outside != "" && p.Allows("s3:GetObject", arn(test.outside), nil) || p.Allows("s3:GetObject", "arn:aws:s3:::other/"+test.inside, nil) {
			t.Errorf("%q: reaches further", test.prefix)
		}
		list := func(prefix string) bool {
			return p.Allows("s3:ListBucket", "arn:aws:s3:::my-bucket", map[string]string{"s3:prefix": prefix})
		}
		if !list(test.listed) || test.unlisted != "\x00" && list(test.unlisted) {
			t.Errorf("%q: listing", test.prefix)
		}
	}
	_, err := aws.Credentials(t.Context(), "other-bucket", "a", false)
	fails(t, err, tcerr.ResourceNotFound)
	_, err = aws.Credentials(t.Context(), "my-bucket", "/a", false)
	fails(t, err, tcerr.InvalidRequestArguments, double.Secret())
	_, err = aws.Credentials(t.Context(), "my-bucket", strings.Repeat("long/", 500), false)
	fails(t, err, tcerr.InputError, double.Secret())
	double.Override(broken)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = aws.Credentials(ctx, "my-bucket", "a", false)
	fails(t, err, "", double.Secret(), "AWS4-HMAC")
	_, err = brokers(t, broker.Settings{}, nil).AWS.Credentials(t.Context(), "my-bucket", "a", false)
	fails(t, err, tcerr.ResourceNotFound)
}

func TestAzure(t *testing.T) {
	c := clock.NewFake(clock.Of(time.Date(2026, 5, 4, 3, 2, 1, 500_000_000, time.UTC)))
	double := brokertest.NewAzure(func() time.Time { return c.Now().Std() }, "abcaccount", 2)
	defer double.Close()
	azure := brokers(t, broker.Settings{Azure: double.Setting()}, c).Azure
	use := func(sas broker.SAS, method, path, more string) int {
		r, err := http.NewRequest(method, double.URL()+path+"?"+sas.Query+more, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	sign := func(f func(context.Context, string, string, bool) (broker.SAS, error), name string, write bool) broker.SAS {
		t.Helper()
		sas, err := f(t.Context(), "abcaccount", name, write)
		if err != nil {
			t.Fatal(err, double.Refusals())
		}
		return sas
	}
	if got := azure.Accounts(); !slices.Equal(got, []string{"abcaccount"}) {
		t.Error(got)
	}
	for _, kind := range []struct {
		sign  func(context.Context, string, string, bool) (broker.SAS, error)
		list  func(context.Context, string, string) ([]string, string, error)
		made  func() []string
		write string
	}{
		{azure.TableSAS, azure.Tables, double.Tables, "POST"},
		{azure.ContainerSAS, azure.Containers, double.Containers, "PUT"},
	} {
		var all []string
		for _, name := range []string{"one", "two", "three", "four", "five"} {
			sign(kind.sign, name, true)
			all = append(all, name)
		}
		sign(kind.sign, "one", true) // is there already
		if got := kind.made(); !slices.Equal(got, all) {
			t.Errorf("made: %v", got)
		}
		slices.Sort(all)
		var listed []string
		for from, pages := "", 0; ; {
			names, next, err := kind.list(t.Context(), "abcaccount", from)
			if err != nil || len(names) > 2 {
				t.Fatal(names, err, double.Refusals())
			}
			listed = append(listed, names...)
			if from = next; from == "" {
				break
			}
			if pages++; pages > 5 {
				t.Fatal("the list has no end")
			}
		}
		if !slices.Equal(listed, all) {
			t.Errorf("listed: %v", listed)
		}

		read, write := sign(kind.sign, "one", false), sign(kind.sign, "one", true)
		if want := c.Now().Add(25 * time.Minute).Std().Truncate(time.Second); read.Expiry.Std() != want {
			t.Errorf("until %s, want %s", read.Expiry, want)
		}
		forged := write
		forged.Query = strings.Replace(read.Query, "sp=r", "sp=raw", 1)
		for _, use := range []struct {
			what      string
			got, want int
		}{
			{"read", use(read, "GET", "/one", ""), 200},
			{"write with a signature for reading", use(read, kind.write, "/one", ""), 403},
			{"write", use(write, kind.write, "/one", ""), 200},
			{"read with a signature for writing", use(write, "GET", "/one", ""), 200},
			{"another one", use(write, "GET", "/two", ""), 403},
			{"altered", use(forged, kind.write, "/one", ""), 403},
		} {
			if use.got != use.want {
				t.Errorf("%s: %d, want %d", use.what, use.got, use.want)
			}
		}
		c.Advance(-14 * time.Minute) // a clock that is behind
		early := use(read, "GET", "/one", "")
		c.Advance(-2 * time.Minute)
		tooEarly := use(read, "GET", "/one", "")
		c.Advance(40 * time.Minute)
		late := use(read, "GET", "/one", "")
		c.Advance(2 * time.Minute)
		tooLate := use(read, "GET", "/one", "")
		if early != 200 || tooEarly != 403 || late != 200 || tooLate != 403 {
			t.Errorf("the time of a signature: %d %d %d %d", early, tooEarly, late, tooLate)
		}
		_, err := kind.sign(t.Context(), "unknown", "one", false)
		fails(t, err, tcerr.ResourceNotFound)
		_, _, err = kind.list(t.Context(), "unknown", "")
		fails(t, err, tcerr.ResourceNotFound)
	}
	if containers := sign(azure.ContainerSAS, "one", false); use(containers, "GET", "/one", "&comp=list&restype=container") != 200 {
		t.Error("blobs cannot be listed")
	}
	made := len(double.Tables())
	sign(azure.TableSAS, "unmade", false)
	if len(double.Tables()) != made {
		t.Error("a signature for reading made a table")
	}
	double.Override(broken)
	_, err := azure.TableSAS(t.Context(), "abcaccount", "one", true)
	fails(t, err, "", double.Key(), "SharedKey")
	_, _, err = azure.Containers(t.Context(), "abcaccount", "")
	fails(t, err, "", double.Key(), "SharedKey")
}

func TestGCP(t *testing.T) {
	const allowed, gone = "tasks@double-project.iam.gserviceaccount.com", "gone@double-project.iam.gserviceaccount.com"
	double := brokertest.NewGCP(allowed, "secret@double-project.iam.gserviceaccount.com")
	defer double.Close()
	gcp := brokers(t, broker.Settings{GCP: double.Setting(allowed, gone)}, nil).GCP
	for range 2 {
		got, err := gcp.Token(t.Context(), brokertest.GCPProject, allowed)
		if err != nil {
			t.Fatal(err, double.Refusals())
		}
		grant := double.Grant(got.Token)
		if grant == nil || grant.Account != allowed || clock.Of(grant.Expires) != got.Expires {
			t.Fatalf("not a token that was made, or until %s: %+v", got.Expires, grant)
		}
		if left := time.Until(grant.Expires); left < 55*time.Minute || left > time.Hour {
			t.Errorf("good for %s", left)
		}
	}
	if n := len(slices.DeleteFunc(double.Requests(), func(r string) bool { return r != "POST /token" })); n != 1 {
		t.Errorf("the deployment proved itself %d times", n)
	}
	_, err := gcp.Token(t.Context(), brokertest.GCPProject, "secret@double-project.iam.gserviceaccount.com")
	fails(t, err, tcerr.InvalidRequestArguments)
	_, err = gcp.Token(t.Context(), "other-project", allowed)
	fails(t, err, tcerr.ResourceNotFound)
	_, err = gcp.Token(t.Context(), brokertest.GCPProject, gone)
	fails(t, err, tcerr.ResourceNotFound)
	_, err = brokers(t, broker.Settings{}, nil).GCP.Token(t.Context(), brokertest.GCPProject, allowed)
	fails(t, err, tcerr.ResourceNotFound)
	double.Override(broken)
	_, err = gcp.Token(t.Context(), brokertest.GCPProject, allowed)
	fails(t, err, "", double.PrivateKey(), "ya29.")
	stranger := brokertest.NewGCP(allowed)
	defer stranger.Close()
	// The key of one deployment does not open another's.
	mixed := strings.ReplaceAll(double.Setting(allowed), double.URL(), stranger.URL())
	_, err = brokers(t, broker.Settings{GCP: mixed}, nil).GCP.Token(t.Context(), brokertest.GCPProject, allowed)
	fails(t, err, "", double.PrivateKey(), "eyJ")
	if err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Error("Google's reason is lost:", err)
	}
}

// Nobody waits for Google longer than he has time, however many do.
func TestGCPHangs(t *testing.T) {
	const allowed = "tasks@double-project.iam.gserviceaccount.com"
	double := brokertest.NewGCP(allowed)
	defer double.Close()
	release := make(chan struct{})
	defer close(release)
	double.Override(func(http.ResponseWriter, *http.Request) { <-release })
	gcp := brokers(t, broker.Settings{GCP: double.Setting(allowed)}, nil).GCP
	began := time.Now()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := gcp.Token(ctx, brokertest.GCPProject, allowed)
			fails(t, err, "", double.PrivateKey())
		})
	}
	all.Wait()
	if took := time.Since(began); took > 8*time.Second { // one request lasts 10
		t.Errorf("they waited for each other: %s", took)
	}
}

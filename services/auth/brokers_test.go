package auth

import (
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/hawk"
	"taskcluster/services/auth/broker"
	"taskcluster/services/auth/broker/brokertest"
)

// give lets a deployment have access to other systems.
func (d *deployment) give(s broker.Settings) {
	d.t.Helper()
	all, err := broker.New(s, d.clock)
	if err != nil {
		d.t.Fatal(err)
	}
	d.service.brokers = all
}

func (d *deployment) std() time.Time { return d.clock.Now().Std() }

// TestAWSMethod is B: an empty prefix, a bucket that is not known, and which
// scopes reach what.
func TestAWSMethod(t *testing.T) {
	d := deploy(t)
	sts := brokertest.NewSTS(d.std, "us-west-2", "my-bucket")
	defer sts.Close()
	d.give(broker.Settings{AWS: sts.Setting()})
	reader := d.client("reader", "auth:aws-s3:read-only:my-bucket/a/*")
	writer := d.client("writer", "auth:aws-s3:read-write:my-bucket/a/*")
	get := func(as hawk.Credentials, path string) answer {
		t.Helper()
		return d.call(as, "GET", "/aws/s3/"+path, nil)
	}
	allows := func(a answer, action, key string) bool {
		t.Helper()
		token := a.object()["credentials"].(map[string]any)["sessionToken"].(string)
		return sts.Policy(token).Allows(action, "arn:aws:s3:::my-bucket/"+key, nil)
	}
	a := get(reader, "read-only/my-bucket/a/b").want(200)
	if want := d.clock.Now().Add(time.Hour).String(); a.string("expires") != want {
		t.Errorf("until %s, want %s", a.string("expires"), want)
	}
	if !allows(a, "s3:GetObject", "a/b1") || allows(a, "s3:GetObject", "a/c") || allows(a, "s3:PutObject", "a/b1") {
		t.Error("what reading is good for")
	}
	if a := get(writer, "read-only/my-bucket/a/").want(200); allows(a, "s3:PutObject", "a/b") {
		t.Error("a writer who wants to read gets more")
	}
	if a := get(writer, "read-write/my-bucket/a/").want(200); !allows(a, "s3:PutObject", "a/b") {
		t.Error("a writer cannot write")
	}
	if a := get(d.root(), "read-only/my-bucket/").want(200); !allows(a, "s3:GetObject", "anything") {
		t.Error("an empty prefix")
	}
	if a := get(writer, "read-write/my-bucket/a/%C3%BC%20%2F").want(200); !allows(a, "s3:PutObject", "a/ü //") {
		t.Error("a prefix of other characters")
	}
	get(reader, "read-write/my-bucket/a/b").want(403, "auth:aws-s3:read-write:my-bucket/a/b")
	get(reader, "read-only/my-bucket/").want(403)
	get(nobody, "admin/my-bucket/a/").want(400, "InvalidRequestArguments")
	get(d.root(), "read-only/no-bucket/a/").want(404, "ResourceNotFound", "No credentials available for bucket no-bucket")
	get(d.root(), "read-only/my-bucket//a").want(400)
	get(d.root(), "read-only/My_Bucket/a").want(400, "InvalidRequestArguments")
	get(reader, "read-only/my-bucket/a/?format=xml").want(400, "InvalidRequestArguments")

	// What the AWS libraries read has a form of its own, which the published
	// schema is not for.
	d.outputs["awsS3Credentials"] = ""
	b := get(reader, "read-only/my-bucket/a/?format=iam-role-compat").want(200, `"Code":"Success"`, `"Type":"AWS-HMAC"`)
	for member, want := range map[string]string{"LastUpdated": d.clock.Now().String(), "Expiration": d.clock.Now().Add(time.Hour).String()} {
		if b.string(member) != want {
			t.Errorf("%s is %s, want %s", member, b.string(member), want)
		}
	}
	if sts.Policy(b.string("Token")) == nil || b.string("AccessKeyId") == "" || b.string("SecretAccessKey") == "" || len(b.object()) != 7 {
		t.Error(b.body)
	}
	if strings.Contains(d.logged.String()+d.replies.String(), sts.Secret()) {
		t.Error("the deployment's own secret shows")
	}
}

func TestAzureMethods(t *testing.T) {
	d := deploy(t)
	azure := brokertest.NewAzure(d.std, "abcaccount", 2)
	defer azure.Close()
	d.give(broker.Settings{Azure: azure.Setting()})
	d.call(d.root(), "GET", "/azure/accounts", nil).want(200, `{"accounts":["abcaccount"]}`)
	for _, kind := range []struct{ name, path, list, member string }{
		{"azure-table", "/azure/abcaccount/table/", "/azure/abcaccount/tables", "tables"},
		{"azure-container", "/azure/abcaccount/containers/", "/azure/abcaccount/containers", "containers"},
	} {
		reader := d.client("reader-"+kind.name, "auth:"+kind.name+":read-only:abcaccount/one")
		writer := d.client("writer-"+kind.name, "auth:"+kind.name+":read-write:abcaccount/*")
		made := func() int { return len(azure.Tables()) + len(azure.Containers()) }
		before := made()
		a := d.call(reader, "GET", kind.path+"one/read-only", nil).want(200)
		d.call(writer, "GET", kind.path+"one/read-only", nil).want(200)
		d.call(reader, "GET", kind.path+"one/read-write", nil).want(403)
		d.call(reader, "GET", kind.path+"two/read-only", nil).want(403)
		d.call(nobody, "GET", kind.path+"one/admin", nil).want(400, "InvalidRequestArguments")
		if want := d.clock.Now().Add(25 * time.Minute).String(); a.string("expiry") != want || !strings.Contains(a.string("sas"), "sig=") {
			t.Error(a.body)
		}
		if made() != before {
			t.Error("it was made though nobody may write to it")
		}
		for _, name := range []string{"one", "two", "three", "one"} {
			d.call(writer, "GET", kind.path+name+"/read-write", nil).want(200)
		}
		var all []string
		for token := ""; ; {
			a := d.call(d.root(), "GET", kind.list+token, nil).want(200)
			all = append(all, a.strings(kind.member)...)
			if a.string("continuationToken") == "" || len(all) > 3 {
				break
			}
			token = "?continuationToken=" + strings.NewReplacer("!", "%21", "=", "%3D", "+", "%2B").Replace(a.string("continuationToken"))
		}
		if !slices.Equal(all, []string{"one", "three", "two"}) {
			t.Error(all)
		}
		d.call(writer, "GET", kind.list, nil).want(403)
		d.call(d.root(), "GET", strings.Replace(kind.list, "abcaccount", "other", 1), nil).want(404, "other")
		d.call(d.root(), "GET", strings.Replace(kind.path, "abcaccount", "other", 1)+"one/read-only", nil).want(404, "other")
	}
	for _, name := range []string{"a--b", "-ab", "ab-", "ab", "Abc", strings.Repeat("a", 64)} {
		d.call(d.root(), "GET", "/azure/abcaccount/containers/"+name+"/read-only", nil).want(400, "InvalidRequestArguments")
	}
	for _, name := range []string{"1ab", "ab", "a_b", strings.Repeat("a", 64)} {
		d.call(d.root(), "GET", "/azure/abcaccount/table/"+name+"/read-only", nil).want(400, "InvalidRequestArguments")
	}
	if strings.Contains(d.logged.String()+d.replies.String(), azure.Key()) {
		t.Error("the account's key shows")
	}
}

func TestSentryMethod(t *testing.T) {
	d := deploy(t)
	sentry := brokertest.NewSentry(d.std, 2, "website")
	defer sentry.Close()
	d.give(broker.Settings{Sentry: sentry.Setting(false)})
	c := d.client("c", "auth:sentry:website")
	a := d.call(c, "GET", "/sentry/website/dsn", nil).want(200, `"project":"website"`)
	if want := d.clock.Now().Add(48 * time.Hour).String(); a.string("expires") != want {
		t.Error(a.body)
	}
	d.call(c, "GET", "/sentry/other/dsn", nil).want(403)
	d.call(d.root(), "GET", "/sentry/other/dsn", nil).want(404, "ResourceNotFound")
	d.call(d.root(), "GET", "/sentry/a.b/dsn", nil).want(400, "InvalidRequestArguments")

	// What is too old goes without anybody asking.
	d.clock.Advance(49 * time.Hour)
	if err := d.service.purgeAll(t.Context()); err != nil || len(sentry.Keys("website")) != 0 {
		t.Errorf("%v, %v", err, sentry.Keys("website"))
	}
	sentry.Close() // is out of order, which keeps nothing else from being purged
	body := d.clientBody()
	body["deleteOnExpiration"], body["expires"] = true, "2001-01-01T00:00:00Z"
	d.call(d.root(), "PUT", "/clients/old", body).want(200)
	if err := d.service.purgeAll(t.Context()); err == nil {
		t.Error("a purge that failed says nothing")
	}
	d.call(d.root(), "GET", "/clients/old", nil).want(404)
	d.call(c, "GET", "/sentry/website/dsn", nil).want(500, "incidentId")
	if strings.Contains(d.logged.String()+d.replies.String(), sentry.Token()) {
		t.Error("the deployment's own token shows")
	}
}

// TestGCPMethod is B: an account that is not allowed, and another project.
func TestGCPMethod(t *testing.T) {
	d := deploy(t)
	const allowed, other = "tasks@double-project.iam.gserviceaccount.com", "other@double-project.iam.gserviceaccount.com"
	gcp := brokertest.NewGCP(allowed, other)
	defer gcp.Close()
	d.give(broker.Settings{GCP: gcp.Setting(allowed)})
	c := d.client("c", "auth:gcp:access-token:"+brokertest.GCPProject+"/"+allowed)
	a := d.call(c, "GET", "/gcp/credentials/"+brokertest.GCPProject+"/"+allowed, nil).want(200)
	if grant := gcp.Grant(a.string("accessToken")); grant == nil || grant.Account != allowed {
		t.Error(a.body, gcp.Refusals())
	}
	d.call(c, "GET", "/gcp/credentials/"+brokertest.GCPProject+"/"+other, nil).want(403)
	d.call(d.root(), "GET", "/gcp/credentials/"+brokertest.GCPProject+"/"+other, nil).want(400, "InvalidRequestArguments", other)
	d.call(d.root(), "GET", "/gcp/credentials/wrong-project/"+allowed, nil).want(404, "ResourceNotFound")
}

// TestGitHubMethod is B: all scopes are needed, with the very level; names are
// compared in lower case; and what GitHub's refusals become.
func TestGitHubMethod(t *testing.T) {
	d := deploy(t)
	github := brokertest.NewGitHub(d.std, map[string]string{"contents": "write", "issues": "read"})
	defer github.Close()
	github.InstallAtOrganization("Mozilla", "Firefox", "thunderbird")
	d.give(broker.Settings{GitHub: github.Setting()})
	scope := "auth:github-repo-token:" + brokertest.GitHubApp + "/mozilla/"
	c := d.client("c", scope+"firefox:contents:write", scope+"firefox:issues:read", scope+"thunderbird:contents:read")
	ask := func(as hawk.Credentials, owner string, permissions map[string]string, repositories ...string) answer {
		t.Helper()
		return d.call(as, "POST", "/github/"+brokertest.GitHubApp+"/"+owner+"/repo-token",
			map[string]any{"permissions": permissions, "repositories": repositories})
	}
	write, read := map[string]string{"contents": "write"}, map[string]string{"contents": "read"}
	both := map[string]string{"contents": "write", "issues": "read"}

	a := ask(c, "MOZILLA", both, "FireFox", "firefox").want(200)
	grant := github.Grant(a.string("token"))
	if grant == nil || len(grant.Repositories) != 1 || !strings.EqualFold(grant.Repositories[0], "firefox") || grant.Permissions["contents"] != "write" {
		t.Errorf("%+v", grant)
	}
	if a.string("expires") != d.clock.Now().Add(time.Hour).String() {
		t.Error(a.body)
	}
	ask(c, "mozilla", both, "firefox", "thunderbird").want(403, scope+"thunderbird:contents:write", scope+"thunderbird:issues:read")
	ask(c, "mozilla", read, "firefox").want(403, scope+"firefox:contents:read") // write does not give read
	ask(c, "mozilla", write, "thunderbird").want(403)
	ask(c, "other", write, "firefox").want(403)
	ask(nobody, "mozilla", write, "firefox").want(403)

	ask(d.root(), "nobody-there", write, "firefox").want(404, "ResourceNotFound", "not installed")
	d.call(d.root(), "POST", "/github/unknown/mozilla/repo-token", map[string]any{"permissions": write, "repositories": []string{"firefox"}}).want(404, "unknown")
	ask(d.root(), "mozilla", write, "no-such-repository").want(400, "InputError")
	for _, bad := range []map[string]any{
		{"permissions": map[string]string{}, "repositories": []string{"firefox"}},
		{"permissions": write, "repositories": []string{}},
		{"permissions": map[string]string{"contents": "admin"}, "repositories": []string{"firefox"}},
		{"permissions": map[string]string{"workflows": "read"}, "repositories": []string{"firefox"}},
		{"permissions": map[string]string{"everything": "read"}, "repositories": []string{"firefox"}},
		{"permissions": write, "repositories": []string{"fire/fox"}},
		{"permissions": write, "repositories": slices.Repeat([]string{"firefox"}, 501)},
		{"permissions": write},
	} {
		d.call(d.root(), "POST", "/github/"+brokertest.GitHubApp+"/mozilla/repo-token", bad).want(400, "InputValidationError")
	}
	github.LimitRequests(0)
	ask(d.root(), "mozilla", write, "firefox").want(429, "TooManyRequests")
	github.LimitRequests(-1)
	github.Suspend("mozilla") // whose installation is remembered
	ask(d.root(), "mozilla", write, "firefox").want(500, "incidentId")
	github.InstallAtOrganization("before", "one")
	github.Rename("before", "after")
	ask(d.root(), "before", write, "one").want(400, "InputError", "another name")
	github.Uninstall("mozilla")
	ask(d.root(), "mozilla", write, "firefox").want(404, "not installed")
	if strings.Contains(d.logged.String()+d.replies.String(), github.PrivateKey()[40:80]) {
		t.Error("the app's key shows")
	}
}

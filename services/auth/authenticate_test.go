package auth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/hawk"
)

const someResource = "/api/queue/v1/task/x?y=%20z"

// authenticate asks, as another service does, who signed a request.
func (d *deployment) authenticate(authorization, resource string) answer {
	d.t.Helper()
	body := map[string]any{"method": "get", "resource": resource, "host": testHost, "port": testPort, "sourceIp": "127.0.0.1"}
	if authorization != "" {
		body["authorization"] = authorization
	}
	return d.call(nobody, "POST", "/authenticate-hawk", body).want(200)
}

// signed authenticates a request that was signed with the credentials.
func (d *deployment) signed(as hawk.Credentials) answer {
	d.t.Helper()
	header, err := as.Header(hawk.Request{Method: "GET", Resource: someResource, Host: testHost, Port: testPort}, "", d.clock.Now().Std())
	if err != nil {
		d.t.Fatal(err)
	}
	return d.authenticate(header, someResource)
}

// succeeded checks a success.
func (a answer) succeeded(clientID string, scopes ...string) answer {
	a.t.Helper()
	if a.string("status") != api.AuthSuccess || a.string("scheme") != "hawk" || a.string("clientId") != clientID {
		a.t.Fatalf("want success of %s: %s", clientID, a.body)
	}
	got := a.strings("scopes")
	for _, scope := range append(scopes, "assume:anonymous", "public:thing") {
		if !slices.Contains(got, scope) {
			a.t.Errorf("%s is missing in %q", scope, got)
		}
	}
	return a
}

// failed checks a failure with exactly that message.
func (a answer) failed(message string) {
	a.t.Helper()
	if a.string("status") != api.AuthFailed || a.string("message") != message {
		a.t.Errorf("want the failure %q: %s", message, a.body)
	}
}

// deployPublic is a deployment where everybody has the scope public:thing.
func deployPublic(t testing.TB) *deployment {
	d := deploy(t)
	d.call(d.root(), "POST", "/roles/anonymous", roleBody("public:thing")).want(200)
	return d
}

func (d *deployment) temporary(issuer hawk.Credentials, name string, scopes ...string) hawk.Credentials {
	d.t.Helper()
	return d.temporaryFor(issuer, name, -time.Minute, time.Hour, scopes...)
}

func (d *deployment) temporaryFor(issuer hawk.Credentials, name string, start, expiry time.Duration, scopes ...string) hawk.Credentials {
	d.t.Helper()
	c, err := issuer.Temporary(hawk.TemporaryOptions{
		Name: name, Scopes: scopes, Start: d.clock.Now().Add(start).Std(), Expiry: d.clock.Now().Add(expiry).Std(),
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// withExt is a header whose MAC is made up, with an ext.
func (d *deployment) withExt(id, ext string) string {
	return fmt.Sprintf(`Hawk id="%s", ts="%d", nonce="abc", ext="%s", mac="bWFj"`, id, d.clock.Now().Std().Unix(), ext)
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// edited changes members of a certificate; nil removes one.
func edited(t testing.TB, certificate string, changes map[string]any) string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(certificate), &members); err != nil {
		t.Fatal(err)
	}
	for name, value := range changes {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAuthenticateHawk(t *testing.T) {
	d := deployPublic(t)
	c := d.client("client", "a:*", "b", "assume:helper")
	d.role("helper", "help:*")

	t.Run("no credentials", func(t *testing.T) {
		a := d.authenticate("", someResource)
		if a.string("status") != "no-auth" || a.string("scheme") != "none" || a.string("expires") != d.clock.Now().Add(15*time.Minute).String() ||
			!slices.Equal(a.strings("scopes"), []string{"assume:anonymous", "public:thing"}) {
			t.Error(a.body)
		}
	})
	t.Run("B1 bad MAC", func(t *testing.T) {
		d.signed(hawk.Credentials{ClientID: "client", AccessToken: "wrong"}).failed("Unauthorized: Bad mac")
		header, _ := c.Header(hawk.Request{Method: "GET", Resource: someResource, Host: testHost, Port: testPort}, "", d.clock.Now().Std())
		d.authenticate(header, someResource+"1").failed("Unauthorized: Bad mac")
		d.authenticate(header, someResource).succeeded("client")
	})
	t.Run("B1 unknown client", func(t *testing.T) {
		d.signed(hawk.Credentials{ClientID: "ghost", AccessToken: "x"}).failed("Client with clientId 'ghost' not found")
		d.signed(hawk.Credentials{ClientID: "not even a name", AccessToken: "x"}).failed("Client with clientId 'not even a name' not found")
	})
	t.Run("forms of the header", func(t *testing.T) {
		for header, message := range map[string]string{
			"Basic abc":                         "Unauthorized",
			`Hawk id="client"`:                  "Bad Request: Missing attributes",
			`Hawk id=client`:                    "Bad Request: Bad header format",
			"Hawk " + strings.Repeat("x", 4096): "Bad Request: Header length too long",
		} {
			d.authenticate(header, someResource).failed(message)
		}
	})
	t.Run("stale timestamps", func(t *testing.T) {
		for skew, ok := range map[time.Duration]bool{15 * time.Minute: true, -15 * time.Minute: true, 901 * time.Second: false, -901 * time.Second: false} {
			header, _ := c.Header(hawk.Request{Method: "GET", Resource: someResource, Host: testHost, Port: testPort}, "", d.clock.Now().Add(skew).Std())
			if a := d.authenticate(header, someResource); ok {
				a.succeeded("client")
			} else {
				a.failed("Unauthorized: Stale timestamp")
			}
		}
	})
	t.Run("B2 ext", func(t *testing.T) {
		for _, ext := range []string{`{}`, `{"later":1,"certificate":null}`} {
			// Judged by the MAC: the ext itself is accepted.
			d.authenticate(d.withExt("client", encoded(ext)), someResource).failed("Unauthorized: Bad mac")
		}
		for _, ext := range []string{"!!!", "abc", encoded("abc"), encoded(`[]`), encoded(`"x"`), encoded(`1`)} {
			d.authenticate(d.withExt("client", ext), someResource).failed("Failed to parse ext")
		}
	})
	t.Run("B4 payload hash", func(t *testing.T) {
		hash := hawk.PayloadHash("application/json", []byte("{}"))
		header, _ := c.Header(hawk.Request{Method: "GET", Resource: someResource, Host: testHost, Port: testPort}, hash, d.clock.Now().Std())
		if a := d.authenticate(header, someResource).succeeded("client"); a.string("hash") != hash {
			t.Error(a.body)
		}
		if a := d.signed(c).succeeded("client"); strings.Contains(a.body, `"hash"`) {
			t.Error(a.body)
		}
	})
	t.Run("B5 everybody's scopes, expansion, expiry", func(t *testing.T) {
		a := d.signed(c).succeeded("client", "a:*", "b", "assume:helper", "help:*")
		if a.string("expires") != d.clock.Now().Add(240*time.Hour).String() {
			t.Error(a.body)
		}
	})
	t.Run("B6 authorizedScopes", func(t *testing.T) {
		root := d.root()
		root.AuthorizedScopes = []string{"z", "assume:helper", "x*", "xy"}
		want := []string{"assume:anonymous", "assume:helper", "help:*", "public:thing", "x*", "z"}
		if got := d.signed(root).succeeded(rootID).strings("scopes"); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		root.AuthorizedScopes = []string{}
		if got := d.signed(root).succeeded(rootID).strings("scopes"); !slices.Equal(got, []string{"assume:anonymous", "public:thing"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("B7 authorizedScopes by way of a role", func(t *testing.T) {
		r := c
		r.AuthorizedScopes = []string{"help:me", "public:thing"}
		if got := d.signed(r).succeeded("client").strings("scopes"); slices.Contains(got, "b") || !slices.Contains(got, "help:me") {
			t.Errorf("%q", got)
		}
	})
	t.Run("A20 authorizedScopes beyond what there is", func(t *testing.T) {
		r := c
		r.AuthorizedScopes = []string{"c"}
		if m := d.signed(r).string("message"); !strings.HasPrefix(m, "Supplied credentials do not satisfy authorizedScopes; credentials have scopes:\n") || !strings.Contains(m, "help:*") {
			t.Error(m)
		}
		// Who cannot sign for the client does not learn what it may do.
		forged := r
		forged.AccessToken = "x"
		d.signed(forged).failed("Unauthorized: Bad mac")
		d.bewit(forged).failed("Unauthorized: Bad mac")
		for ext, message := range map[string]string{
			`{"authorizedScopes":"a"}`:          "ext.authorizedScopes must be an array",
			`{"authorizedScopes":{}}`:           "ext.authorizedScopes must be an array",
			`{"authorizedScopes":[1]}`:          "ext.authorizedScopes must be an array of valid scopes",
			`{"authorizedScopes":["a:\n"]}`:     "ext.authorizedScopes must be an array of valid scopes",
			`{"authorizedScopes":["a:\u00e9"]}`: "ext.authorizedScopes must be an array of valid scopes",
		} {
			d.authenticate(d.withExt("client", encoded(ext)), someResource).failed(message)
		}
	})
	t.Run("B14 bewits", func(t *testing.T) {
		d.bewit(c).succeeded("client", "a:*", "help:*")
	})
}

// bewit authenticates a signed URL.
func (d *deployment) bewit(as hawk.Credentials) answer {
	d.t.Helper()
	return d.authenticate("", d.bewitResource(as, someResource, 10*time.Minute))
}

func (d *deployment) bewitResource(as hawk.Credentials, resource string, valid time.Duration) string {
	d.t.Helper()
	signed, err := as.SignURL("https://"+testHost+resource, d.clock.Now().Add(valid).Std())
	if err != nil {
		d.t.Fatal(err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		d.t.Fatal(err)
	}
	return u.RequestURI()
}

func TestBewit(t *testing.T) {
	d := deployPublic(t)
	c := d.client("client", "a:*", "auth:create-client:named/*")
	t.Run("B13 simple", func(t *testing.T) { d.bewit(c).succeeded("client", "a:*") })
	t.Run("B13 with authorizedScopes", func(t *testing.T) {
		r := c
		r.AuthorizedScopes = []string{"a:1"}
		d.bewit(r).succeeded("client", "a:1")
	})
	t.Run("B13 with a certificate", func(t *testing.T) { d.bewit(d.temporary(c, "", "a:2")).succeeded("client", "a:2") })
	t.Run("B13 named", func(t *testing.T) {
		d.bewit(d.temporary(c, "named/x", "a:2")).succeeded("named/x", "a:2")
	})
	t.Run("who answers for it", func(t *testing.T) {
		for _, as := range []hawk.Credentials{c, d.temporary(c, "", "a:2"), d.temporary(c, "named/x", "a:2"), d.temporary(c, "named/y", "a:2")} {
			for range 2 { // the second is remembered
				r := api.AuthRequest{Method: "GET", Resource: d.bewitResource(as, "/x", time.Minute), Host: testHost, Port: testPort}
				if got := d.service.Authenticate(t.Context(), r); got.Status != api.AuthSuccess || got.ClientID != as.ClientID || got.Issuer != "client" {
					t.Errorf("%+v", got)
				}
			}
		}
	})
	t.Run("B13 bad key", func(t *testing.T) {
		d.bewit(hawk.Credentials{ClientID: "client", AccessToken: "x"}).failed("Unauthorized: Bad mac")
	})
	t.Run("B13 unknown client", func(t *testing.T) {
		d.bewit(hawk.Credentials{ClientID: "ghost", AccessToken: "x"}).failed("Client with clientId 'ghost' not found")
	})
	t.Run("B13 garbage", func(t *testing.T) {
		for bewit, message := range map[string]string{
			"garbage": "Bad Request: Invalid bewit structure",
			"%%%":     "Bad Request: Invalid bewit structure",
			"":        "Unauthorized: Empty bewit",
		} {
			d.authenticate("", "/x?bewit="+bewit).failed(message)
		}
	})
	t.Run("expiry", func(t *testing.T) {
		resource := d.bewitResource(c, "/x?a=1", time.Minute)
		d.authenticate("", resource).succeeded("client")
		d.clock.Advance(time.Minute)
		d.authenticate("", resource).failed("Unauthorized: Access expired")
	})
	t.Run("only for reading", func(t *testing.T) {
		r := &api.AuthRequest{Method: "POST", Resource: d.bewitResource(c, "/x", time.Minute), Host: testHost, Port: testPort}
		if got := d.service.realm.authenticate(t.Context(), r); got.Message != "Unauthorized: Invalid method" {
			t.Error(got)
		}
	})
}

func TestCertificate(t *testing.T) {
	d := deployPublic(t)
	c := d.client("issuer", "a:*", "b", "auth:create-client:named/*", "auth:create-client:odd name")
	d.client("weak", "a:*")
	good := d.temporary(c, "", "a:1").Certificate
	named := d.temporary(c, "named/x", "a:1").Certificate
	now := d.clock.Now().Millis()

	t.Run("good ones", func(t *testing.T) {
		for range 2 { // the second time from memory
			d.signed(d.temporary(c, "", "a:1", "a:2")).succeeded("issuer", "a:1", "a:2")
			d.signed(d.temporary(c, "named/x", "a:1")).succeeded("named/x", "a:1")
			r := d.temporary(c, "named/x", "a:*")
			r.AuthorizedScopes = []string{"a:7"}
			for range 2 {
				if got := d.signed(r).succeeded("named/x", "a:7").strings("scopes"); slices.Contains(got, "a:*") {
					t.Error(got)
				}
			}
		}
		d.signed(d.temporary(c, "")).succeeded("issuer")
		d.signed(d.temporary(c, "named/none")).succeeded("named/none")
	})
	t.Run("B8 assume:anonymous, which the issuer has as everybody has", func(t *testing.T) {
		d.signed(d.temporary(c, "", "assume:anonymous", "public:thing")).succeeded("issuer")
	})
	t.Run("B9 the earlier expiry counts", func(t *testing.T) {
		body := d.clientBody("a")
		body["expires"] = d.clock.Now().Add(time.Hour).String()
		token := d.call(d.root(), "PUT", "/clients/short", body).want(200).string("accessToken")
		short := hawk.Credentials{ClientID: "short", AccessToken: token}
		for lasts, want := range map[time.Duration]time.Duration{2 * time.Hour: time.Hour, time.Minute: time.Minute} {
			if got := d.signed(d.temporaryFor(short, "", 0, lasts)).succeeded("short").string("expires"); got != d.clock.Now().Add(want).String() {
				t.Error(lasts, got)
			}
		}
	})

	for _, c := range []struct {
		name, certificate, message string
		id                         string
	}{
		{name: "B3 not an object", certificate: `"x"`, message: "ext.certificate must be a JSON object"},
		{name: "B3 a list", certificate: `[]`, message: "ext.certificate must be a JSON object"},
		{name: "B3 version", certificate: edited(t, good, map[string]any{"version": 2}), message: "ext.certificate.version must be 1"},
		{name: "B3 version as text", certificate: edited(t, good, map[string]any{"version": "1"}), message: "ext.certificate.version must be 1"},
		{name: "B3 no version", certificate: edited(t, good, map[string]any{"version": nil}), message: "ext.certificate.version must be 1"},
		{name: "B3 seed", certificate: edited(t, good, map[string]any{"seed": 1}), message: "ext.certificate.seed must be a string"},
		{name: "B3 seed's length", certificate: edited(t, good, map[string]any{"seed": "short"}), message: "ext.certificate.seed must be 44 characters"},
		{name: "B3 start", certificate: edited(t, good, map[string]any{"start": "2026-01-01T00:00:00Z"}), message: "ext.certificate.start must be a number"},
		{name: "B3 expiry", certificate: edited(t, good, map[string]any{"expiry": "2026-01-01T00:00:00Z"}), message: "ext.certificate.expiry must be a number"},
		{name: "B3 scopes", certificate: edited(t, good, map[string]any{"scopes": "a"}), message: "ext.certificate.scopes must be an array"},
		{name: "B3 no scopes", certificate: edited(t, good, map[string]any{"scopes": nil}), message: "ext.certificate.scopes must be an array"},
		{name: "B3 scopes that are no text", certificate: edited(t, good, map[string]any{"scopes": []any{1}}), message: "ext.certificate.scopes must be an array of valid scopes"},
		{name: "B3 a line break in a scope", certificate: edited(t, good, map[string]any{"scopes": []any{"a\nb"}}), message: "ext.certificate.scopes must be an array of valid scopes"},
		{name: "B10 start", certificate: edited(t, good, map[string]any{"start": now + 3600_000, "expiry": now + 7200_000}), message: "ext.certificate.start > now"},
		{name: "B10 expiry", certificate: edited(t, good, map[string]any{"expiry": now - 3600_000}), message: "ext.certificate.expiry < now"},
		{name: "B10 a year", certificate: edited(t, good, map[string]any{"expiry": now + 365*86400_000}), message: "ext.certificate cannot last longer than 31 days!"},
		{name: "clientId without issuer", certificate: edited(t, good, map[string]any{"clientId": "issuer"}), message: "ext.certificate.clientId must only be used with ext.certificate.issuer"},
		{name: "scopes that the issuer lacks", certificate: edited(t, good, map[string]any{"scopes": []any{"a:1", "z"}}), message: "ext.certificate issuer `issuer` doesn't satisfy all certificate scopes a:1, z.  The temporary credentials were not generated correctly."},
		{name: "B11 signature", certificate: edited(t, good, map[string]any{"signature": "short"}), message: "ext.certificate.signature is not valid"},
		{name: "B11 no signature", certificate: edited(t, good, map[string]any{"signature": nil}), message: "ext.certificate.signature is not valid"},
		{name: "B11 signature of something else", certificate: edited(t, good, map[string]any{"scopes": []any{"a:2"}}), message: "ext.certificate.signature is not valid"},
		{name: "B12 issuer not text", certificate: edited(t, named, map[string]any{"issuer": 1}), message: "ext.certificate.issuer must be a string"},
		{name: "B12 issuer not text, of an unknown client", certificate: edited(t, named, map[string]any{"issuer": 1}), id: "ghost", message: "ext.certificate.issuer must be a string"},
		{name: "B12 issuer is the name", certificate: edited(t, named, map[string]any{"issuer": "named/x"}), id: "named/x", message: "ext.certificate.issuer must differ from the supplied clientId"},
		{name: "B12 issuer is the name, of a malformed certificate", certificate: edited(t, named, map[string]any{"issuer": "named/x", "version": 2}), id: "named/x", message: "ext.certificate.issuer must differ from the supplied clientId"},
		{name: "B12 another name", certificate: named, id: "named/y", message: "ext.certificate.signature is not valid, or wrong clientId provided"},
		{name: "B12 signed without the line of the clientId", certificate: edited(t, good, map[string]any{"issuer": "issuer"}), id: "named/x", message: "ext.certificate.signature is not valid, or wrong clientId provided"},
		{name: "B12 the issuer may not name it so", certificate: edited(t, named, map[string]any{"issuer": "weak"}), id: "named/x", message: "ext.certificate issuer `weak` doesn't have `auth:create-client:named/x` for supplied clientId."},
		{name: "a name that cannot be", certificate: named, id: "odd name", message: "ext.certificate cannot name `odd name`, which is not a valid clientId"},
		{name: "unknown issuer", certificate: edited(t, named, map[string]any{"issuer": "ghost"}), id: "named/x", message: "Client with clientId 'ghost' not found"},
		{name: "unknown issuer, of a malformed certificate", certificate: edited(t, named, map[string]any{"issuer": "ghost", "version": 2}), id: "named/x", message: "Client with clientId 'ghost' not found"},
		{name: "unknown client, unnamed", certificate: good, id: "ghost", message: "Client with clientId 'ghost' not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.id == "" {
				c.id = "issuer"
			}
			// The MAC is wrong as well: certificates come first.
			d.authenticate(d.withExt(c.id, encoded(`{"certificate":`+c.certificate+`}`)), someResource).failed(c.message)
		})
	}

	t.Run("skew of five minutes", func(t *testing.T) {
		d.signed(d.temporaryFor(c, "", 5*time.Minute, time.Hour, "a:1")).succeeded("issuer")
		d.signed(d.temporaryFor(c, "", -time.Hour, -5*time.Minute, "a:1")).succeeded("issuer")
	})
	t.Run("remembered certificates follow the roles", func(t *testing.T) {
		follower := d.temporary(d.client("follower", "assume:later"), "", "assume:later")
		if got := d.signed(follower).succeeded("follower").strings("scopes"); slices.Contains(got, "granted") {
			t.Errorf("%q", got)
		}
		d.role("later", "granted")
		d.signed(follower).succeeded("follower", "granted")
		d.call(d.root(), "DELETE", "/roles/later", nil).want(204)
		if got := d.signed(follower).succeeded("follower").strings("scopes"); slices.Contains(got, "granted") {
			t.Errorf("%q", got)
		}
	})
	t.Run("remembered certificates are checked again", func(t *testing.T) {
		temporary := d.temporaryFor(c, "named/x", 0, time.Hour, "a:1")
		d.signed(temporary).succeeded("named/x")
		d.clock.Advance(time.Hour + 5*time.Minute + time.Second)
		d.signed(temporary).failed("ext.certificate.expiry < now")
		temporary = d.temporaryFor(c, "named/x", 0, time.Hour, "a:1")
		d.signed(temporary).succeeded("named/x")
		d.call(d.root(), "POST", "/clients/issuer", d.clientBody("a:*")).want(200)
		d.signed(temporary).failed("ext.certificate issuer `issuer` doesn't have `auth:create-client:named/x` for supplied clientId.")
		d.call(d.root(), "POST", "/clients/issuer", d.clientBody("a:*", "auth:create-client:named/*")).want(200)
		d.signed(temporary).succeeded("named/x")
		d.call(d.root(), "POST", "/clients/issuer/reset", nil).want(200)
		d.signed(temporary).failed("ext.certificate.signature is not valid, or wrong clientId provided")
		d.call(d.root(), "DELETE", "/clients/issuer", nil).want(204)
		d.signed(temporary).failed("Client with clientId 'issuer' not found")
	})
	t.Run("only what was signed is remembered", func(t *testing.T) {
		other := d.client("other", "a:*")
		before := len(d.service.realm.grants.entries)
		temporary := d.temporary(other, "", "a:1")
		temporary.AccessToken = "guessed"
		d.signed(temporary).failed("Unauthorized: Bad mac")
		if n := len(d.service.realm.grants.entries); n != before {
			t.Errorf("%d entries, there were %d", n, before)
		}
	})
}

// A request that lasts is judged by the age that its signature had when it came,
// and by what clients are now.
func TestAuthenticateAgain(t *testing.T) {
	d := deployPublic(t)
	c := d.client("lasting", "a:*")
	header := d.signedRequest(c)
	bewit := api.AuthRequest{Method: "GET", Resource: d.bewitResource(c, someResource, time.Minute), Host: testHost, Port: testPort}
	both := func(status, message string) {
		t.Helper()
		for name, r := range map[string]*api.AuthRequest{"header": &header, "bewit": &bewit} {
			if got := d.service.Authenticate(t.Context(), *r); got.Status != status || got.Message != message {
				t.Errorf("%s: %s %q, want %s %q", name, got.Status, got.Message, status, message)
			}
		}
	}
	came := d.clock.Now()
	d.clock.Advance(time.Hour)
	if r := d.service.Authenticate(t.Context(), header); r.Message != "Unauthorized: Stale timestamp" {
		t.Errorf("without the time at which it came: %s %q", r.Status, r.Message)
	}
	header.Received, bewit.Received = came, came
	both(api.AuthSuccess, "")
	d.call(d.root(), "POST", "/clients/lasting/disable", nil).want(200)
	both(api.AuthFailed, "Client with clientId 'lasting' is disabled")
	d.call(d.root(), "POST", "/clients/lasting/enable", nil).want(200)
	both(api.AuthSuccess, "")
	d.call(d.root(), "POST", "/clients/lasting/reset", nil).want(200)
	both(api.AuthFailed, "Unauthorized: Bad mac")
}

func TestTestAuthenticate(t *testing.T) {
	d := deploy(t)
	tester := hawk.Credentials{ClientID: "tester", AccessToken: "no-secret"}
	body := func(held, required []string) map[string]any {
		return map[string]any{"clientScopes": held, "requiredScopes": required}
	}
	t.Run("success", func(t *testing.T) {
		a := d.call(tester, "POST", "/test-authenticate", body([]string{"test:*", "assume:anonymous-x"}, []string{"test:a", "test:b"})).want(200)
		if a.string("clientId") != "tester" || !slices.Equal(a.strings("scopes"), []string{"assume:anonymous", "assume:anonymous-x", "test:*"}) {
			t.Error(a.body)
		}
	})
	t.Run("failures", func(t *testing.T) {
		d.call(tester, "POST", "/test-authenticate", body([]string{"a"}, []string{"b"})).want(403, "InsufficientScopes", "b")
		d.call(hawk.Credentials{ClientID: "tester", AccessToken: "x"}, "POST", "/test-authenticate", body([]string{}, []string{})).want(401, "Unauthorized: Bad mac")
		d.call(d.root(), "POST", "/test-authenticate", body([]string{}, []string{})).want(401, "Client with clientId 'static/taskcluster/root' not found")
		d.call(nobody, "POST", "/test-authenticate", body([]string{"a"}, []string{"a"})).want(403)
		d.call(tester, "POST", "/test-authenticate", `{"clientScopes":"a"}`).want(400, "InputValidationError")
		d.call(tester, "GET", "/scopes/current", nil).want(401) // not a client of the deployment
	})
	t.Run("the payload's hash", func(t *testing.T) {
		resource := "/api/auth/v1/test-authenticate"
		text := `{"clientScopes":[],"requiredScopes":[]}`
		for hashed, status := range map[string]int{text: 200, text + " ": 401} {
			header, err := tester.Header(hawk.Request{Method: "POST", Resource: resource, Host: testHost, Port: testPort},
				hawk.PayloadHash("application/json", []byte(hashed)), d.clock.Now().Std())
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("POST", resource, strings.NewReader(text))
			r.RequestURI = resource
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
			r.Header.Set("Authorization", header)
			d.send(r).want(status)
		}
	})
	t.Run("authorizedScopes", func(t *testing.T) {
		r := tester
		r.AuthorizedScopes = []string{"test:a"}
		d.call(r, "POST", "/test-authenticate", body([]string{"test:*"}, []string{"test:a"})).want(200, `["assume:anonymous","test:a"]`)
		d.call(r, "POST", "/test-authenticate", body([]string{"test:*"}, []string{"test:b"})).want(403)
		d.call(r, "POST", "/test-authenticate", body([]string{"other"}, []string{})).want(401, "AuthenticationFailed")
	})
	t.Run("with GET", func(t *testing.T) {
		d.call(tester, "GET", "/test-authenticate-get/", nil).want(200, `"clientId":"tester"`)
		d.call(d.temporary(tester, "test:me", "test:*"), "GET", "/test-authenticate-get/", nil).want(200, `"clientId":"test:me"`)
		d.call(d.temporary(tester, "", "test:other"), "GET", "/test-authenticate-get/", nil).want(403)
		d.call(d.temporary(tester, "elsewhere", "test:*"), "GET", "/test-authenticate-get/", nil).want(401)
		d.call(nobody, "GET", "/test-authenticate-get/", nil).want(403)
	})
	t.Run("with a bewit", func(t *testing.T) {
		resource := d.bewitResource(tester, "/api/auth/v1/test-authenticate-get/", time.Minute)
		r := httptest.NewRequest("GET", resource, nil)
		r.RequestURI = resource
		d.send(r).want(200, `"clientId":"tester"`)
		r = httptest.NewRequest("GET", resource, nil)
		r.RequestURI = resource
		r.Header.Set("Authorization", "Hawk x")
		d.send(r).want(401, "Cannot use two authentication schemes at once")
	})
}

func TestLastDateUsed(t *testing.T) {
	d := deploy(t)
	c := d.client("foo", "auth:current-scopes")
	used := func() string {
		t.Helper()
		// What waits to be written down is written down first.
		for len(d.service.used) > 0 {
			if err := d.service.writeUse(t.Context(), <-d.service.used); err != nil {
				t.Fatal(err)
			}
		}
		return d.call(d.root(), "GET", "/clients/foo", nil).want(200).string("lastDateUsed")
	}
	first := used()
	d.clock.Advance(6 * time.Hour)
	d.call(c, "GET", "/scopes/current", nil).want(200)
	if got := used(); got != first {
		t.Errorf("%s: six hours are not more than six hours", got)
	}
	d.clock.Advance(time.Second)
	d.call(hawk.Credentials{ClientID: "foo", AccessToken: "x"}, "GET", "/scopes/current", nil).want(401)
	if got := used(); got != first {
		t.Errorf("%s: bad credentials are no use", got)
	}
	d.call(c, "GET", "/scopes/current", nil).want(200)
	d.call(c, "GET", "/scopes/current", nil).want(200)
	if got, want := used(), d.clock.Now().String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var none clock.Time
	d.service.noteUse(&client{id: "never stored", lastDateUsed: none}, d.clock.Now())
	used()
}

package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestWebsocktunnelToken(t *testing.T) {
	d := deploy(t)
	caller := d.client("worker", "auth:websocktunnel-token:aud/*")
	a := d.call(caller, "GET", "/websocktunnel/aud/wg.worker~1", nil).want(200, `"wstAudience":"aud"`, `"wstClient":"wg.worker~1"`)
	if got, want := a.string("expires"), d.clock.Now().Add(96*time.Hour).String(); got != want {
		t.Error(got, want)
	}
	parts := strings.Split(a.string("token"), ".")
	if len(parts) != 3 {
		t.Fatal(a.body)
	}
	mac := hmac.New(sha256.New, []byte(testTunnelSecret))
	mac.Write([]byte(parts[0] + "." + parts[1]))
	if got := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)); got != parts[2] {
		t.Error("the signature is wrong")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	now := float64(d.clock.Now().Std().Unix())
	for name, want := range map[string]any{
		"tid": "wg.worker~1", "aud": "aud", "sub": "worker", "iss": "taskcluster-auth",
		"iat": now, "exp": now + 96*3600, "nbf": now - 900,
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	d.call(caller, "GET", "/websocktunnel/other/x", nil).want(403)
	d.call(caller, "GET", "/websocktunnel/aud/x%20y", nil).want(400, "InvalidRequestArguments")
	d.service.tunnelSecret = ""
	d.call(caller, "GET", "/websocktunnel/aud/x", nil).want(404, "ResourceNotFound", "websocktunnel-secret")
}

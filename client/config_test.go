package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestFromEnv(t *testing.T) {
	for _, c := range []struct {
		about                        string
		root, proxy, id, token, cert string
		wantRoot, wantID             string
		fails                        bool
	}{
		{about: "nothing", fails: true},
		{about: "anonymous", root: "https://r", wantRoot: "https://r"},
		{about: "credentials", root: "https://r", id: "me", token: "hush", cert: "{}", wantRoot: "https://r", wantID: "me"},
		{about: "in a task", root: "https://r", proxy: "http://taskcluster", wantRoot: "http://taskcluster"},
		{about: "proxy alone", proxy: "http://taskcluster", wantRoot: "http://taskcluster"},
		{about: "credentials before proxy", root: "https://r", proxy: "http://taskcluster", id: "me", token: "hush", wantRoot: "https://r", wantID: "me"},
		{about: "no token", root: "https://r", id: "me", fails: true},
		{about: "token without id", root: "https://r", token: "hush", wantRoot: "https://r"},
	} {
		t.Run(c.about, func(t *testing.T) {
			for name, value := range map[string]string{"ROOT_URL": c.root, "PROXY_URL": c.proxy, "CLIENT_ID": c.id, "ACCESS_TOKEN": c.token, "CERTIFICATE": c.cert} {
				t.Setenv("TASKCLUSTER_"+name, value)
			}
			cfg, err := FromEnv()
			if (err != nil) != c.fails || cfg.RootURL != c.wantRoot || cfg.Credentials.ClientID != c.wantID {
				t.Errorf("%+v, %v", cfg, err)
			}
			if c.wantID != "" && (cfg.Credentials.AccessToken != c.token || cfg.Credentials.Certificate != c.cert) || c.wantID == "" && cfg.Credentials.AccessToken != "" {
				t.Error("wrong secrets")
			}
			if text := fmt.Sprintf("%v %+v %#v %v", cfg, cfg, cfg.Credentials, err); strings.Contains(text, "hush") {
				t.Error(text)
			}
		})
	}
}

func TestRootURL(t *testing.T) {
	for root, ok := range map[string]bool{
		"https://tc.example": true, "http://localhost:8080///": true, "http://taskcluster": true,
		"": false, "tc.example": false, "ftp://x": false, "http://": false, "http://user:hush@x": false, "https://x/?a": false, "https://x/#a": false, "http://x y": false, "http://hush:pw:x@": false,
	} {
		s, err := NewService(Config{RootURL: root, Transport: http.DefaultTransport}, "queue", "v1")
		if (err == nil) != ok {
			t.Errorf("%q: %v", root, err)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Error(err)
		}
		if ok && s.URL("/ping", "") != strings.TrimRight(root, "/")+"/api/queue/v1/ping" {
			t.Error(s.URL("/ping", ""))
		}
	}
}

func TestTemporaryNeedsFixedCredentials(t *testing.T) {
	cfg := Config{CredentialSource: new(RotatingCredentials).Get, Credentials: testCredentials}
	if _, err := cfg.Temporary(TemporaryOptions{Start: time.Now(), Expiry: time.Now()}); err == nil {
		t.Error("made")
	}
}

func TestBackoff(t *testing.T) {
	cfg := Config{MaxBackoff: DefaultMaxBackoff}
	for _, n := range []int{1, 2, 5, 8, 9, 10, 29, 30, 64, 1000} {
		for range 100 {
			d := cfg.backoff(n)
			low, high := 75*time.Millisecond, DefaultMaxBackoff
			if n < 9 {
				low, high = low<<(n-1), 125*time.Millisecond<<(n-1)
			} else {
				low = 22500 * time.Millisecond * 3 / 4
			}
			if d < low || d > high {
				t.Fatalf("try %d: %v is not within %v and %v", n, d, low, high)
			}
		}
	}
}

func TestSleep(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := sleep(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

package object

import (
	"strings"
	"testing"
)

func TestParseMap(t *testing.T) {
	rules, err := ParseMap([]byte(`[
		{"backendId": "a", "when": {"name": {"regexp": "^t/.*[.]log$"}, "projectId": "p"}},
		{"backendId": "b", "when": {"name": {"is": "exact"}}},
		{"backendId": "c", "when": {"projectId": {"regexp": "x"}}},
		{"backendId": "d", "when": "all"}]`))
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{rules: rules}
	for _, c := range [][3]string{
		{"t/a.log", "p", "a"}, {"t/a.log", "q", "d"}, {"exact", "p", "b"}, {"exactly", "p", "d"}, {"", "oxo", "c"},
	} {
		if got, err := s.choose(c[0], c[1]); err != nil || got != c[2] {
			t.Errorf("%v: %s, %v", c, got, err)
		}
	}
	for text, want := range map[string]string{
		`{"a": 1}`:                                                "backendMap must be an array, not an object",
		`[{"when": "all"}]`:                                       "backendMap[0] is missing backendId or when",
		`[{"backendId": "a"}]`:                                    "backendMap[0] is missing backendId or when",
		`[{"backendId": "a", "when": "some"}]`:                    `neither "all" nor an object`,
		`[{"backendId": "a", "when": {"size": "1"}}]`:             "backendMap[0] has invalid match parameter size",
		`[{"backendId": "a", "when": {"name": {"like": "1"}}}]`:   `backendMap[0] has invalid pattern {"like": "1"}`,
		`[{"backendId": "a", "when": {"name": {"regexp": "("}}}]`: "has invalid pattern",
		`[{"backendId": "a", "when": {"name": 5}}]`:               "has invalid pattern",
		`nonsense`: "backendMap",
	} {
		if _, err := ParseMap([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if rules, err := ParseMap([]byte(`{}`)); err != nil || len(rules) != 0 {
		t.Error(rules, err)
	}
	d := deploy(t)
	if _, err := New(Config{Store: d.store, Backends: d.service.backends, Map: []Rule{{BackendID: "none"}}}); err == nil || !strings.Contains(err.Error(), "backendMap[0] has invalid backendId none") {
		t.Error(err)
	}
	if _, err := New(Config{Store: d.store}); err == nil {
		t.Error("without backends nothing can be kept")
	}
}

func TestNoBackendMatches(t *testing.T) {
	rules, err := ParseMap([]byte(`[{"backendId": "main", "when": {"projectId": "known"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	d := deploy(t, func(c *Config) { c.Map = rules })
	u := d.upload("x")
	u.create(nil).want(400, "NoMatchingBackend", "No backend matched the given name and projectId")
	u.with["projectId"] = "known"
	u.create(nil).want(200)
}

func TestCDN(t *testing.T) {
	cdn, err := ParseMiddleware([]byte(`[{"middlewareType": "cdn", "regexp": "^public/", "baseUrl": "https://cdn.example.com/o/"}]`))
	if err != nil {
		t.Fatal(err)
	}
	d := deploy(t, func(c *Config) { c.CDN = cdn })
	d.call(all, "GET", "/download/public/x%20y", nil).want(404)
	d.upload("public%2Fx%20y").inline("data", "text/plain")
	d.upload("private").inline("data", "text/plain")
	if to := d.call(all, "GET", "/download/public/x%20y", nil).want(303).header.Get("Location"); to != "https://cdn.example.com/o/public/x y" {
		t.Error(to)
	}
	if got := d.content("public/x%20y", "simple"); got != "data" { // not for startDownload
		t.Error(got)
	}
	if to := d.call(all, "GET", "/download/private", nil).want(303).header.Get("Location"); !strings.HasPrefix(to, testRoot) {
		t.Error(to)
	}
	for text, want := range map[string]string{
		`[{"middlewareType": "other"}]`:                              "no middlewareType",
		`[{"middlewareType": "cdn", "regexp": "x"}]`:                 "missing regexp or baseUrl",
		`[{"middlewareType": "cdn", "regexp": "(", "baseUrl": "x"}]`: "middleware[0]",
		`x`: "middleware",
	} {
		if _, err := ParseMiddleware([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

package events

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/events"
)

func TestMessagesThatFitArriveInOrder(t *testing.T) {
	d := deploy(t)
	d.publish("a before")
	s := d.listen(query("a", "x.#", "b", "route.of.y"), "")
	s.want("ready")
	d.publish("a x.1", "a y.1", "b y", "c x.1")
	d.publish("a x", "b z")
	for _, want := range []string{"a x.1", "b y", "a x"} {
		if got := s.text(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	h := s.answer.Header
	if h.Get("Content-Type") != "text/event-stream" || !strings.Contains(h.Get("Cache-Control"), "no-cache") || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers %v", h)
	}
}

func TestMessagesAreShownWhole(t *testing.T) {
	d := deploy(t)
	s := d.listen(query("a", "#"), "")
	s.want("ready")
	d.publish("a k")
	e := s.want("message")
	want := fmt.Sprintf(`{"payload":{"text":"a k"},"exchange":"a","routingKey":"k","redelivered":false,"routes":["of.k"],"position":%s}`, e.id)
	if e.data != want {
		t.Fatalf("got  %s\nwant %s", e.data, want)
	}
}

func TestStreamsResume(t *testing.T) {
	d := deploy(t)
	s := d.listen(query("a", "#"), "")
	s.want("ready")
	d.publish("a 1", "a 2", "a 3")
	s.text()
	s.close()
	d.publish("a 4")
	s = d.listen(query("a", "#"), s.lastID) // as a browser does
	s.want("ready")
	for _, want := range []string{"a 2", "a 3", "a 4"} {
		if got := s.text(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	s.close()
	d.publish("a 5")
	s = d.listen(query("a", "#")+"&after="+s.lastID, "") // as a script does
	s.want("ready")
	d.publish("a 6")
	if got := s.text() + s.text(); got != "a 5a 6" {
		t.Fatalf("got %q", got)
	}
	if s := d.listen(query("a", "#"), "-"); s.answer.StatusCode != 204 {
		t.Errorf("Last-Event-ID -: %s", s.answer.Status)
	}
	for _, id := range []string{"x", "-1", "999999999999999"} {
		if s := d.listen(query("a", "#"), id); s.answer.StatusCode != 400 {
			t.Errorf("Last-Event-ID %q: %s", id, s.answer.Status)
		}
	}
}

func TestWhoWasAwayTooLongIsTold(t *testing.T) {
	d := deploy(t)
	s := d.listen(query("a", "#"), "")
	s.want("ready")
	d.publish("a 1")
	s.text()
	s.close()
	for i := range 5 {
		d.publish(fmt.Sprintf("a %d", i+2))
	}
	time.Sleep(2 * time.Millisecond) // the log is kept for a nanosecond
	if n, err := d.log.Trim(context.Background()); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	away := s.lastID
	s = d.listen(query("a", "#"), away)
	s.want("ready")
	s.want("lost")
	if got := s.text(); got != "a 6" { // the newest row stays
		t.Fatalf("got %q", got)
	}
	w := d.socket(query("a", "#") + "&after=" + away)
	w.want("ready")
	w.want("lost")
	if got := textOf(t, w.want("message").Payload); got != "a 6" {
		t.Fatalf("by WebSocket: got %q", got)
	}
}

// So is who was there all the time, on a node that could not read the log for too
// long.
func TestWhoCouldNotBeToldIsTold(t *testing.T) {
	d := deploy(t)
	d.publish("a 1", "b 1")
	h := newHub(d.log) // nobody reads the log for it
	from := d.log.Head()
	var subs []*subscriber
	for _, exchange := range []string{"a", "b"} {
		s := h.subscribe(from, []events.Binding{{Exchange: exchange, Pattern: "#"}}, func() {})
		defer s.close()
		if _, caught, err := s.next(t.Context()); !caught || err != nil {
			t.Fatal(caught, err)
		}
		subs = append(subs, s)
	}
	check := func(s *subscriber, lost bool, want ...string) {
		t.Helper()
		n, _, err := s.next(t.Context())
		var got []string
		for _, m := range n.messages {
			got = append(got, textOf(t, m.body))
		}
		if err != nil || n.lost != lost || !slices.Equal(got, want) {
			t.Errorf("got %q, lost %v, %v; want %q, %v", got, n.lost, err, want, lost)
		}
	}
	d.publish("a 2")
	if err := h.read(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	check(subs[0], false, "a 2")
	check(subs[1], false)
	from = d.log.Head()
	for i := range 3 {
		d.publish(fmt.Sprintf("a %d", i+3))
	}
	time.Sleep(2 * time.Millisecond) // the log is kept for a nanosecond
	if n, err := d.log.Trim(context.Background()); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if err := h.read(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	check(subs[0], true, "a 5")
	check(subs[1], true)
	check(subs[1], false)
}

func TestBadBindingsAreToldInTheStream(t *testing.T) {
	d := deploy(t)
	for text, want := range map[string]string{
		`{"a":1,"bindings":[]}`:           "The json query should have only one key i.e. `bindings`.",
		`{}`:                              "The json query should have only one key i.e. `bindings`.",
		`nonsense`:                        "The json query should have only one key i.e. `bindings`.",
		`{"bindings":"x"}`:                "Bindings must be an array of {exchange, routingKeyPattern}",
		`{"bindings":{}}`:                 "Bindings must be an array of {exchange, routingKeyPattern}",
		`{"bindings":[{"exchange":"a"}]}`: "Binding must include `exchange` and `routingKeyPattern` fields",
		`{"bindings":["a"]}`:              "Binding must include `exchange` and `routingKeyPattern` fields",
		`{"bindings":[{"exchange":"","routingKeyPattern":"#"}]}`:                                 "exchange must have 1 to 255 characters",
		`{"bindings":[{"exchange":"a","routingKeyPattern":"` + strings.Repeat("é", 256) + `"}]}`: "routingKeyPattern is limited to 255 characters",
	} {
		s := d.listen("bindings="+url.QueryEscape(text), "")
		if e := s.want("error"); e.data != fmt.Sprintf("%q", want) || e.id != "-" {
			t.Errorf("%s: got %+v", text, e)
		}
		if e := s.next(); e.kind != "" {
			t.Errorf("%s: after the error comes %+v", text, e)
		}
	}
	many := strings.Repeat(`{"exchange":"a","routingKeyPattern":"#"},`, MaxBindings+1)
	s := d.listen("bindings="+url.QueryEscape(`{"bindings":[`+strings.TrimSuffix(many, ",")+`]}`), "")
	if got := s.want("error").data; !strings.Contains(got, "more than 100") {
		t.Error(got)
	}
	for _, query := range []string{"bindings=", "other=1"} {
		if s := d.listen(query, ""); s.answer.StatusCode != 400 {
			t.Error(query, s.answer.Status)
		}
	}
}

func TestEachExchangeNeedsItsScope(t *testing.T) {
	d := deploy(t)
	for scope, want := range map[string]int{"events:listen:a": 403, "events:listen:*": 200, "": 403} {
		q, _, _ := strings.Cut(query("a", "#", "b", "#"), "&bewit")
		if s := d.listen(q+"&bewit="+url.QueryEscape(scope), ""); s.answer.StatusCode != want {
			t.Errorf("with %q: %s, want %d", scope, s.answer.Status, want)
		}
	}
}

func TestStreamEndsWhenAllIsSent(t *testing.T) {
	d := deploy(t)
	d.publish("a 1", "b 1", "a 2")
	s := d.listen(query("a", "#")+"&after=0&follow=false", "")
	s.want("ready")
	if got := s.text() + s.text(); got != "a 1a 2" {
		t.Fatal(got)
	}
	if e := s.next(); e.kind != "" {
		t.Fatalf("got %+v", e)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	d := deploy(t, func(c *Config) { c.Connections = 2 })
	first := d.listen(query("a", "#"), "")
	first.want("ready")
	d.listen(query("a", "#"), "").want("ready")
	if s := d.listen(query("a", "#"), ""); s.answer.StatusCode != 429 {
		t.Fatal(s.answer.Status)
	}
	r, err := http.Head(d.server.URL + "/api/events/v1/connect/?" + query("a", "#"))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	first.close()
	until(t, "a place is free", func() bool { return d.service.Connections() == 1 })
	d.listen(query("a", "#"), "").want("ready")
}

func TestStreamsOutliveTheLimitForRequests(t *testing.T) {
	d := deploy(t, func(c *Config) { c.Ping = 500 * time.Millisecond })
	s := d.listen(query("a", "#"), "")
	s.want("ready")
	for range 6 { // longer than the server's ReadTimeout
		s.want("ping")
	}
	d.publish("b 1", "a 1", "b 2")
	if got := s.text(); got != "a 1" {
		t.Fatal(got)
	}
	// A ping says how far the log was looked through, so that one who comes
	// back need not look again.
	until(t, "a ping has the position of the last message", func() bool { return s.want("ping").id == fmt.Sprint(int64(d.log.Head())) })
}

func TestDrainEndsStreams(t *testing.T) {
	d := deploy(t)
	s := d.listen(query("a", "#"), "")
	s.want("ready")
	d.service.Drain()
	if e := s.next(); e.kind != "" {
		t.Fatalf("got %+v", e)
	}
	until(t, "nobody is connected", func() bool { return d.service.Connections() == 0 })
}

// One who does not read holds a bounded number of messages, holds up nobody, and
// misses nothing once he reads.
func TestSlowSubscribersCatchUpFromTheLog(t *testing.T) {
	d := deploy(t)
	sub := d.service.hub.subscribe(d.log.Head(), []events.Binding{{Exchange: "a", Pattern: "#"}}, func() {})
	defer sub.close()
	if n, wait, err := sub.next(t.Context()); len(n.messages) > 0 || !wait || err != nil {
		t.Fatal(n, wait, err)
	}
	quick := d.listen(query("a", "#"), "")
	quick.want("ready")
	const rounds, each = 20, 50
	for i := range rounds {
		var list []string
		for k := range each {
			list = append(list, fmt.Sprintf("a %d", i*each+k))
		}
		d.publish(list...)
		for k := range each { // he reads along: all at once could be too many for him too
			if got := quick.text(); got != fmt.Sprintf("a %d", i*each+k) {
				t.Fatalf("the quick one: got %q at %d", got, i*each+k)
			}
		}
	}
	d.service.hub.mu.Lock()
	if len(sub.queue) > MaxQueue || sub.live {
		t.Errorf("%d messages wait, live %v", len(sub.queue), sub.live)
	}
	d.service.hub.mu.Unlock()
	for i := 0; i < rounds*each; {
		n, _, err := sub.next(t.Context())
		if i == 0 && !n.slow {
			t.Error("he was not told that he is slow")
		}
		if err != nil || n.lost {
			t.Fatal(n.lost, err)
		}
		for _, m := range n.messages {
			if got := textOf(t, m.body); got != fmt.Sprintf("a %d", i) {
				t.Fatalf("the slow one: got %q at %d", got, i)
			}
			i++
		}
	}
}

// One who takes nothing at all is cut off, and the server forgets him.
func TestLargeMessagesDoNotPileUp(t *testing.T) {
	d := deploy(t)
	sub := d.service.hub.subscribe(d.log.Head(), []events.Binding{{Exchange: "a", Pattern: "#"}}, func() {})
	defer sub.close()
	sub.next(t.Context())
	big := "a " + strings.Repeat("k", 200)
	for range 40 {
		list := make([]string, 50)
		for i := range list {
			list[i] = big
		}
		d.publish(list...)
	}
	until(t, "the hub has read all", func() bool {
		d.service.hub.mu.Lock()
		defer d.service.hub.mu.Unlock()
		return !sub.live
	})
	d.service.hub.mu.Lock()
	defer d.service.hub.mu.Unlock()
	if sub.size > MaxQueueBytes {
		t.Errorf("%d bytes wait", sub.size)
	}
}

func until(t testing.TB, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

func body(r *http.Response) string {
	text, _ := io.ReadAll(r.Body)
	return string(text)
}

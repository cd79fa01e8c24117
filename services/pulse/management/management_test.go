package management

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/testenv"
)

func client(t *testing.T, address string) *Client {
	t.Helper()
	c, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func names[T any](list List[T], name func(T) string) (out []string) {
	for _, item := range list.Items {
		out = append(out, name(item))
	}
	slices.Sort(out)
	return out
}

// TestBroker: all calls, on a real broker.
func TestBroker(t *testing.T) {
	rabbit := testenv.RabbitMQ(t)
	t.Run("calls", func(t *testing.T) { calls(t, rabbit) })
	t.Run("pages", func(t *testing.T) { pages(t, rabbit) })
}

// calls: each call, with names that need to be encoded.
func calls(t *testing.T, rabbit *testenv.RabbitMQServer) {
	c := client(t, rabbit.ManagementURL())
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if me, err := c.WhoAmI(ctx); err != nil || me.Name != "guest" || !me.Tags.Has("administrator") {
		t.Errorf("%+v %v", me, err)
	}
	must(c.VHost(ctx, "/"))
	if err := c.VHost(ctx, "other/one"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}

	const odd = "a/b c%?#+ä."
	for _, name := range []string{odd, odd + "2", "other"} {
		must(c.PutUser(ctx, name, "p/w:@ "+name, "some", "more"))
		must(c.PutUser(ctx, name, "p/w:@ "+name, "some", "more"))
	}
	if u, err := c.User(ctx, odd); err != nil || u.Name != odd || !u.Tags.Has("some") || !u.Tags.Has("more") || u.Tags.Has("other") {
		t.Errorf("%+v %v", u, err)
	}
	users, err := c.Users(ctx, "a/b c%?#+ä.")
	if got := names(users, func(u User) string { return u.Name }); err != nil || !slices.Equal(got, []string{odd, odd + "2"}) || users.Cut {
		t.Errorf("%v %v", got, err)
	}
	if vhosts, err := c.UserVHosts(ctx, odd); err != nil || len(vhosts) != 0 {
		t.Errorf("%v %v", vhosts, err)
	}
	if _, err := c.Permissions(ctx, "/", odd); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	may := Permissions{"^c", "^w", ".*"}
	must(c.PutPermissions(ctx, "/", odd, may))
	if got, err := c.Permissions(ctx, "/", odd); err != nil || got != may {
		t.Errorf("%v %v", got, err)
	}
	if vhosts, err := c.UserVHosts(ctx, odd); err != nil || !slices.Equal(vhosts, []string{"/"}) {
		t.Errorf("%v %v", vhosts, err)
	}
	if err := c.PutPermissions(ctx, "/", "other", Permissions{}); err != nil {
		t.Error(err)
	}
	if all, err := c.AllPermissions(ctx, "/", "a/b"); err != nil || !slices.Equal(all.Items, []UserPermissions{{odd, may}}) || all.Cut {
		t.Errorf("%+v %v", all, err)
	}
	login := func(password string) (*amqp.Connection, error) {
		u := url.URL{Scheme: "amqp", User: url.UserPassword(odd, password), Host: rabbit.Addr, Path: "/"}
		return amqp.Dial(u.String())
	}
	own, err := login("p/w:@ " + odd)
	must(err)
	defer own.Close()
	must(c.PutUser(ctx, odd, "", "some"))
	for _, password := range []string{"", "p/w:@ " + odd} {
		if conn, err := login(password); err == nil {
			conn.Close()
			t.Errorf("one can log in with %q", password)
		}
	}
	if err := c.PutPermissions(ctx, "/", "nobody", Permissions{}); !Refused(err) {
		t.Error(err)
	}

	conn, err := amqp.Dial(rabbit.URL)
	must(err)
	defer conn.Close()
	ch, err := conn.Channel()
	must(err)
	for _, name := range []string{"q.a/" + odd, "q.a/2", "qxa/3"} {
		_, err := ch.QueueDeclare(name, false, false, false, false, nil)
		must(err)
		must(ch.ExchangeDeclare(name, "topic", false, false, false, false, nil))
	}
	must(ch.Confirm(false))
	confirm, err := ch.PublishWithDeferredConfirm("", "q.a/2", false, false, amqp.Publishing{})
	must(err)
	confirm.Wait()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		queues, err := c.Queues(ctx, "/", "q.a/")
		must(err)
		if got := names(queues, func(q Queue) string { return q.Name }); !slices.Equal(got, []string{"q.a/2", "q.a/" + odd}) {
			t.Fatalf("%v", got)
		}
		if i := slices.IndexFunc(queues.Items, func(q Queue) bool { return q.Name == "q.a/2" }); queues.Items[i].Messages != nil && *queues.Items[i].Messages == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the message does not come")
		}
	}
	exchanges, err := c.Exchanges(ctx, "/", "q.a/")
	if got := names(exchanges, func(x Exchange) string { return x.Name }); err != nil || !slices.Equal(got, []string{"q.a/2", "q.a/" + odd}) {
		t.Errorf("%v %v", got, err)
	}
	must(c.DeleteQueue(ctx, "/", "q.a/"+odd))
	must(c.DeleteExchange(ctx, "/", "q.a/"+odd))
	for deadline := time.Now().Add(time.Minute); !own.IsClosed(); time.Sleep(20 * time.Millisecond) {
		connections, err := c.Connections(ctx, "/", odd)
		must(err)
		for _, x := range connections.Items {
			if x.User != odd || x.VHost != "/" {
				t.Fatalf("%+v", x)
			}
			if err := c.CloseConnection(ctx, x.Name, "Enough."); err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection is not closed")
		}
	}
	must(c.DeleteUser(ctx, odd))

	for what, err := range map[string]error{
		"a user": c.DeleteUser(ctx, odd), "a queue": c.DeleteQueue(ctx, "/", "q.a/"+odd), "an exchange": c.DeleteExchange(ctx, "/", "q.a/"+odd),
		"a connection": c.CloseConnection(ctx, "nobody", ""), "a virtual host": c.DeleteQueue(ctx, "no/host", "q"),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s that there is not: %v", what, err)
		}
	}
	wrong := client(t, strings.Replace(rabbit.ManagementURL(), "guest:guest", "guest:s3cret", 1))
	if _, err := wrong.WhoAmI(ctx); !Unauthorized(err) || Refused(err) || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

// pages: as many exchanges as make several pages.
func pages(t *testing.T, rabbit *testenv.RabbitMQServer) {
	conn, err := amqp.Dial(rabbit.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	const n = 2*pageSize + 1
	for i := range n {
		if err := ch.ExchangeDeclare(fmt.Sprintf("x/%d", i), "topic", false, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	list, err := client(t, rabbit.ManagementURL()).Exchanges(t.Context(), "/", "x/")
	if err != nil || len(list.Items) != n || list.Cut {
		t.Errorf("%d items, cut: %v, %v", len(list.Items), list.Cut, err)
	}
}

// hostile is a management API of which the answers are what handle says.
func hostile(t *testing.T, handle http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return client(t, strings.Replace(s.URL, "http://", "http://user:s3cret@", 1))
}

// TestHugeList: a broker that has more than is looked at, or says so.
func TestHugeList(t *testing.T) {
	item := `{"name":"q/` + strings.Repeat("x", 200) + `"}`
	page := strings.Repeat(item+",", pageSize-1) + item
	pages := 0
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		pages++
		fmt.Fprintf(w, `{"page_count": 1000000000, "other": {"items": [1]}, "items": [%s]}`, page)
	})
	if c.maxItems != MaxItems || c.maxAnswer != MaxAnswer {
		t.Errorf("the limits are %d and %d", c.maxItems, c.maxAnswer)
	}
	c.maxItems = 2 * pageSize
	list, err := c.Queues(t.Context(), "/", "q/")
	if err != nil || len(list.Items) != c.maxItems || !list.Cut || pages != 3 {
		t.Errorf("%d items of %d pages, cut: %v, %v", len(list.Items), pages, list.Cut, err)
	}
	// Of which nothing fits.
	pages = 0
	if list, err = c.Queues(t.Context(), "/", "other/"); err != nil || len(list.Items) != 0 || !list.Cut || pages != 21 {
		t.Errorf("%d items of %d pages, cut: %v, %v", len(list.Items), pages, list.Cut, err)
	}
	// One answer without an end.
	endless := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `[`)
		for {
			if _, err := io.WriteString(w, `{"name":"other"},`); err != nil {
				return
			}
		}
	})
	endless.maxAnswer = 100_000
	if _, err := endless.Users(t.Context(), "q/"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("an answer without an end is taken")
	}
	for _, text := range []string{``, `nonsense`, `1`, `{"items": 1}`, `[1`, `{"items":[{"name":1}]}`, `{"items":[`} {
		broken := hostile(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) })
		if _, err := broken.Users(t.Context(), "q/"); err == nil {
			t.Errorf("%s is taken for a list", text)
		}
	}
}

// TestSlowBroker: one that takes the request and does not answer.
func TestSlowBroker(t *testing.T) {
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // before that the server does not see that a client is gone
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.PutUser(ctx, "user", "sesame"); !errors.Is(err, context.DeadlineExceeded) || Refused(err) {
		t.Error(err)
	}
}

// TestSecretsInErrors: a broker that repeats what it was told, or leads elsewhere.
func TestSecretsInErrors(t *testing.T) {
	led := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { led = true }))
	defer elsewhere.Close()
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/users/led":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		default:
			var body map[string]string
			json.NewDecoder(r.Body).Decode(&body)
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(map[string]string{"error": "bad_request", "reason": "the password " + body["password"] + " is weak\n" + strings.Repeat("x", 1000)})
		}
	})
	err := c.PutUser(t.Context(), "user", "sesame")
	if err == nil || !Refused(err) || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 400 || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	if err := c.PutUser(t.Context(), "led", "sesame"); err == nil || led {
		t.Error("a redirection is followed")
	}
	away := client(t, "http://user:s3cret@127.0.0.1:1")
	if err := away.PutUser(t.Context(), "user", "sesame"); err == nil || Refused(err) || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

func TestSettings(t *testing.T) {
	for _, bad := range []string{
		"", "http://", "http://host", "http://:s3cret@host", "http://user@host", "amqp://user:s3cret@host", "http://user:s3cret@host?x=1", "http://user:s3cret@host#x",
		"http://user:s3%cret@host", "https://user:s3cret@host?cacertfile=/nowhere",
	} {
		if _, err := New(bad); err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "cret@") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if c := client(t, "https://us%40er:s%2Fcret@host:1/rabbit/"); c.base != "https://host:1/rabbit" || c.user != "us@er" || c.password != "s/cret" {
		t.Errorf("%+v", c)
	}
	var tags Tags
	if err := json.Unmarshal([]byte(`"a,b"`), &tags); err != nil || !tags.Has("b") {
		t.Errorf("%v %v", tags, err)
	}
}

package amqp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/testenv"
)

// manage asks the broker's management plugin.
func manage(t *testing.T, method, path string, body any, answer any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(method, server.Management+"/api/"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("guest", "guest")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err = io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s %v", method, path, res.Status, text, err)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatal(err)
		}
	}
}

// checked is a virtual host of its own, with a user named checker.
func checked(t *testing.T) (vhost string) {
	t.Helper()
	vhost = fmt.Sprint("check-", worlds.Add(1))
	manage(t, "PUT", "vhosts/"+vhost, struct{}{}, nil)
	manage(t, "PUT", "permissions/"+vhost+"/guest", map[string]string{"configure": ".*", "write": ".*", "read": ".*"}, nil)
	manage(t, "PUT", "users/checker", map[string]string{"password": "s3cret", "tags": ""}, nil)
	t.Cleanup(func() { manage(t, "DELETE", "vhosts/"+vhost, nil, nil) })
	return vhost
}

func permit(t *testing.T, vhost, configure, write string) {
	t.Helper()
	manage(t, "PUT", "permissions/"+vhost+"/checker", map[string]string{"configure": configure, "write": write, "read": permissions[2]}, nil)
}

// things are the names of all exchanges and queues of a virtual host, with the
// number of messages in each.
func things(t *testing.T, vhost string) (list []string) {
	t.Helper()
	for _, kind := range []string{"exchanges", "queues"} {
		var found []struct {
			Name string
			Type string
		}
		manage(t, "GET", kind+"/"+vhost, nil, &found)
		for _, f := range found {
			list = append(list, kind+" "+f.Name+" "+f.Type)
		}
	}
	slices.Sort(list)
	return list
}

var checkExchanges = []string{"exchange/taskcluster-one/v1/thing", "exchange/taskcluster-two/v1/thing"}

func check(t *testing.T, broker string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := Check(ctx, broker, checkExchanges)
	if err != nil && strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the password is in %q", err)
	}
	return err
}

// A broker with the permissions that are asked for is good, before and after a
// relay was there, and the check leaves it as it is.
func TestCheck(t *testing.T) {
	vhost := checked(t)
	permit(t, vhost, permissions[0], permissions[1])
	broker := "amqp://checker:s3cret@" + server.Addr + "/" + vhost
	before := things(t, vhost)
	if err := check(t, broker); err != nil {
		t.Error(err)
	}
	if after := things(t, vhost); !slices.Equal(before, after) {
		t.Errorf("there was %q, and is %q", before, after)
	}
	if err := check(t, "amqps://checker:s3cret@"+server.TLSAddr+"/"+vhost+"?cacertfile="+url.QueryEscape(server.CA)); err != nil {
		t.Error(err)
	}

	// A relay gets along with just these permissions.
	w := newWorld(t, server.Addr)
	relay, err := New(Config{Log: w.log, Logger: w.relay.cfg.Logger, URL: broker, Exchanges: checkExchanges, heartbeat: time.Second, retry: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	w.relay = relay
	w.start()
	eventually(t, "the relay is connected", relay.Connected)
	conn, err := amqp091.Dial("amqp://guest:guest@" + server.Addr + "/" + vhost)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.QueueDeclare("reader", false, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for _, x := range checkExchanges {
		if err := reader.QueueBind("reader", "#", x, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	before = things(t, vhost)
	if err := check(t, broker); err != nil {
		t.Errorf("beside a relay: %v", err)
	}
	if after := things(t, vhost); !slices.Equal(before, after) || len(after) < len(checkExchanges)+2 {
		t.Errorf("there was %q, and is %q", before, after)
	}
	// What was published at last would come after anything of the check.
	if err := reader.PublishWithContext(t.Context(), checkExchanges[0], "last", false, false, amqp091.Publishing{}); err != nil {
		t.Fatal(err)
	}
	came, err := reader.Consume("reader", "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m := <-came; m.RoutingKey != "last" {
		t.Errorf("the check published %q with the key %q", m.Body, m.RoutingKey)
	}
	if !relay.Connected() {
		t.Error("the relay was disturbed")
	}
}

// Each thing that is wrong is named, with what to do.
func TestCheckFinds(t *testing.T) {
	vhost := checked(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	page := answerHTTP(t)
	at := "checker:s3cret@" + server.Addr
	secure := "amqps://checker:s3cret@" + server.TLSAddr + "/" + vhost
	everything := func(t *testing.T) { permit(t, vhost, ".*", ".*") }
	for what, c := range map[string]struct {
		broker string
		is     func(t *testing.T)
		want   []string
	}{
		"no URL":                  {"http://" + at, nil, []string{"not a URL like amqps://"}},
		"nothing listens":         {"amqp://checker:s3cret@127.0.0.1:1/", nil, []string{"nothing listens at 127.0.0.1:1", "see that RabbitMQ runs"}},
		"no such name":            {"amqp://checker:s3cret@rabbitmq.invalid/", nil, []string{"rabbitmq.invalid", "DNS"}},
		"silence":                 {"amqp://checker:s3cret@" + silent.Addr().String() + "/", nil, []string{"did not answer in time", "firewall"}},
		"silence in TLS":          {"amqps://checker:s3cret@" + silent.Addr().String() + "/", nil, []string{"did not answer in time"}},
		"a web server":            {"amqp://checker:s3cret@" + page + "/", nil, []string{"does not take the connection", "the port of AMQP"}},
		"TLS without a reason":    {"amqps://" + at + "/" + vhost, nil, []string{"does not speak TLS", "amqp://"}},
		"an unknown authority":    {secure, nil, []string{"authority that this machine does not know", "?cacertfile="}},
		"no authority's file":     {secure + "?cacertfile=/nowhere/ca.pem", nil, []string{"/nowhere/ca.pem", "who may read it"}},
		"another name":            {"amqps://checker:s3cret@localhost" + server.TLSAddr[len("127.0.0.1"):] + "/" + vhost + "?cacertfile=" + server.CA, nil, []string{`is for "127.0.0.1" and not for localhost`, "write a name that it is for"}},
		"another password":        {"amqp://checker:s3cretx@" + server.Addr + "/" + vhost, everything, []string{"refuses the user checker or the password", "authenticate_user"}},
		"no such user":            {"amqp://nobody:s3cret@" + server.Addr + "/" + vhost, nil, []string{"refuses the user nobody"}},
		"no such virtual host":    {"amqp://" + at + "/nowhere", nil, []string{"has no virtual host nowhere", "rabbitmqctl add_vhost 'nowhere'", "set_permissions -p 'nowhere' 'checker'"}},
		"another's virtual host":  {"amqp://" + at + "/", nil, []string{"may not use the virtual host /", "set_permissions -p '/' 'checker'"}},
		"may not publish":         {"amqp://" + at + "/" + vhost, func(t *testing.T) { permit(t, vhost, ".*", "^amq") }, []string{"may not publish to the exchange " + checkExchanges[0], "set_permissions"}},
		"may not declare":         {"amqp://" + at + "/" + vhost, func(t *testing.T) { permit(t, vhost, "^queue/", ".*") }, []string{"may not declare the exchange " + checkExchanges[0], "set_permissions"}},
		"may not declare another": {"amqp://" + at + "/" + vhost, func(t *testing.T) { permit(t, vhost, "^(queue/|exchange/taskcluster-one/)", ".*") }, []string{"may not declare the exchange " + checkExchanges[1]}},
		"may not have the queue":  {"amqp://" + at + "/" + vhost, func(t *testing.T) { permit(t, vhost, "^exchange/", ".*") }, []string{"may not declare the queue " + guard, "set_permissions"}},
		"another kind of exchange": {"amqp://" + at + "/" + vhost, func(t *testing.T) {
			everything(t)
			t.Cleanup(func() { manage(t, "DELETE", "exchanges/"+vhost+"/"+url.PathEscape(checkExchanges[1]), nil, nil) })
			manage(t, "PUT", "exchanges/"+vhost+"/"+url.PathEscape(checkExchanges[1]), map[string]any{"type": "fanout", "durable": true}, nil)
		}, []string{"no durable topic exchange", checkExchanges[1], "delete it"}},
	} {
		t.Run(what, func(t *testing.T) {
			if c.is != nil {
				c.is(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if strings.HasPrefix(what, "silence") {
				ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
			}
			defer cancel()
			err := Check(ctx, c.broker, checkExchanges)
			if err == nil {
				t.Fatal("nothing was found")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			if testing.Verbose() {
				t.Log(err)
			}
		})
	}
}

// A connection that stands still after its begin is given up, and a broker that
// lacks disk is no broker that refuses.
func TestCheckStandstill(t *testing.T) {
	vhost := checked(t)
	permit(t, vhost, permissions[0], permissions[1])
	if err := server.Control("set_disk_free_limit", "100000GB"); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := server.Control("set_disk_free_limit", "1MB"); err != nil {
			t.Fatal(err)
		}
	}
	err := check(t, "amqp://checker:s3cret@"+server.Addr+"/"+vhost)
	restore()
	if err == nil || !strings.Contains(err.Error(), "takes no messages") || !strings.Contains(err.Error(), "disk") {
		t.Errorf("without disk: %v", err)
	}
	eventually(t, "the broker takes messages again", func() bool { return check(t, "amqp://checker:s3cret@"+server.Addr+"/"+vhost) == nil })

	proxy := testenv.StartProxy(t, server.Addr)
	proxy.Partition(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := Check(ctx, "amqp://checker:s3cret@"+proxy.Addr+"/"+vhost, checkExchanges); err == nil || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("in a partition: %v", err)
	}
}

// answerHTTP answers whatever it is sent as a web server does, and gives its
// address.
func answerHTTP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 100))
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
			c.Close()
		}
	}()
	return l.Addr().String()
}

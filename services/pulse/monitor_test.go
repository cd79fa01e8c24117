package pulse

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"taskcluster/internal/store"
)

// administrator is a channel of the broker's administrator.
func (d *deployment) administrator() *amqp.Channel {
	d.t.Helper()
	ch, err := d.mustLogin("amqp://guest:guest@" + d.rabbit.Addr + "/" + url.PathEscape(d.vhost)).Channel()
	d.must(err)
	d.must(ch.Confirm(false))
	return ch
}

// fill declares a queue, if it is not there, and sees to it that it has n messages.
func (d *deployment) fill(ch *amqp.Channel, name string, n int) {
	d.t.Helper()
	q, err := ch.QueueDeclare(name, true, false, false, false, nil)
	d.must(err)
	for ; q.Messages > n; q.Messages-- {
		if _, ok, err := ch.Get(name, true); err != nil || !ok {
			d.t.Fatal(ok, err)
		}
	}
	for ; q.Messages < n; q.Messages++ {
		confirm, err := ch.PublishWithDeferredConfirm("", name, false, false, amqp.Publishing{})
		d.must(err)
		confirm.Wait()
	}
	d.eventually(fmt.Sprintf("%s has %d messages", name, n), func() bool {
		list, err := d.service.broker.Management.Queues(d.t.Context(), d.vhost, name)
		d.must(err)
		for _, q := range list.Items {
			if q.Name == name && q.Messages != nil && *q.Messages == int64(n) {
				return true
			}
		}
		return false
	})
}

// queues are the names of the queues that there are.
func (d *deployment) queues() string {
	d.t.Helper()
	list, err := d.service.broker.Management.Queues(d.t.Context(), d.vhost, "")
	d.must(err)
	var names []string
	for _, q := range list.Items {
		names = append(names, q.Name)
	}
	return strings.Join(names, " ")
}

// TestQueues: one mail for each change of a queue's state, and none for a first
// look at one that is all right.
func TestQueues(t *testing.T) {
	d := deploy(t)
	d.claim("ns-one", object{"contact": "me@example.com", "expires": d.clock.Now().Add(99 * time.Hour).String()}).want(200)
	d.claim("ns-two", object{"expires": d.clock.Now().Add(99 * time.Hour).String()}).want(200)
	ch := d.administrator()
	look := func(want ...string) {
		t.Helper()
		d.monitor()
		var lines []string
		for _, w := range want {
			lines = append(lines, "me@example.com: "+w)
		}
		if got := d.mails.taken(); got != strings.Join(lines, "\n") {
			t.Errorf("mails: %q, want %q", got, want)
		}
	}
	const q = "queue/ns-one/a b"
	const safe, endangered, deleted = q + " has returned to a safe state", q + " is in danger of being deleted!", q + " has been deleted!"
	d.fill(ch, q, 4)
	look()
	d.fill(ch, q, 5)
	look(endangered)
	look()
	d.fill(ch, q, 4)
	look(safe)
	look()
	d.fill(ch, q, 8)
	look(endangered)
	d.fill(ch, q, 9)
	look(deleted)
	if got := d.queues(); got != "" {
		t.Errorf("there are queues: %s", got)
	}
	look()
	d.fill(ch, q, 9)
	look() // it is in danger as before: no mail
	if got := d.queues(); got != "" {
		t.Errorf("there are queues: %s", got)
	}
	d.fill(ch, q, 0)
	look(safe)

	// A problem that stays is told of once a day.
	d.fill(ch, q, 5)
	look(endangered)
	d.clock.Advance(24 * time.Hour)
	d.expire()
	look()
	d.clock.Advance(time.Millisecond)
	d.expire()
	look(endangered)

	// Without a contact nobody is told, and the queue is deleted.
	d.fill(ch, "queue/ns-two/a", 9)
	look()
	if got := d.queues(); got != q {
		t.Errorf("there are queues: %s", got)
	}
}

// TestMails: a mail is stored with the change, and sent until the server has it.
func TestMails(t *testing.T) {
	d := deploy(t)
	d.claim("ns-one", object{"contact": "me@example.com", "expires": d.clock.Now().Add(99 * time.Hour).String()}).want(200)
	ch := d.administrator()
	d.fill(ch, "queue/ns-one/a", 5)
	d.mails.fail(errors.New("greylisted"))
	if err := d.service.monitor(t.Context()); err == nil || !strings.Contains(err.Error(), "greylisted") {
		t.Fatal(err)
	}
	d.monitor() // too early for another attempt
	d.serve()   // a restart
	d.mails.fail(nil)
	d.clock.Advance(time.Minute)
	d.monitor()
	if got := d.mails.taken(); got != "me@example.com: queue/ns-one/a is in danger of being deleted!" {
		t.Errorf("mails: %q", got)
	}

	// One that cannot be sent is given up after a day, and others are sent meanwhile.
	d.fill(ch, "queue/ns-one/a", 0)
	d.mails.fail(errors.New("greylisted"))
	for hour := 0; hour < 27; hour++ {
		d.service.monitor(t.Context())
		d.clock.Advance(time.Hour)
	}
	d.mails.fail(nil)
	d.monitor()
	if f, err := d.service.Figures(t.Context()); err != nil || f.Mails != 0 || d.mails.taken() != "" {
		t.Errorf("%+v %v", f, err)
	}
	if !strings.Contains(d.log.String(), "given up") {
		t.Error("the log does not tell of it")
	}
}

// TestMailServerAway: while it is, a round is over after a few attempts, and later
// all mails are sent.
func TestMailServerAway(t *testing.T) {
	d := deploy(t)
	d.claim("ns-one", object{"contact": "me@example.com"}).want(200)
	const n = 20
	var changed []verdict
	for i := range n {
		messages := int64(5)
		v := verdict{namespace: d.row("ns-one"), state: warning}
		v.Name, v.Messages = fmt.Sprintf("queue/ns-one/%d", i), &messages
		changed = append(changed, v)
	}
	d.must(d.store.Write(t.Context(), func(tx *store.Tx) error { return d.service.changeStates(tx, changed) }))
	d.mails.fail(errors.New("nobody is there"))
	for round := 1; round <= 2; round++ {
		err := d.service.monitor(t.Context())
		if err == nil || strings.Count(err.Error(), "nobody is there") != maxFailed || d.mails.tried != round*maxFailed {
			t.Errorf("round %d: %d attempts in all, %v", round, d.mails.tried, err)
		}
	}
	d.mails.fail(nil)
	d.clock.Advance(lastRetry)
	d.monitor()
	if got := strings.Count(d.mails.taken(), "me@example.com"); got != n {
		t.Errorf("%d mails were sent", got)
	}
}

// TestTooManyMails: whoever makes many queues, in many namespaces, cannot have many
// mails sent.
func TestTooManyMails(t *testing.T) {
	d := deploy(t)
	grow := func(contact string, namespaces ...string) int {
		t.Helper()
		for _, name := range namespaces {
			d.claim(name, object{"contact": contact, "expires": d.clock.Now().Add(99 * time.Hour).String()}).want(200)
			n := d.row(name)
			d.must(d.store.Write(t.Context(), func(tx *store.Tx) error {
				for i := range maxMails + 10 {
					messages := int64(5)
					v := verdict{namespace: n, state: warning}
					v.Name, v.Messages = fmt.Sprintf("queue/%s/%d", name, i), &messages
					if err := d.service.changeStates(tx, []verdict{v}); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		sent := 0
		for range 3 {
			d.monitor()
			sent += strings.Count(d.mails.taken(), contact+": ")
		}
		return sent
	}
	if got := grow("victim@example.com", "ns-1"); got != maxMails {
		t.Errorf("%d mails were sent about a namespace", got)
	}
	if got := grow("victim@example.com", "ns-2", "ns-3", "ns-4"); got != maxMailsTo-maxMails {
		t.Errorf("%d more mails were sent to an address", got)
	}
	if got := grow("other@example.com", "ns-5"); got != maxMails {
		t.Errorf("%d mails were sent to another address", got)
	}
	d.clock.Advance(24*time.Hour + time.Millisecond)
	if got := grow("victim@example.com", "ns-3"); got != maxMails {
		t.Errorf("%d mails were sent on the next day", got)
	}
}

// TestNames: what belongs to a namespace, and what does not.
func TestNames(t *testing.T) {
	s := &Service{broker: &Broker{NamespacePrefix: "ns-", UserPrefix: "u-", Reserved: []string{"ns-queue"}}}
	for name, want := range map[string]string{
		"queue/ns-one/a": "ns-one", "queue/ns-one/": "ns-one", "queue/ns-one/a/b": "ns-one", "queue/ns-one": "", "queue/other/a": "",
		"queue/ns-queue/a": "", "queue/ns-a.b/c": "", "exchange/ns-one/a": "", "x/queue/ns-one/a": "", "queue//a": "", "": "",
		"queue/ns-" + strings.Repeat("x", 62) + "/a": "",
	} {
		if got := s.within(name, queuePrefix); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for user, want := range map[string]string{
		"u-ns-one-1": "ns-one", "u-ns-one-2": "ns-one", "u-ns-one-1-2": "ns-one-1", "u-ns-one-3": "", "ns-one-1": "", "u-other-1": "", "u-ns-queue-1": "", "u-ns-one": "", "": "",
	} {
		got, ok := s.namespaceOf(user)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q %v, want %q", user, got, ok, want)
		}
	}
}

// TestLeftovers: what namespaces that are gone have left is done away with, and
// nothing else is.
func TestLeftovers(t *testing.T) {
	d := deploy(t)
	stays := d.claim("ns-stays", object{"expires": d.clock.Now().Add(99 * time.Hour).String()}).want(200).string("connectionString")
	goes := d.claim("ns-goes", nil).want(200).string("connectionString")
	ch := d.administrator()
	names := []string{"ns-stays/a", "ns-goes/a b%2F?#\x01", "ns-goes", "ns-queue/a", "ns-a.b/c", "other/a", "ns-nobody/ä"}
	for _, name := range names {
		_, err := ch.QueueDeclare("queue/"+name, true, false, false, false, nil)
		d.must(err)
		d.must(ch.ExchangeDeclare("exchange/"+name, "topic", true, false, false, false, nil))
	}
	staying, going := d.mustLogin(stays), d.mustLogin(goes)
	closed := going.NotifyClose(make(chan *amqp.Error, 1))
	d.eventually("the broker lists the connection", func() bool {
		list, err := d.service.broker.Management.Connections(t.Context(), d.vhost, d.service.user("ns-goes", 1))
		d.must(err)
		return len(list.Items) == 1
	})
	// The row goes, and the user stays, which would end its connections.
	row := d.row("ns-goes").row
	d.must(d.store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(stmt.hide, row)
		if err == nil {
			_, err = tx.Exec(stmt.remove, row)
		}
		return err
	}))
	d.monitor()
	d.eventually("the connection of the namespace that is gone is closed", going.IsClosed)
	if e := <-closed; e == nil || !strings.Contains(e.Reason, "Namespace expired.") {
		t.Errorf("the reason is %v", e)
	}
	d.monitor()
	if staying.IsClosed() || ch.IsClosed() {
		t.Error("connections were closed that are all right")
	}
	for _, name := range names {
		gone := strings.HasPrefix(name, "ns-goes/") || strings.HasPrefix(name, "ns-nobody/")
		for kind, path := range map[string]string{"queue/": "/queues/", "exchange/": "/exchanges/"} {
			want := map[bool]int{true: 404, false: 200}[gone]
			d.admin("GET", path+url.PathEscape(d.vhost)+"/"+url.PathEscape(kind+name), nil, want)
		}
	}
	if got := d.mails.taken(); got != "" {
		t.Errorf("mails: %s", got)
	}
	// Those that live too long are closed as well.
	d.clock.Advance(73 * time.Hour)
	closed = staying.NotifyClose(make(chan *amqp.Error, 1))
	d.eventually("the old connection is closed", func() bool { d.monitor(); return staying.IsClosed() })
	if e := <-closed; e == nil || !strings.Contains(e.Reason, "Connection too long lived.") {
		t.Errorf("the reason is %v", e)
	}
}

// TestUsers: users without a namespace are deleted, and those that the broker has
// lost are made again.
func TestUsers(t *testing.T) {
	d := deploy(t)
	connection := d.claim("ns-one", nil).want(200).string("connectionString")
	d.clock.Advance(time.Hour)
	d.rotate()
	second := d.claim("ns-one", nil).want(200).string("connectionString")

	orphan, foreign, unborn := d.service.user("ns-two", 1), d.service.user("ns-three", 1), d.service.user("ns-four", 1)
	for name, tags := range map[string]string{orphan: tag, foreign: "", unborn: tag} {
		d.admin("PUT", "/users/"+name, object{"password": "x", "tags": tags}, 201)
	}
	for _, name := range []string{orphan, foreign} {
		d.admin("PUT", "/permissions/"+url.PathEscape(d.vhost)+"/"+name, object{"configure": "", "write": "", "read": ""}, 201)
	}
	t.Cleanup(func() {
		d.admin("DELETE", "/users/"+foreign, nil, 204)
		d.admin("DELETE", "/users/"+unborn, nil, 204)
	})
	d.monitor()
	d.admin("GET", "/users/"+orphan, nil, 404)
	d.admin("GET", "/users/"+foreign, nil, 200)
	d.admin("GET", "/users/"+unborn, nil, 200)

	// The permissions are lost or changed: nobody's password is touched.
	permissions := func(which int) string {
		return "/permissions/" + url.PathEscape(d.vhost) + "/" + d.service.user("ns-one", which)
	}
	d.admin("DELETE", permissions(1), nil, 204)
	d.admin("PUT", permissions(2), object{"configure": "^$", "write": ".*", "read": "^$"}, 204)
	if conn, err := login(connection); err == nil {
		conn.Close()
		t.Error("one can use a virtual host without permissions")
	}
	d.monitor()
	for which := 1; which <= 2; which++ {
		if got := string(d.admin("GET", permissions(which), nil, 200)); strings.Count(got, `"^(queue/ns-one/.*|exchange/ns-one/.*)"`) != 2 {
			t.Errorf("the permissions are %s", got)
		}
	}
	d.mustLogin(connection)
	d.mustLogin(second)
	told := d.log.String()
	d.monitor()
	if more := strings.TrimPrefix(d.log.String(), told); strings.Contains(more, "permissions") {
		t.Errorf("they are set again and again: %s", more)
	}

	// The active user is lost: the other one keeps its password.
	d.admin("DELETE", "/users/"+d.service.user("ns-one", 2), nil, 204)
	d.cannotLogin(second)
	d.monitor()
	d.rotate()
	d.mustLogin(second)
	d.mustLogin(connection)
	// Both are lost: the active one is as it was handed out.
	for which := 1; which <= 2; which++ {
		d.admin("DELETE", "/users/"+d.service.user("ns-one", which), nil, 204)
	}
	d.monitor()
	d.mustLogin(d.claim("ns-one", nil).want(200).string("connectionString"))
	d.mustLogin(second)
	d.cannotLogin(connection)
	if !d.hasUser("ns-one", 1) {
		t.Error("the other user is missing")
	}
}

// TestClaimedMeanwhile: what belongs to a namespace that is claimed after the
// namespaces were read is not taken for left over.
func TestClaimedMeanwhile(t *testing.T) {
	d := deploy(t)
	ch := d.administrator()
	_, err := ch.QueueDeclare("queue/ns-late/a", true, false, false, false, nil)
	d.must(err)
	d.must(ch.ExchangeDeclare("exchange/ns-late/a", "topic", true, false, false, false, nil))
	on, err := d.service.see(t.Context())
	d.must(err)
	d.claim("ns-late", nil).want(200)
	for _, act := range []func(context.Context, *seen) error{d.service.deleteQueues, d.service.deleteExchanges, d.service.closeConnections, d.service.compareUsers} {
		d.must(act(t.Context(), on))
	}
	d.admin("GET", "/queues/"+url.PathEscape(d.vhost)+"/queue%2Fns-late%2Fa", nil, 200)
	d.admin("GET", "/exchanges/"+url.PathEscape(d.vhost)+"/exchange%2Fns-late%2Fa", nil, 200)
}

// TestPoison: what RabbitMQ fails to do with one user or queue, again and again,
// holds up no others, and is told.
func TestPoison(t *testing.T) {
	d := deploy(t)
	way := d.flaky()
	fails := func(what string, err error, poison string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), poison) {
			t.Errorf("%s does not say what is wrong with %s: %v", what, poison, err)
		}
	}
	for _, name := range []string{"ns-a", "ns-b", "ns-c"} {
		d.claim(name, nil).want(200)
		d.clock.Advance(time.Second)
	}
	way.fail("ns-a")
	d.clock.Advance(time.Hour)
	fails("the rotation", d.service.rotate(t.Context()), "ns-a")
	for _, name := range []string{"ns-b", "ns-c"} {
		if n := d.row(name); n.active != 2 || n.behind != lacksNone {
			t.Errorf("%+v", n)
		}
	}
	ch := d.administrator()
	for _, queue := range []string{"queue/ns-b/1", "queue/ns-b/2", "queue/ns-gone/3", "queue/ns-gone/4"} {
		d.fill(ch, queue, 9)
	}
	way.fail("queue/ns-b/1")
	fails("the monitor", d.service.monitor(t.Context()), "queue/ns-b/1")
	if got := d.queues(); got != "queue/ns-b/1" {
		t.Errorf("there are queues: %s", got)
	}
	way.fail("ns-b")
	d.clock.Advance(6 * time.Hour)
	if n := d.expire(); n != 2 || d.row("ns-b") == nil {
		t.Errorf("%d were removed", n)
	}
	if !strings.Contains(d.log.String(), "could not be deleted; this is tried again\" namespace=ns-b") {
		t.Errorf("the log does not tell of it: %s", d.log)
	}
	way.fail("nothing")
	d.monitor()
	if n := d.expire(); n != 1 || d.queues() != "" {
		t.Errorf("%d were removed, and there are queues: %s", n, d.queues())
	}
}

// TestIdle: a minute in which nothing is to be done costs the database a few
// statements, however many namespaces there are.
func TestIdle(t *testing.T) {
	d := deploy(t)
	for _, name := range []string{"ns-a", "ns-b", "ns-c"} {
		d.claim(name, nil).want(200)
	}
	minute := func() int64 {
		before := d.store.Stats().Statements
		d.rotate()
		d.expire()
		d.monitor()
		return d.store.Stats().Statements - before
	}
	minute()
	if n := minute(); n > 7 {
		t.Errorf("%d statements were run", n)
	}
}

// TestMonitorWhileBrokerIsAway: it says so, counts it, and goes on later.
func TestMonitorWhileBrokerIsAway(t *testing.T) {
	d := deploy(t)
	way := d.flaky()
	way.broken.Store(true)
	if err := d.service.monitor(t.Context()); err == nil || d.service.MonitorFailures() != 1 {
		t.Error(err)
	}
	way.broken.Store(false)
	d.monitor()
}

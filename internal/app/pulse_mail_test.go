package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"taskcluster/client"
	"taskcluster/client/pulse"
	"taskcluster/internal/testenv"
	"taskcluster/services/pulse/management"
)

// managementAs makes a further administrator of a broker, who may do this on its
// virtual host, and returns the URL with which he calls.
func managementAs(t *testing.T, broker *testenv.RabbitMQServer, name string, may ...management.Permissions) string {
	t.Helper()
	admin, err := management.New(broker.ManagementURL())
	if err == nil {
		defer admin.Close()
		err = admin.PutUser(t.Context(), name, "password-of-"+name, "administrator")
	}
	for _, p := range may {
		if err == nil {
			err = admin.PutPermissions(t.Context(), "/", name, p)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(broker.ManagementURL(), "guest:guest", name+":password-of-"+name, 1)
}

// TestLongQueue: with all that the settings name, the whole way of a queue that
// grows too long: its owner claims a namespace by the API and fills it, a mail
// server gets the warning, and when it grows further the queue is deleted, and a
// second mail says so. The service looks after the broker when it starts, so it is
// started anew instead of waiting for a minute. It has no more rights than
// docs/operating.md gives it, and its log has no secret.
func TestLongQueue(t *testing.T) {
	broker := testenv.RabbitMQ(t)
	mails := testenv.Mails(t, testenv.MailSTARTTLS)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lender := managementAs(t, broker, "lender", management.Permissions{Configure: "^(queue|exchange)/pulse-.*$", Write: "^$", Read: "^$"})
	dir := t.TempDir()
	secret := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, []byte(text+"\n"), 0o600))
		return "file:" + path
	}
	env := map[string]string{
		"TASKCLUSTER_PULSE_MANAGEMENT_URL": secret("management", lender),
		"TASKCLUSTER_PULSE_AMQP_URL":       "amqp://" + broker.Addr,
		"TASKCLUSTER_SMTP_URL":             secret("smtp", "smtp://ci:p%40ss%20word@"+mails.Addr+"?cacertfile="+mails.CA),
		"TASKCLUSTER_MAIL_FROM":            "CI of Example <ci@example.com>",
	}
	log := &testenv.Buffer{}
	var a *App
	start := func() {
		t.Helper()
		if a != nil {
			stop(t, a)
		}
		var err error
		a, err = New(t.Context(), settings(t, filepath.Join(dir, "data"), env), slog.New(slog.NewTextHandler(log, nil)))
		must(err)
		must(a.Start(t.Context()))
	}
	start()
	defer func() { stop(t, a) }()

	service, err := pulse.New(rootConfig(t, a))
	must(err)
	defer service.Close()
	claim, err := service.ClaimNamespace(t.Context(), "pulse-mine", &pulse.ClaimNamespaceRequest{
		Contact: "someone@example.org", Expires: client.At(time.Now().Add(time.Hour)),
	})
	must(err)
	conn, err := amqp.Dial(claim.ConnectionString)
	must(err)
	defer conn.Close()
	const queue, exchange = "queue/pulse-mine/tasks", "exchange/pulse-mine/tasks"
	ch, err := conn.Channel()
	must(err)
	must(ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil))
	_, err = ch.QueueDeclare(queue, true, false, false, false, nil)
	must(err)
	must(ch.QueueBind(queue, "", exchange, false, nil))
	must(ch.Confirm(false))
	publish := func(n int) {
		t.Helper()
		confirms := make([]*amqp.DeferredConfirmation, n)
		for i := range n {
			confirms[i], err = ch.PublishWithDeferredConfirm(exchange, "", false, false, amqp.Publishing{})
			must(err)
		}
		for _, c := range confirms {
			if !c.Wait() {
				t.Fatal("a message was not taken")
			}
		}
	}
	mail := func(n int, subject, text string) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); len(mails.Taken()) < n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the mail %q does not come\n%s", subject, log)
			}
		}
		got := mails.Taken()[n-1]
		for _, want := range []string{"To: <someone@example.org>", `From: "CI of Example" <ci@example.com>`, "Subject: " + queue + " " + subject, text} {
			if !strings.Contains(strings.ReplaceAll(got.Text, "=\r\n", ""), want) {
				t.Errorf("the mail has no %q:\n%s", want, got.Text)
			}
		}
		if !got.TLS || len(mails.Users()) < n {
			t.Errorf("TLS: %v, signed in: %v", got.TLS, mails.Users())
		}
	}

	publish(4000)
	start()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(scrape(t, a), `iterate_duration_seconds_count{name="pulse/monitor",status="success"} 1`); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody looks after the broker\n%s", log)
		}
	}
	if got := mails.Taken(); len(got) != 0 {
		t.Errorf("there is a mail about a queue that is all right: %v", got)
	}
	publish(1)
	start()
	mail(1, "is in danger of being deleted!", "4001 messages")
	publish(4000)
	start()
	mail(2, "has been deleted!", "8001 messages")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ch, err := conn.Channel()
		must(err)
		_, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		var refusal *amqp.Error
		if errors.As(err, &refusal) && refusal.Code == amqp.NotFound {
			break
		}
		ch.Close()
		if time.Now().After(deadline) {
			t.Fatalf("the queue is still there: %v\n%s", err, log)
		}
	}
	if text := scrape(t, a); !strings.Contains(text, "taskcluster_pulse_waiting_mails 0") || !strings.Contains(text, "taskcluster_pulse_monitor_failures_total 0") {
		t.Error("a mail waits, or a look at the broker has failed")
	}
	if got := len(mails.Taken()); got != 2 {
		t.Errorf("%d mails came", got)
	}
	for _, secret := range []string{"password-of", "p%40ss", testenv.MailPassword, claim.ConnectionString, "amqp://pulse-"} {
		if strings.Contains(fmt.Sprint(log), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}

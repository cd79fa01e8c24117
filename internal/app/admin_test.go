package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"taskcluster/client/queue"
	"taskcluster/internal/config"
	"taskcluster/internal/events"
	"taskcluster/internal/store"
	"taskcluster/internal/testenv"
	"taskcluster/services/pulse/management"
)

var quiet = slog.New(slog.DiscardHandler)

// status is the status of one task as a client sees it.
func stateOf(t *testing.T, q *queue.Client, id string) string {
	t.Helper()
	got, err := q.Status(t.Context(), id)
	if err != nil {
		t.Fatalf("task %s: %v", id, err)
	}
	return got.Status.State
}

// TestBackupAndRestore: what was acknowledged before a backup of a running
// deployment began is in another one that is made of it: tasks, artifacts, and
// secrets that only the right keys open.
func TestBackupAndRestore(t *testing.T) {
	dir, backups := t.TempDir(), t.TempDir()
	running := settings(t, dir, nil)
	a := started(t, running)
	q := queueAs(t, a)
	content := "what the artifact says"
	object := uploaded(t, a, content)
	token := makeClient(t, a)
	var before []string
	for range 20 {
		before = append(before, newTask(t, q))
	}
	stopped := make(chan struct{})
	ended := make(chan struct{})
	go func() { // life goes on meanwhile
		defer close(ended)
		for {
			select {
			case <-stopped:
				return
			default:
				newTask(t, q)
			}
		}
	}()
	to := filepath.Join(backups, "one")
	b, err := Backup(t.Context(), running, to, true)
	close(stopped)
	<-ended
	if err != nil || b.DatabaseBytes == 0 || b.Artifacts == 0 || b.Directory != to {
		t.Fatal(b, err)
	}

	fresh := filepath.Join(t.TempDir(), "data")
	if r, err := Restore(t.Context(), settings(t, fresh, nil), to, false); err != nil || r.Artifacts != b.Artifacts || r.Aside != "" {
		t.Fatal(r, err)
	}
	c := started(t, settings(t, fresh, nil))
	if c.token != a.token {
		t.Error("the root client has another token")
	}
	restored := queueAs(t, c)
	for _, id := range before {
		if got := stateOf(t, restored, id); got != "pending" {
			t.Errorf("task %s is %s", id, got)
		}
	}
	if got := downloaded(t, c, object); got != content {
		t.Errorf("the artifact says %q", got)
	}
	newTask(t, restored)
	if !signsIn(t, c, token) {
		t.Error("a client's token is not what it was")
	}

	refused := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err = Backup(t.Context(), running, to, false)
	refused(err, "is there already")
	_, err = Backup(t.Context(), settings(t, t.TempDir(), nil), filepath.Join(backups, "two"), false)
	refused(err, "there is no database to back up")
	_, err = Restore(t.Context(), running, to, true)
	refused(err, "stop it first")
	stop(t, c)
	_, err = Restore(t.Context(), settings(t, fresh, nil), to, false)
	refused(err, "give --force")
	r, err := Restore(t.Context(), settings(t, fresh, nil), to, true)
	if err != nil || r.Aside == "" {
		t.Fatal(r, err)
	}
	for _, name := range []string{databaseName, "keys", "root.env"} {
		if _, err := os.Stat(filepath.Join(r.Aside, name)); err != nil {
			t.Error(err)
		}
	}
	c = started(t, settings(t, fresh, nil))
	stateOf(t, queueAs(t, c), before[0])

	_, err = Restore(t.Context(), settings(t, t.TempDir(), nil), t.TempDir(), false)
	refused(err, "is no backup")
	if err := os.Truncate(filepath.Join(to, databaseName), b.DatabaseBytes/2); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	_, err = Restore(t.Context(), settings(t, empty, nil), to, false)
	refused(err, "take an older one")
	if _, err := os.Stat(filepath.Join(empty, databaseName)); err == nil {
		t.Error("a damaged backup was restored")
	}
	postgres := settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_POSTGRES_URL": "postgres://u:s3cret@127.0.0.1:1/x"})
	_, err = Backup(t.Context(), postgres, filepath.Join(backups, "three"), false)
	refused(err, "pg_dump")
	_, err = Restore(t.Context(), postgres, to, false)
	refused(err, "pg_restore")
}

// TestDeadLetters: an operator gives back what a consumer has given up, while
// the deployment runs and when it does not.
func TestDeadLetters(t *testing.T) {
	for name, env := range map[string]map[string]string{"sqlite": nil, "postgres": onPostgres(t, testenv.Postgres(t).URL)} {
		t.Run(name, func(t *testing.T) { deadLetters(t, t.TempDir(), env) })
	}
	t.Run("deep", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		deadLetters(t, dir, nil)
	})
}

func deadLetters(t *testing.T, dir string, env map[string]string) {
	s := settings(t, dir, env)
	_, err := OpenDeadLetters(t.Context(), s, quiet)
	if err == nil || !strings.Contains(err.Error(), "steps are missing") {
		t.Errorf("without a database: %v", err)
	}
	a, err := open(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var mended atomic.Bool
	handled := make(chan string, 10)
	a.loops.Go("consumer", func(ctx context.Context) error {
		return a.events.Consume(ctx, "mailer", []events.Binding{{Exchange: "exchange/taskcluster-queue/v1/task-defined", Pattern: "#"}},
			func(ctx context.Context, m events.Message) error {
				if !mended.Load() {
					return events.Reject(errors.New("the mail server is away"))
				}
				handled <- m.Key
				return nil
			})
	})
	within(t, "the consumer has begun", func() bool { lags, err := a.events.Consumers(t.Context()); return err == nil && len(lags) == 1 })
	q := queueAs(t, a)
	id := newTask(t, q)
	newTask(t, q)
	l, err := OpenDeadLetters(t.Context(), s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	list := func() []DeadLetter {
		t.Helper()
		found, err := l.List(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	within(t, "two letters are dead", func() bool { return len(list()) == 2 })
	first := list()[0]
	if first.Consumer != "mailer" || first.Error != "the mail server is away" || first.Exchange != "exchange/taskcluster-queue/v1/task-defined" || first.Payload != nil {
		t.Errorf("%+v", first)
	}
	if text := scrape(t, a); !strings.Contains(text, `taskcluster_events_dead_letters{consumer="mailer"} 2`) || !strings.Contains(text, `taskcluster_events_lag_seconds{consumer="mailer"} 0`) {
		t.Error("the metrics do not tell of dead letters")
	}
	shown, err := l.Show(t.Context(), first.ID)
	if err != nil || !strings.Contains(string(shown.Payload), id) {
		t.Errorf("%+v %v", shown, err)
	}
	mended.Store(true)
	if err := l.Replay(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case key := <-handled:
		if !strings.Contains(key, id) {
			t.Errorf("%s was replayed", key)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the consumer was not told of the replay")
	}
	within(t, "one letter is left", func() bool { return len(list()) == 1 })
	for _, err := range []error{l.Replay(t.Context(), first.ID), l.Discard(t.Context(), first.ID), func() error { _, err := l.Show(t.Context(), first.ID); return err }()} {
		if !errors.Is(err, events.ErrNoDeadLetter) {
			t.Error(err)
		}
	}
	l.Close()
	stop(t, a)
	if l, err = OpenDeadLetters(t.Context(), s, quiet); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left := list()
	if len(left) != 1 {
		t.Fatal(left)
	}
	if err := l.Discard(t.Context(), left[0].ID); err != nil || len(list()) != 0 {
		t.Error(err)
	}
}

// within waits for something to become true.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}

func TestMigrate(t *testing.T) {
	for name, env := range map[string]map[string]string{"sqlite": nil, "postgres": onPostgres(t, testenv.Postgres(t).URL)} {
		t.Run(name, func(t *testing.T) {
			s := settings(t, filepath.Join(t.TempDir(), "data"), env)
			missing := func() int {
				t.Helper()
				list, err := MissingMigrations(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				return len(list)
			}
			if missing() < 5 {
				t.Errorf("%d steps are missing of an empty database", missing())
			}
			if err := Migrate(t.Context(), s, quiet); err != nil {
				t.Fatal(err)
			}
			if missing() != 0 {
				t.Errorf("%d steps are missing", missing())
			}
			a := started(t, s)
			if missing() != 0 {
				t.Error("beside a server")
			}
			err := Migrate(t.Context(), s, quiet)
			if a.store.Shared() != (err == nil) || err != nil && !errors.Is(err, store.ErrLocked) {
				t.Errorf("beside a server: %v", err)
			}
		})
	}
}

func findings(t *testing.T, s config.Settings) map[string]Finding {
	t.Helper()
	found := map[string]Finding{}
	for _, f := range Check(t.Context(), s, quiet) {
		found[f.Check] = f
		if !strings.HasSuffix(f.Message, ".") || strings.Contains(f.Message, "s3cret") {
			t.Errorf("%+v", f)
		}
	}
	return found
}

// TestCheck: a deployment that runs is all right; each thing that is wrong is
// found.
func TestCheck(t *testing.T) {
	s3 := testenv.S3(t)
	url := testenv.Postgres(t).URL
	broker := testenv.RabbitMQ(t)
	for name, env := range map[string]map[string]string{
		"sqlite": nil, "postgres": onPostgres(t, url), "s3": s3Settings(s3), "rabbitmq": {"TASKCLUSTER_AMQP_URL": broker.URL, "TASKCLUSTER_PULSE_MANAGEMENT_URL": broker.ManagementURL()},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := settings(t, dir, env)
			a := started(t, s)
			root := a.RootURL()
			s.RootURL = &root
			for _, f := range findings(t, s) {
				if f.Status != OK {
					t.Errorf("%+v", f)
				}
			}
		})
	}
	away := "http://127.0.0.1:1"
	for what, c := range map[string]struct {
		change func(t *testing.T, dir string, s *config.Settings)
		want   map[string]Status
	}{
		"nothing is there": {func(t *testing.T, dir string, s *config.Settings) { os.RemoveAll(dir) },
			map[string]Status{"keys": Warn, "database": Warn, "blob": Warn, "broker": OK, "pulse": OK, "mail": OK, "root-url": Fail, "clock": Warn, "credentials": Warn}},
		"the server is stopped": {func(*testing.T, string, *config.Settings) {},
			map[string]Status{"keys": OK, "database": OK, "blob": OK, "root-url": Fail, "clock": Warn, "credentials": Warn}},
		"the keys are open to all": {func(t *testing.T, dir string, s *config.Settings) { os.Chmod(filepath.Join(dir, "keys"), 0o644) },
			map[string]Status{"keys": Fail}},
		"the database is damaged": {func(t *testing.T, dir string, s *config.Settings) {
			os.WriteFile(filepath.Join(dir, databaseName), []byte(strings.Repeat("no database ", 1000)), 0o600)
		}, map[string]Status{"database": Fail}},
		"artifacts cannot be written": {func(t *testing.T, dir string, s *config.Settings) {
			os.RemoveAll(filepath.Join(dir, artifactsName))
			os.WriteFile(filepath.Join(dir, artifactsName), nil, 0o600)
		}, map[string]Status{"blob": Fail}},
		"root.env is of another deployment": {func(t *testing.T, dir string, s *config.Settings) {
			b := started(t, settings(t, t.TempDir(), nil))
			root := b.RootURL()
			s.RootURL = &root
		}, map[string]Status{"root-url": OK, "clock": OK, "credentials": Fail}},
		"PostgreSQL is away": {func(t *testing.T, dir string, s *config.Settings) {
			url := config.Secret("postgres://u:s3cret@127.0.0.1:1/x")
			s.PostgresURL = &url
		}, map[string]Status{"database": Fail}},
		"the bucket is away": {func(t *testing.T, dir string, s *config.Settings) {
			three, id, secret := "s3", "id", config.Secret("s3cret")
			s.ArtifactStore, s.S3Endpoint, s.S3Bucket, s.S3AccessKeyID, s.S3SecretKey = &three, &away, &id, &id, &secret
		}, map[string]Status{"blob": Fail}},
		"RabbitMQ is away": {func(t *testing.T, dir string, s *config.Settings) {
			url := config.Secret("amqp://u:s3cret@127.0.0.1:1/x")
			s.AMQPURL = &url
		}, map[string]Status{"database": OK, "broker": Fail}},
		"RabbitMQ knows another password": {func(t *testing.T, dir string, s *config.Settings) {
			url := config.Secret("amqp://guest:s3cret@" + broker.Addr + "/")
			s.AMQPURL = &url
		}, map[string]Status{"broker": Fail}},
		"the management API is away": {func(t *testing.T, dir string, s *config.Settings) {
			management, clients := config.Secret("http://u:s3cret@127.0.0.1:1"), "amqp://"+broker.Addr
			s.PulseManagement, s.PulseAMQP = &management, &clients
		}, map[string]Status{"broker": OK, "pulse": Fail}},
		"the management API knows another password": {func(t *testing.T, dir string, s *config.Settings) {
			management, clients := config.Secret("http://guest:s3cret@"+strings.TrimPrefix(broker.Management, "http://")), "amqp://"+broker.Addr
			s.PulseManagement, s.PulseAMQP = &management, &clients
		}, map[string]Status{"pulse": Fail}},
		"the administrator may not delete": {func(t *testing.T, dir string, s *config.Settings) {
			url, clients := config.Secret(managementAs(t, broker, "useless", management.Permissions{Configure: "^queue/pulse-.*$"})), "amqp://"+broker.Addr
			s.PulseManagement, s.PulseAMQP = &url, &clients
		}, map[string]Status{"pulse": Fail}},
		"the administrator has no permissions": {func(t *testing.T, dir string, s *config.Settings) {
			url, clients := config.Secret(managementAs(t, broker, "stranger")), "amqp://"+broker.Addr
			s.PulseManagement, s.PulseAMQP = &url, &clients
		}, map[string]Status{"pulse": Fail}},
		"clients are told another virtual host": {func(t *testing.T, dir string, s *config.Settings) {
			management, clients := config.Secret(broker.ManagementURL()), "amqp://"+broker.Addr+"/other"
			s.PulseManagement, s.PulseAMQP = &management, &clients
		}, map[string]Status{"pulse": Fail}},
		"it is not said where clients connect": {func(t *testing.T, dir string, s *config.Settings) {
			management := config.Secret(broker.ManagementURL())
			s.PulseManagement = &management
		}, map[string]Status{"pulse": Fail}},
		"the mail server is away": {func(t *testing.T, dir string, s *config.Settings) {
			server, from := config.Secret("smtp://u:s3cret@127.0.0.1:1"), "ci@example.com"
			s.SMTPURL, s.MailFrom = &server, &from
		}, map[string]Status{"mail": Fail}},
		"mails have no sender": {func(t *testing.T, dir string, s *config.Settings) {
			server := config.Secret("smtp://u:s3cret@127.0.0.1:1")
			s.SMTPURL = &server
		}, map[string]Status{"mail": Fail}},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := settings(t, dir, nil)
			a, err := open(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.writeRootEnv(); err != nil {
				t.Fatal(err)
			}
			a.close()
			s.RootURL = &away
			c.change(t, dir, &s)
			found := findings(t, s)
			for check, want := range c.want {
				if found[check].Status != want {
					t.Errorf("%+v, want %s", found[check], want)
				}
			}
		})
	}
}

func TestApart(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	for _, c := range []struct{ before, after, other, want time.Duration }{
		{0, 0, 0, 0}, {0, 5 * time.Second, 3 * time.Second, 0}, {900 * time.Millisecond, time.Second, 0, 0},
		{0, time.Second, time.Minute, 59 * time.Second}, {time.Minute, time.Minute, 0, 59 * time.Second},
	} {
		if got := apart(at.Add(c.before), at.Add(c.after), at.Add(c.other)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

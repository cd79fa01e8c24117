package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/internal/blob"
	"taskcluster/internal/config"
	"taskcluster/internal/events/amqp"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/keyring"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/store/sqlite"
)

// Status is how a check ended.
type Status string

// The statuses of checks. A deployment with warnings works.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is one line of Check.
type Finding struct {
	Check   string `json:"check"`
	Status  Status `json:"status"`
	Message string `json:"message"` // a sentence that says what is and, unless it is ok, what to do
}

const (
	// checkTimeout bounds each check.
	checkTimeout = 15 * time.Second
	// A signature holds for a minute: clocks that differ by more than half of it
	// make calls fail now and then, and what differs at all deserves a look.
	skewFails = 30 * time.Second
	skewWarns = 3 * time.Second
)

// checking are the checks of a deployment with its settings.
type checking struct {
	settings config.Settings
	log      *slog.Logger
}

// Check looks at what a deployment with these settings needs: from this machine,
// whether the deployment runs or not.
func Check(ctx context.Context, settings config.Settings, log *slog.Logger) []Finding {
	c := &checking{settings, log}
	var found []Finding
	for _, check := range []struct {
		name string
		run  func(ctx context.Context) (Status, string)
	}{
		{"keys", c.keys}, {"database", c.database}, {"blob", c.blob}, {"broker", c.broker}, {"pulse", c.pulse}, {"mail", c.mail},
		{"root-url", c.reachable}, {"clock", c.clock}, {"credentials", c.credentials},
	} {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		status, message := check.run(ctx)
		cancel()
		found = append(found, Finding{check.name, status, message})
	}
	return found
}

func (c *checking) dir() string { return *c.settings.DataDir }

// keys looks whether the secrets of the database can be opened.
func (c *checking) keys(context.Context) (Status, string) {
	if c.settings.Keys != nil {
		if _, err := keyring.Parse(string(*c.settings.Keys)); err != nil {
			return Fail, "The setting keys is not the text of a key file: " + err.Error() + "."
		}
		return OK, "The keys are set, and can be read."
	}
	path := filepath.Join(c.dir(), keyring.FileName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Warn, fmt.Sprintf("There is no key file %s; the first start of serve makes it. If the database is not new, restore the file from a backup first.", path)
	}
	if _, err := keyring.Open(c.dir()); err != nil {
		return Fail, sentence(err)
	}
	return OK, "The key file can be read, and by its owner alone."
}

// database looks whether the database answers, and how its tables are.
func (c *checking) database(ctx context.Context) (Status, string) {
	where := filepath.Join(c.dir(), databaseName)
	missing, err := MissingMigrations(ctx, c.settings)
	switch {
	case errors.Is(err, store.ErrNewerSchema):
		return Fail, sentence(err)
	case err != nil && c.settings.PostgresURL != nil:
		return Fail, sentence(err) + " See that the server runs, that this machine may connect to it, and that postgres-url is right."
	case err != nil:
		return Fail, sentence(err)
	}
	if c.settings.PostgresURL != nil {
		where = "PostgreSQL"
	} else if _, err := os.Stat(where); errors.Is(err, fs.ErrNotExist) {
		return Warn, fmt.Sprintf("There is no database %s; the first start of serve makes it. If this deployment is not new, data-dir is wrong.", where)
	}
	if len(missing) > 0 {
		return Warn, fmt.Sprintf("%s answers, but lacks %d steps of its tables; serve applies them when it starts, and \"taskcluster admin migrate\" before that.", where, len(missing))
	}
	if c.settings.PostgresURL != nil {
		return c.databaseClock(ctx)
	}
	lock, err := sqlite.Lock(where)
	if errors.Is(err, store.ErrLocked) {
		return OK, where + " answers, its tables are complete, and a server has it."
	}
	if err != nil {
		return Fail, sentence(err)
	}
	lock.Close()
	return OK, where + " answers, its tables are complete, and no server has it."
}

// databaseClock compares the clock of PostgreSQL's machine with this one's:
// leases of several nodes are compared with the nodes' clocks.
func (c *checking) databaseClock(ctx context.Context) (Status, string) {
	before := time.Now()
	now, err := postgres.Now(ctx, string(*c.settings.PostgresURL))
	if err != nil {
		return Fail, sentence(err)
	}
	if skew := apart(before, time.Now(), now); skew > skewWarns {
		return Warn, fmt.Sprintf("PostgreSQL answers and its tables are complete, but its machine's clock is %s away from this one's: let both follow a time server.", skew.Round(time.Second))
	}
	return OK, "PostgreSQL answers, its tables are complete, and its clock agrees with this one."
}

// blob writes, reads and removes an object.
func (c *checking) blob(ctx context.Context) (Status, string) {
	if *c.settings.ArtifactStore == "fs" {
		if _, err := os.Stat(c.dir()); errors.Is(err, fs.ErrNotExist) {
			return Warn, fmt.Sprintf("Artifacts will be kept in %s, which the first start of serve makes.", filepath.Join(c.dir(), artifactsName))
		}
	}
	a := idle(c.settings, c.log)
	a.rootURL = c.root()
	keys, err := keyring.Parse("1 " + emptyKey)
	if err != nil {
		return Fail, sentence(err)
	}
	blobs, _, err := a.openBlobs(ctx, keys)
	if err == nil {
		err = tryBlobs(ctx, blobs)
	}
	if err != nil && *c.settings.ArtifactStore == "s3" {
		return Fail, sentence(err) + " See the settings s3-*, the key's permissions and the bucket."
	}
	if err != nil {
		return Fail, sentence(err) + " See the disk, and who owns the data directory."
	}
	return OK, "An object was written, read and removed."
}

// emptyKey signs URLs that nobody gets: signing is no part of the check.
const emptyKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// tryBlobs leaves nothing behind.
func tryBlobs(ctx context.Context, blobs blob.Store) error {
	key := ownPrefix + "check/" + slugid.Nice().String()
	content := []byte("taskcluster admin check")
	_, err := blobs.Put(ctx, key, blob.Info{ContentType: "text/plain"}, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("an object could not be written: %w", err)
	}
	err = read(ctx, blobs, key, content)
	if e := blobs.Delete(ctx, key); e != nil {
		err = errors.Join(err, fmt.Errorf("the object %s could not be removed: %w", key, e))
	}
	return err
}

func read(ctx context.Context, blobs blob.Store, key string, want []byte) error {
	body, _, err := blobs.Open(ctx, key)
	if err != nil {
		return fmt.Errorf("an object that was written could not be read: %w", err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("it is not what was written")
	}
	if err != nil {
		return fmt.Errorf("an object that was written could not be read: %w", err)
	}
	return nil
}

// broker looks whether events can be mirrored to RabbitMQ. It changes nothing there.
func (c *checking) broker(ctx context.Context) (Status, string) {
	if c.settings.AMQPURL == nil {
		return OK, "There is no amqp-url: events are not mirrored to RabbitMQ, and nothing needs it."
	}
	if err := amqp.Check(ctx, string(*c.settings.AMQPURL), idle(c.settings, c.log).exchanges()); err != nil {
		return Fail, sentence(err)
	}
	return OK, "RabbitMQ answers, and its user may declare and publish what it must."
}

// root is the URL by which others reach the deployment.
func (c *checking) root() string {
	if c.settings.RootURL != nil {
		return *c.settings.RootURL
	}
	// The port was picked by the system: root.env has it.
	text, _ := os.ReadFile(filepath.Join(c.dir(), rootEnvName))
	for line := range strings.Lines(string(text)) {
		if url, ok := strings.CutPrefix(strings.TrimSpace(line), "export TASKCLUSTER_ROOT_URL="); ok {
			return url
		}
	}
	return "http://" + *c.settings.Listen
}

// ping calls the deployment by its root URL, as clients do.
func (c *checking) ping(ctx context.Context) (date time.Time, err error) {
	service := "auth"
	if c.settings.Only != nil && !slices.Contains(*c.settings.Only, service) {
		service = (*c.settings.Only)[0]
	}
	r, err := http.NewRequestWithContext(ctx, "GET", c.root()+"/api/"+service+"/v1/ping", nil)
	if err != nil {
		return date, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return date, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return date, fmt.Errorf("%s answers %s", r.URL, res.Status)
	}
	return http.ParseTime(res.Header.Get("Date"))
}

// reachable looks whether the deployment answers where clients look for it.
func (c *checking) reachable(ctx context.Context) (Status, string) {
	if _, err := c.ping(ctx); err != nil {
		return Fail, sentence(err) + " See that the server runs, and that root-url, the proxy and the name's address lead to it."
	}
	return OK, c.root() + " answers."
}

// clock compares the deployment's clock, or its proxy's, with this one.
func (c *checking) clock(ctx context.Context) (Status, string) {
	before := time.Now()
	date, err := c.ping(ctx)
	if err != nil {
		return Warn, "The clock can be compared only with a deployment that answers."
	}
	skew := apart(before, time.Now(), date)
	switch {
	case skew > skewFails:
		return Fail, fmt.Sprintf("The deployment's clock is %s away from this machine's: signatures will be refused. Let both follow a time server.", skew.Round(time.Second))
	case skew > skewWarns:
		return Warn, fmt.Sprintf("The deployment's clock is %s away from this machine's: let both follow a time server.", skew.Round(time.Second))
	}
	return OK, "The deployment's clock agrees with this machine's."
}

// apart is how far t is from the time between before and after. t may have been
// cut to its second.
func apart(before, after, t time.Time) time.Duration {
	switch {
	case t.After(after):
		return t.Sub(after)
	case t.Add(time.Second).Before(before):
		return before.Sub(t.Add(time.Second))
	}
	return 0
}

// credentials signs a call as root.env says.
func (c *checking) credentials(ctx context.Context) (Status, string) {
	path := filepath.Join(c.dir(), rootEnvName)
	token, err := rootToken(c.settings.RootAccessToken, path)
	if _, e := os.Stat(path); errors.Is(e, fs.ErrNotExist) && c.settings.RootAccessToken == nil {
		return Warn, fmt.Sprintf("There is no %s and root-access-token is not set; the first start of serve makes the file.", path)
	}
	if err != nil {
		return Fail, sentence(err)
	}
	a, err := auth.New(client.Config{RootURL: c.root(), Credentials: client.Credentials{ClientID: rootClient, AccessToken: string(token)},
		Sleep: func(context.Context, time.Duration) error { return errors.New("not tried again") }})
	if err != nil {
		return Fail, sentence(err)
	}
	defer a.Close()
	scopes, err := a.CurrentScopes(ctx)
	if refusal, ok := errors.AsType[*client.Error](err); ok {
		return Fail, fmt.Sprintf("The root client's credentials are refused (status %d): see the clock, that the proxy passes Host and path unchanged, and that %s is this deployment's.", refusal.StatusCode, path)
	}
	if err != nil {
		return Warn, "The credentials can be tried only with a deployment that answers."
	}
	if !slices.Contains(scopes.Scopes, "*") {
		return Fail, "The root client has not the scope *: something other than this deployment answers at the root URL."
	}
	return OK, "The root client's credentials are good."
}

// sentence is an error as one: what reaches an operator.
func sentence(err error) string {
	text := []rune(err.Error())
	if len(text) == 0 {
		return "It failed."
	}
	if text[0] >= 'a' && text[0] <= 'z' {
		text[0] -= 'a' - 'A'
	}
	if last := text[len(text)-1]; last != '.' && last != '!' {
		text = append(text, '.')
	}
	return string(text)
}

// Package config holds the settings of a deployment. Each can be given as a
// flag, in the environment, or in a file; flags win over the environment, the
// environment over the file, the file over the default. Where each value came
// from is remembered, so that an operator can ask.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"taskcluster/internal/secret"
)

// Settings is one struct for flags, environment and file. The name of a setting
// is its flag ("data-dir"), its key in the file, and, in upper case with
// underscores behind TASKCLUSTER_, its environment variable.
//
// A nil field was not given. Tags: help for people, fallback is the default,
// secret hides the value wherever settings are shown, also is a further
// environment variable that others know the setting by.
type Settings struct {
	Listen          *string        `name:"listen" fallback:"localhost:8080" placeholder:"ADDR" help:"Address to serve on, host:port. Port 0 picks a free one."`
	RootURL         *string        `name:"root-url" placeholder:"URL" help:"URL that clients, workers and browsers reach the deployment by (default: http:// and the listen address)."`
	DataDir         *string        `name:"data-dir" fallback:"data" placeholder:"DIR" help:"Directory for the database, artifacts and keys. Made on first start."`
	PostgresURL     *Secret        `name:"postgres-url" secret:"true" placeholder:"URL" help:"PostgreSQL database to use in place of a file in the data directory, postgres://user:password@host:port/database; several processes may share it, see docs/nodes.md. file:PATH and env:NAME are read from there."`
	Keys            *Secret        `name:"keys" secret:"true" placeholder:"TEXT" help:"Keys that seal what is secret in the PostgreSQL database, the text of the file keys of its first node: give file:PATH or env:NAME (default: the file keys in the data directory)."`
	DrainDelay      *time.Duration `name:"drain-delay" fallback:"0s" placeholder:"DURATION" help:"How long to go on serving after SIGTERM, while /readyz tells the load balancer to send requests elsewhere."`
	Worker          *bool          `name:"worker" fallback:"false" help:"Also run a worker in this process, for the task queue local/native."`
	WorkerCapacity  *int           `name:"worker-capacity" fallback:"2" placeholder:"N" help:"How many tasks the local worker runs at once."`
	Only            *[]string      `name:"only" placeholder:"SERVICE,…" help:"Serve only these services (default: all)."`
	RootAccessToken *Secret        `name:"root-access-token" secret:"true" placeholder:"TOKEN" help:"Access token of static/taskcluster/root, 22 to 66 letters, digits, - or _ (default: made on first start). file:PATH and env:NAME are read from there."`
	ClaimTimeout    *time.Duration `name:"claim-timeout" fallback:"20m" placeholder:"DURATION" help:"How long a claim lasts before the worker must have renewed it."`
	MaxDeadlineDays *int           `name:"max-task-deadline-days" fallback:"5" placeholder:"DAYS" help:"How far ahead a task's deadline may lie."`
	MaxDependencies *int           `name:"max-task-dependencies" fallback:"10000" placeholder:"N" help:"How many dependencies one task may have."`
	MaxArtifactSize *int64         `name:"max-artifact-size" fallback:"0" placeholder:"BYTES" help:"Largest artifact that may be uploaded; 0 means no limit."`
	ArtifactStore   *string        `name:"artifact-store" fallback:"fs" placeholder:"STORE" enum:"fs,s3" help:"Where artifacts and objects are kept: fs, in the data directory, or s3, in a bucket."`
	S3Endpoint      *string        `name:"s3-endpoint" placeholder:"URL" help:"URL of the S3 service (default: Amazon's)."`
	S3Region        *string        `name:"s3-region" placeholder:"REGION" help:"Region of the bucket (default: the one that Amazon tells, elsewhere us-east-1)."`
	S3Bucket        *string        `name:"s3-bucket" placeholder:"NAME" help:"Bucket for artifacts and objects. It must exist."`
	S3AccessKeyID   *string        `name:"s3-access-key-id" placeholder:"ID" help:"Access key of the S3 service."`
	S3SecretKey     *Secret        `name:"s3-secret-access-key" secret:"true" placeholder:"SECRET" help:"Its secret. file:PATH and env:NAME are read from there."`
	S3PathStyle     *bool          `name:"s3-path-style" fallback:"false" help:"Address the bucket by the path of URLs, not by their host name."`
	S3CORS          *bool          `name:"s3-configure-cors" fallback:"true" help:"Give the bucket the rule by which web pages may use signed URLs."`
	ObjectBackends  *Secret        `name:"object-backends" secret:"true" placeholder:"JSON" help:"Further places for objects, by id, as JSON (in a file: as it is); see docs/artifacts.md. file:PATH and env:NAME are read from there."`
	ObjectMap       *string        `name:"object-backend-map" placeholder:"JSON" help:"Which objects belong to which backend, as JSON; see docs/artifacts.md (default: all to the artifact store)."`
	ObjectCDN       *string        `name:"object-middleware" placeholder:"JSON" help:"What answers downloads of objects in place of their backend, as JSON; see docs/artifacts.md."`
	EventRetention  *time.Duration `name:"event-retention" fallback:"24h" placeholder:"DURATION" help:"How long published events are kept for those who read them later."`
	AMQPURL         *Secret        `name:"amqp-url" secret:"true" placeholder:"URL" help:"RabbitMQ to mirror all events to, amqps://user:password@host/vhost; see docs/events.md. file:PATH and env:NAME are read from there."`
	PulseManagement *Secret        `name:"pulse-management-url" secret:"true" placeholder:"URL" help:"Management API of the RabbitMQ whose users the pulse service lends, https://user:password@host:15671; see docs/pulse.md. file:PATH and env:NAME are read from there."`
	PulseAMQP       *string        `name:"pulse-amqp-url" placeholder:"URL" help:"Where clients with lent users connect, amqps://host:5671/vhost (default: as amqp-url, without its user)."`
	PulsePrefix     *string        `name:"pulse-namespace-prefix" fallback:"pulse-" placeholder:"TEXT" help:"What the names of namespaces begin with. Queues and exchanges that begin so and are of no namespace are deleted."`
	PulseUserPrefix *string        `name:"pulse-username-prefix" placeholder:"TEXT" help:"What stands before a namespace in the names of its users (default: nothing)."`
	SMTPURL         *Secret        `name:"smtp-url" secret:"true" placeholder:"URL" help:"Mail server to send mails through, smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host:465. file:PATH and env:NAME are read from there."`
	MailFrom        *string        `name:"mail-from" placeholder:"ADDRESS" help:"Sender of mails, like CI <ci@example.com>."`
	Websocktunnel   *Secret        `name:"websocktunnel-secret" secret:"true" placeholder:"SECRET" help:"Secret shared with the websocktunnel service. file:PATH and env:NAME are read from there, here and in what follows."`
	AWSBuckets      *Secret        `name:"aws-credentials-allowed-buckets" secret:"true" placeholder:"JSON" help:"IAM users and the S3 buckets of which they hand on access; see docs/credentials.md."`
	AzureAccounts   *Secret        `name:"azure-accounts" secret:"true" placeholder:"JSON" help:"Azure storage accounts and their keys; see docs/credentials.md."`
	GCPProjects     *Secret        `name:"gcp-credentials-allowed-projects" secret:"true" placeholder:"JSON" help:"Google Cloud project, key file and service accounts of which tokens are handed out; see docs/credentials.md."`
	Sentry          *Secret        `name:"sentry" secret:"true" placeholder:"JSON" help:"Sentry organization and token to make keys of its projects with; see docs/credentials.md."`
	GitHubApps      *Secret        `name:"github-apps" secret:"true" placeholder:"JSON" help:"GitHub apps of which tokens are handed out; see docs/credentials.md."`
	TrustProxy      *bool          `name:"trust-proxy" fallback:"false" help:"Believe X-Forwarded-For from the proxy in front."`
	ForceSSL        *bool          `name:"force-ssl" fallback:"false" help:"Redirect plain http to https, as the proxy in front tells by X-Forwarded-Proto."`
	OTLPEndpoint    *string        `name:"otlp-endpoint" also:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"OpenTelemetry collector to send traces to, by OTLP over HTTP, like http://localhost:4318 (default: none)."`
	TraceSample     *float64       `name:"trace-sample" fallback:"0.01" placeholder:"SHARE" help:"Share of the requests that are traced, from 0 to 1, where the caller does not decide it."`
	LogLevel        *string        `name:"log-level" fallback:"info" placeholder:"LEVEL" enum:"debug,info,warn,error" help:"Least severe log lines to write: debug, info, warn or error."`
	LogFormat       *string        `name:"log-format" fallback:"json" placeholder:"FORMAT" enum:"json,text" help:"Form of log lines: json or text."`
}

// Secret is a setting that must not be shown.
type Secret = secret.Text

// Origin says where a value came from.
type Origin struct {
	Name   string `json:"name"`
	Value  string `json:"value"` // as a person would write it; secrets are hidden
	Source string `json:"source"`
	Help   string `json:"help"`
}

// Load fills in what flags leave open: from the environment, then from the YAML
// file at path (none when empty), then from the defaults. Every field of the
// result is set, apart from those that have no default.
func Load(flags Settings, path string, getenv func(string) string) (Settings, []Origin, error) {
	file, err := readFile(path)
	if err != nil {
		return Settings{}, nil, err
	}
	out := flags
	var origins []Origin
	v := reflect.ValueOf(&out).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, source := f.Tag.Get("name"), "flag --"+f.Tag.Get("name")
		env := EnvName(name)
		text, inFile := file[name]
		delete(file, name)
		switch {
		case !v.Field(i).IsNil():
		case getenv(env) != "":
			source = "environment " + env
			err = set(v.Field(i), getenv(env))
		case f.Tag.Get("also") != "" && getenv(f.Tag.Get("also")) != "":
			source = "environment " + f.Tag.Get("also")
			err = set(v.Field(i), getenv(f.Tag.Get("also")))
		case inFile:
			source = "file " + path
			err = set(v.Field(i), text)
		case f.Tag.Get("fallback") != "":
			source = "default"
			err = set(v.Field(i), f.Tag.Get("fallback"))
		default:
			source = "not set"
		}
		if err == nil {
			err = check(f, v.Field(i))
		}
		if err == nil {
			err = resolve(v.Field(i), getenv)
		}
		if err != nil {
			return Settings{}, nil, fmt.Errorf("setting %s (%s): %w", name, source, err)
		}
		origins = append(origins, Origin{Name: name, Value: show(v.Field(i)), Source: source, Help: f.Tag.Get("help")})
	}
	for name := range file {
		return Settings{}, nil, fmt.Errorf("%s: there is no setting %q; the settings are: %s", path, name, strings.Join(Names(), ", "))
	}
	return out, origins, out.complete()
}

// EnvName is the environment variable of a setting.
func EnvName(name string) string {
	return "TASKCLUSTER_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Names lists the settings.
func Names() []string {
	t := reflect.TypeFor[Settings]()
	names := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("name"))
	}
	sort.Strings(names)
	return names
}

func readFile(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the settings file %s does not exist", path)
		}
		return nil, err
	}
	var raw map[string]any
	if err := yaml.UnmarshalStrict(b, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := map[string]string{}
	for k, v := range raw {
		if structured(v) {
			text, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", path, k, err)
			}
			v = string(text)
		}
		if list, ok := v.([]any); ok {
			var parts []string
			for _, p := range list {
				parts = append(parts, fmt.Sprint(p))
			}
			v = strings.Join(parts, ",")
		}
		if n, ok := v.(float64); ok {
			v = strconv.FormatFloat(n, 'f', -1, 64)
		}
		out[k] = fmt.Sprint(v)
	}
	return out, nil
}

// structured tells a value that is more than a list of words.
func structured(v any) bool {
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, func(e any) bool { _, ok := e.(map[string]any); return ok })
	}
	_, ok := v.(map[string]any)
	return ok
}

// set parses text into the field's type and points the field at it.
func set(field reflect.Value, text string) error {
	p := reflect.New(field.Type().Elem())
	var err error
	switch dst := p.Interface().(type) {
	case *string:
		*dst = text
	case *Secret:
		*dst = Secret(text)
	case *bool:
		*dst, err = strconv.ParseBool(text)
	case *int:
		*dst, err = strconv.Atoi(text)
	case *int64:
		*dst, err = strconv.ParseInt(text, 10, 64)
	case *float64:
		*dst, err = strconv.ParseFloat(text, 64)
	case *time.Duration:
		*dst, err = time.ParseDuration(text)
	case *[]string:
		for _, s := range strings.Split(text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				*dst = append(*dst, s)
			}
		}
	default:
		err = fmt.Errorf("unknown type %T", dst)
	}
	if err != nil {
		return fmt.Errorf("%q is not a %s", text, field.Type().Elem())
	}
	field.Set(p)
	return nil
}

func check(f reflect.StructField, field reflect.Value) error {
	allowed := f.Tag.Get("enum")
	if allowed == "" || field.IsNil() {
		return nil
	}
	got := field.Elem().String()
	for _, a := range strings.Split(allowed, ",") {
		if a == got {
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", got, allowed)
}

// resolve follows file: and env: references of secrets.
func resolve(field reflect.Value, getenv func(string) string) error {
	s, ok := field.Interface().(*Secret)
	if !ok || s == nil {
		return nil
	}
	if path, ok := strings.CutPrefix(string(*s), "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		v := Secret(bytes.TrimSpace(b))
		field.Set(reflect.ValueOf(&v))
	} else if name, ok := strings.CutPrefix(string(*s), "env:"); ok {
		v := Secret(getenv(name))
		if v == "" {
			return fmt.Errorf("the environment variable %s is not set", name)
		}
		field.Set(reflect.ValueOf(&v))
	}
	return nil
}

func show(field reflect.Value) string {
	if field.IsNil() {
		return ""
	}
	if list, ok := field.Interface().(*[]string); ok {
		return strings.Join(*list, ",")
	}
	return fmt.Sprint(field.Elem().Interface())
}

// complete checks values that depend on each other and fills in the root URL.
func (s *Settings) complete() error {
	host, port, err := net.SplitHostPort(*s.Listen)
	if err != nil {
		return fmt.Errorf("setting listen: %q is not host:port, like localhost:8080", *s.Listen)
	}
	if s.RootURL != nil {
		u, err := url.Parse(*s.RootURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return fmt.Errorf("setting root-url: %q is not a URL like https://ci.example.com", *s.RootURL)
		}
		trimmed := strings.TrimRight(*s.RootURL, "/")
		if trimmed != u.Scheme+"://"+u.Host {
			return fmt.Errorf("setting root-url: %s://%s is all that it may have: a deployment has a host of its own, without a path", u.Scheme, u.Host)
		}
		s.RootURL = &trimmed
	} else if port != "0" {
		if host == "" || host == "0.0.0.0" || host == "::" {
			host = "localhost"
		}
		root := "http://" + net.JoinHostPort(host, port)
		s.RootURL = &root
	}
	if err := s.completeStore(); err != nil {
		return err
	}
	switch {
	case s.Keys != nil && s.PostgresURL == nil:
		return errors.New("setting keys: it is for a PostgreSQL database; with a database in the data directory the keys are the file keys beside it")
	case *s.DrainDelay < 0 || *s.DrainDelay > time.Minute/2:
		return errors.New("setting drain-delay: must be between 0s and 30s")
	case *s.ClaimTimeout < time.Second:
		return errors.New("setting claim-timeout: must be at least 1s")
	case *s.MaxDeadlineDays < 1:
		return errors.New("setting max-task-deadline-days: must be at least 1")
	case *s.MaxDependencies < 0 || *s.MaxDependencies > 10000:
		return errors.New("setting max-task-dependencies: must be between 0 and 10000, the most that the API allows")
	case !(*s.TraceSample >= 0 && *s.TraceSample <= 1):
		return errors.New("setting trace-sample: must be between 0 and 1")
	case *s.WorkerCapacity < 1:
		return errors.New("setting worker-capacity: must be at least 1")
	}
	return nil
}

// completeStore checks the settings of the artifact store.
func (s *Settings) completeStore() error {
	if *s.ArtifactStore == "fs" {
		if s.S3Bucket != nil {
			return errors.New("setting s3-bucket: it is given, but the artifact store is fs; set artifact-store to s3")
		}
		return nil
	}
	switch {
	case s.S3Bucket == nil:
		return errors.New("setting s3-bucket: the artifact store s3 needs a bucket")
	case s.S3AccessKeyID == nil:
		return errors.New("setting s3-access-key-id: the artifact store s3 needs an access key")
	case s.S3SecretKey == nil:
		return errors.New("setting s3-secret-access-key: the artifact store s3 needs the secret of its access key")
	case *s.MaxArtifactSize != 0:
		return errors.New("setting max-artifact-size: the artifact store s3 cannot hold uploads to it, because S3 does not know such a limit; leave it out")
	}
	return nil
}

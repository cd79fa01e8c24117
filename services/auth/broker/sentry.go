package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/tcerr"
)

const (
	// sentryLifetime is how long a key lives, sentryLeft how long it must still
	// live to be handed out.
	sentryLifetime = 48 * time.Hour
	sentryLeft     = 25 * time.Hour
	// sentryPages bounds how many pages of projects a purge looks at.
	sentryPages = 1000
)

// Sentry gives addresses by which a project's errors are reported to Sentry.
// Each has a client key in it, which Sentry knows no expiry of: the time is in
// the key's name, and Purge deletes those whose time is over.
type Sentry struct {
	configured bool
	setting    sentrySetting
	web        *http.Client
	clock      clock.Clock

	flights singleflight.Group // one caller at a time makes a project's key
}

// sentrySetting is the setting.
type sentrySetting struct {
	URL          string      `json:"url"` // https://sentry.io when empty
	Organization string      `json:"organization"`
	AuthToken    secret.Text `json:"authToken"`
	InitialTeam  string      `json:"initialTeam"` // gets projects that are missing; none are made when empty
	KeyPrefix    string      `json:"keyPrefix"`   // of the names of keys; "taskcluster" when empty
}

// SentryDSN are the addresses of a project, with and without a secret.
type SentryDSN struct {
	Secret, Public string

	Expires clock.Time
}

// sentryKey is a client key as Sentry describes it.
type sentryKey struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	DSN   struct {
		Secret string `json:"secret"`
		Public string `json:"public"`
	} `json:"dsn"`
	Active *bool `json:"isActive"`

	expires clock.Time // of our own keys
}

func newSentry(text string, web *http.Client, c clock.Clock) (*Sentry, error) {
	s := &Sentry{web: web, clock: c}
	if text == "" {
		return s, nil
	}
	if err := parse(SentrySetting, text, &s.setting); err != nil {
		return nil, err
	}
	if s.setting.Organization == "" || s.setting.AuthToken == "" {
		return nil, fmt.Errorf("setting %s: organization and authToken are needed", SentrySetting)
	}
	if s.setting.KeyPrefix == "" {
		s.setting.KeyPrefix = "taskcluster"
	}
	var err error
	s.setting.URL, err = endpoint(SentrySetting, "url", s.setting.URL, "https://sentry.io")
	s.configured = true
	return s, err
}

// DSN is where a project may report its errors for another 25 to 48 hours.
func (s *Sentry) DSN(ctx context.Context, project string) (SentryDSN, error) {
	if !s.configured {
		return SentryDSN{}, tcerr.New(tcerr.ResourceNotFound, "Sentry credentials not found: the setting %s is not set", SentrySetting)
	}
	// The work is for all who wait, so it does not end with the first's request.
	done := s.flights.DoChan(project, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*requestTimeout)
		defer cancel()
		return s.key(ctx, project)
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return SentryDSN{}, r.Err
		}
		k := r.Val.(sentryKey)
		return SentryDSN{Secret: k.DSN.Secret, Public: k.DSN.Public, Expires: k.expires}, nil
	case <-ctx.Done():
		return SentryDSN{}, ctx.Err()
	}
}

// key is a project's key that lives long enough; one is made if there is none.
func (s *Sentry) key(ctx context.Context, project string) (sentryKey, error) {
	keys, err := s.keys(ctx, project)
	if errors.Is(err, errNoProject) && s.setting.InitialTeam != "" {
		keys, err = nil, s.createProject(ctx, project)
	}
	if errors.Is(err, errNoProject) {
		return sentryKey{}, tcerr.New(tcerr.ResourceNotFound, "Sentry has no project %s", project)
	}
	if err != nil {
		return sentryKey{}, err
	}
	now := s.clock.Now()
	if len(keys) > 0 {
		if last := slices.MaxFunc(keys, func(a, b sentryKey) int { return cmp.Compare(a.expires, b.expires) }); last.expires.Sub(now) >= sentryLeft {
			return last, nil
		}
	}
	if err := s.drop(ctx, project, keys, now); err != nil {
		return sentryKey{}, err
	}
	expires := now.Add(sentryLifetime).Truncate()
	said, err := s.ask(ctx, http.MethodPost, s.keysPath(project), map[string]string{"name": s.label(expires)})
	if err != nil {
		return sentryKey{}, err
	}
	if said.status != http.StatusCreated {
		return sentryKey{}, said.unexpected(said.said("detail"))
	}
	var k sentryKey
	if err := said.decode(&k); err != nil {
		return sentryKey{}, err
	}
	if k.DSN.Secret == "" || k.DSN.Public == "" {
		return sentryKey{}, said.unexpected("the key has no addresses")
	}
	k.expires = expires
	return k, nil
}

var errNoProject = errors.New("Sentry has no such project")

// keys are a project's keys that are ours and work.
func (s *Sentry) keys(ctx context.Context, project string) ([]sentryKey, error) {
	var ours []sentryKey
	err := s.pages(ctx, s.keysPath(project), func(said *answer) error {
		var page []sentryKey
		if err := said.decode(&page); err != nil {
			return err
		}
		for _, k := range page {
			text, ok := strings.CutPrefix(k.Label, s.setting.KeyPrefix+" until ")
			if !ok || k.Active != nil && !*k.Active {
				continue
			}
			var err error
			if k.expires, err = clock.Parse(text); err == nil {
				ours = append(ours, k)
			}
		}
		return nil
	})
	return ours, err
}

// label names a key, and tells until when it lives.
func (s *Sentry) label(expires clock.Time) string {
	return s.setting.KeyPrefix + " until " + expires.String()
}

// createProject makes a project, and is content if another made it meanwhile.
func (s *Sentry) createProject(ctx context.Context, project string) error {
	said, err := s.ask(ctx, http.MethodPost, "/teams/"+url.PathEscape(s.setting.Organization)+"/"+url.PathEscape(s.setting.InitialTeam)+"/projects/",
		map[string]string{"name": project, "slug": project})
	if err != nil {
		return err
	}
	switch said.status {
	case http.StatusCreated, http.StatusConflict:
		return nil
	case http.StatusBadRequest:
		return tcerr.New(tcerr.InputError, "Sentry has no project %s, and takes no project of this name", project)
	}
	return said.unexpected(said.said("detail"))
}

// drop deletes those of the keys whose time is over.
func (s *Sentry) drop(ctx context.Context, project string, keys []sentryKey, now clock.Time) error {
	for _, k := range keys {
		if k.expires > now {
			continue
		}
		said, err := s.ask(ctx, http.MethodDelete, s.keysPath(project)+url.PathEscape(k.ID)+"/", nil)
		if err != nil {
			return err
		}
		if said.status != http.StatusNoContent && said.status != http.StatusNotFound {
			return said.unexpected(said.said("detail"))
		}
	}
	return nil
}

// Purge deletes the keys of all projects whose time is over.
func (s *Sentry) Purge(ctx context.Context) error {
	if !s.configured {
		return nil
	}
	var projects []string
	err := s.pages(ctx, "/organizations/"+url.PathEscape(s.setting.Organization)+"/projects/", func(said *answer) error {
		var page []struct {
			Slug string `json:"slug"`
		}
		if err := said.decode(&page); err != nil {
			return err
		}
		for _, p := range page {
			projects = append(projects, p.Slug)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, project := range projects {
		keys, err := s.keys(ctx, project)
		if errors.Is(err, errNoProject) { // deleted meanwhile
			continue
		}
		if err == nil {
			err = s.drop(ctx, project, keys, s.clock.Now())
		}
		if errs = append(errs, err); ctx.Err() != nil || len(errs) > 10 && errors.Join(errs...) != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *Sentry) keysPath(project string) string {
	return "/projects/" + url.PathEscape(s.setting.Organization) + "/" + url.PathEscape(project) + "/keys/"
}

// pages reads a list that Sentry gives in pages. The next one's place is in the
// header Link; only its cursor is used, so that our token goes nowhere else.
func (s *Sentry) pages(ctx context.Context, path string, read func(*answer) error) error {
	cursor := ""
	for range sentryPages {
		query := ""
		if cursor != "" {
			query = "?cursor=" + url.QueryEscape(cursor)
		}
		said, err := s.ask(ctx, http.MethodGet, path+query, nil)
		if err != nil {
			return err
		}
		if said.status == http.StatusNotFound {
			return errNoProject
		}
		if said.status != http.StatusOK {
			return said.unexpected(said.said("detail"))
		}
		if err := read(said); err != nil {
			return err
		}
		if cursor = nextCursor(said.header.Get("Link")); cursor == "" {
			return nil
		}
	}
	return fmt.Errorf("Sentry's list %s has no end", path)
}

// nextCursor reads a header like
//
//	<https://…>; rel="next"; results="true"; cursor="0:100:0"
func nextCursor(link string) string {
	for _, one := range strings.Split(link, ",") {
		if !strings.Contains(one, `rel="next"`) || !strings.Contains(one, `results="true"`) {
			continue
		}
		if _, rest, ok := strings.Cut(one, `cursor="`); ok {
			cursor, _, _ := strings.Cut(rest, `"`)
			return cursor
		}
	}
	return ""
}

func (s *Sentry) ask(ctx context.Context, method, path string, body any) (*answer, error) {
	return ask(ctx, s.web, method, s.setting.URL+"/api/0"+path, http.Header{"Authorization": {"Bearer " + string(s.setting.AuthToken)}}, body)
}

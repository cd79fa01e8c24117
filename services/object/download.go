package object

import (
	"context"
	"net/http"

	"taskcluster/internal/api"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// finished reads an object that can be downloaded.
func (s *Service) finished(ctx context.Context, name string) (o *object, err error) {
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		var refusal error
		if o, refusal, err = read(tx, name); err == nil {
			err = refusal
		}
		return err
	})
	if err == nil && o.uploadID != nil {
		return nil, notFound(name)
	}
	return o, err
}

func (s *Service) startDownload(c *api.Call, in *DownloadObjectRequest) (any, error) {
	o, err := s.finished(c.Context, c.Param("name"))
	if err != nil {
		return nil, err
	}
	b, err := s.backend(o)
	if err != nil {
		return nil, err
	}
	switch accepted := in.AcceptDownloadMethods; {
	case accepted.GetURL != nil:
		expires := s.clock.Now().Add(getTold)
		url, err := b.Blob.GetURL(c.Context, b.key(o), getValid)
		if err != nil {
			return nil, err
		}
		return map[string]any{"method": "getUrl", "url": url, "expires": expires.Truncate(), "hashes": o.hashes}, nil
	case accepted.Simple != nil:
		url, err := b.Blob.GetURL(c.Context, b.key(o), simpleValid)
		if err != nil {
			return nil, err
		}
		return map[string]any{"method": "simple", "url": url}, nil
	}
	return nil, tcerr.New(tcerr.NoMatchingMethod, "Object supports methods simple, getUrl")
}

func (s *Service) object(c *api.Call) (any, error) {
	o, err := s.finished(c.Context, c.Param("name"))
	if err != nil {
		return nil, err
	}
	return &GetObjectResponse{ProjectID: o.projectID, Expires: o.expires, Hashes: o.hashes}, nil
}

func (s *Service) download(c *api.Call) (any, error) {
	o, err := s.finished(c.Context, c.Param("name"))
	if err != nil {
		return nil, err
	}
	b, err := s.backend(o)
	if err != nil {
		return nil, err
	}
	for _, cdn := range s.cdn {
		if cdn.Name.MatchString(o.name) {
			return seeOther(cdn.BaseURL + o.name), nil
		}
	}
	url, err := b.Blob.GetURL(c.Context, b.key(o), simpleValid)
	if err != nil {
		return nil, err
	}
	return seeOther(url), nil
}

func seeOther(url string) *api.Response {
	return &api.Response{Status: http.StatusSeeOther, Header: http.Header{"Location": {url}},
		Body: api.Text("See Other. Redirecting to " + url)}
}

package queue

import (
	"net/http"

	"taskcluster/internal/api"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// maxLinks bounds a chain of links: each step asks for the scopes of all names
// so far.
const maxLinks = 100

// follow reads an artifact and follows links to the one that has content. The
// caller needs the scopes of every name on the way.
func (s *Service) follow(c *api.Call, id slugid.ID, runID int, name string) (*artifact, error) {
	names := []string{name}
	for {
		if err := c.Authorize(map[string]any{"names": names}); err != nil {
			return nil, err
		}
		a, err := s.readArtifact(c.Context, id, runID, name)
		switch {
		case err != nil:
			return nil, err
		case a.expires < s.clock.Now():
			return nil, tcerr.New(tcerr.ResourceExpired, "Artifact expired")
		case a.storageType != storageLink:
			return a, nil
		}
		name = a.details
		for _, n := range names {
			if n == name {
				return nil, tcerr.New(tcerr.InputError, "Artifact leads to a link cycle")
			}
		}
		if names = append(names, name); len(names) > maxLinks {
			return nil, tcerr.New(tcerr.InputError, "Artifact leads through more than %d links", maxLinks)
		}
	}
}

// location is where the content of an artifact is.
func (s *Service) location(c *api.Call, id slugid.ID, runID int, a *artifact) (string, error) {
	switch a.storageType {
	case storageReference:
		return a.details, nil
	case storageObject:
		return s.objectURL(c.Context, objectName(id, runID, a.name))
	}
	return s.blob.GetURL(c.Context, blobKey(id, runID, a.name), downloadValid)
}

// ofRun serves a method about an artifact of the run that the URL names.
func ofRun(f func(c *api.Call, id slugid.ID, runID int) (any, error)) func(*api.Call) (any, error) {
	return func(c *api.Call) (any, error) {
		id, err := slugid.Parse(c.Param("taskId"))
		if err != nil {
			return nil, err
		}
		return f(c, id, parseRunID(c.Param("runId")))
	}
}

// ofLatestRun is ofRun for the task's latest run, even one without artifacts.
func (s *Service) ofLatestRun(f func(c *api.Call, id slugid.ID, runID int) (any, error)) func(*api.Call) (any, error) {
	return func(c *api.Call) (any, error) {
		id, err := slugid.Parse(c.Param("taskId"))
		if err != nil {
			return nil, err
		}
		runID, err := s.latestRun(c.Context, id)
		if err != nil {
			return nil, err
		}
		return f(c, id, runID)
	}
}

// getLatestArtifact is unlike its siblings: callers without the scope learn
// nothing of the task.
func (s *Service) getLatestArtifact(c *api.Call) (any, error) {
	if err := c.Authorize(map[string]any{"names": []string{c.Param("name")}}); err != nil {
		return nil, err
	}
	return s.ofLatestRun(s.redirect)(c)
}

// redirect sends the caller to the content of an artifact. Clients that do not
// follow redirects find the URL in the body.
func (s *Service) redirect(c *api.Call, id slugid.ID, runID int) (any, error) {
	a, err := s.follow(c, id, runID, c.Param("name"))
	if err != nil {
		return nil, err
	}
	header := http.Header{"X-Taskcluster-Artifact-Storage-Type": {a.storageType}}
	if a.storageType == storageError {
		return &api.Response{Status: http.StatusFailedDependency, Header: header,
			Body: map[string]string{"reason": a.details, "message": a.message}}, nil
	}
	url, err := s.location(c, id, runID, a)
	if err != nil {
		return nil, err
	}
	header.Set("Location", url)
	return &api.Response{Status: http.StatusSeeOther, Header: header,
		Body: &GetArtifactResponse{StorageType: a.storageType, URL: url}}, nil
}

// content answers with where the content is, without a redirect.
func (s *Service) content(c *api.Call, id slugid.ID, runID int) (any, error) {
	a, err := s.follow(c, id, runID, c.Param("name"))
	if err != nil {
		return nil, err
	}
	if a.storageType == storageError {
		return map[string]string{"storageType": storageError, "reason": a.details, "message": a.message}, nil
	}
	if a.storageType == storageObject {
		return s.objectContent(id, runID, a)
	}
	url, err := s.location(c, id, runID, a)
	if err != nil {
		return nil, err
	}
	return &GetArtifactResponse{StorageType: a.storageType, URL: url}, nil
}

// info describes an artifact; links are described themselves.
func (s *Service) info(c *api.Call, id slugid.ID, runID int) (any, error) {
	a, err := s.readArtifact(c.Context, id, runID, c.Param("name"))
	if err != nil {
		return nil, err
	}
	return api.JSON(a.appendInfo(nil)), nil
}

func (s *Service) listArtifacts(c *api.Call, id slugid.ID, runID int) (any, error) {
	t, err := s.readTask(c.Context, id)
	if err != nil {
		return nil, err
	}
	if t.run(runID) == nil {
		return nil, tcerr.New(tcerr.ResourceNotFound, "Task with taskId: `%s` has no run with runId: %d", id, runID)
	}
	return s.list(c, id, runID)
}

// list lists the artifacts of a run by name. The continuation token is the
// last name of the page; garbage is the first page.
func (s *Service) list(c *api.Call, id slugid.ID, runID int) (any, error) {
	limit, token := c.Page()
	b := []byte(`{"artifacts":[`)
	err := s.store.Read(c.Context, func(tx *store.Tx) error {
		rows := tx.Query(stmt.listArtifacts, id, runID, laxToken(token), limit+1)
		defer rows.Close()
		last := ""
		for n := 0; limit > 0 && rows.Next(); n++ {
			if n == limit {
				b = appendToken(append(b, ']'), makeToken(last))
				b = append(b, '}')
				return nil
			}
			a, err := scanArtifact(rows)
			if err != nil {
				return err
			}
			if n > 0 {
				b = append(b, ',')
			}
			b, last = a.appendInfo(b), a.name
		}
		b = append(b, "]}"...)
		return rows.Err()
	})
	return api.JSON(b), err
}

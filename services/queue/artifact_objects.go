package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"taskcluster/client"
	"taskcluster/client/object"
	"taskcluster/internal/api"
	"taskcluster/internal/hawk"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// Artifacts of the type object are kept by the object service, which the queue
// calls as any client would. Until the upload is finished, details holds its
// uploadId, and nobody sees the artifact.

// How long the credentials work with which objects are uploaded, at most, and
// those with which they are downloaded.
const (
	objectUpload   = 24 * time.Hour
	objectDownload = time.Hour
)

// uploading tells whether the artifact is an object whose upload is not
// finished.
func (a *artifact) uploading() bool { return a.storageType == storageObject && a.details != "" }

// objectName is what the object service knows an artifact as. It is not stored
// anywhere, so it must never change.
func objectName(id slugid.ID, runID int, name string) string { return "t/" + blobKey(id, runID, name) }

// scopesKey is where a context carries the scopes that a call needs.
type scopesKey struct{}

// withScopes restricts a call of the object service to what it is for.
func withScopes(ctx context.Context, scopes ...string) context.Context {
	return context.WithValue(ctx, scopesKey{}, scopes)
}

// newObjects makes the client of the object service.
func (s *Service) newObjects(cfg *client.Config) (*object.Client, error) {
	if cfg == nil {
		return nil, nil
	}
	c := *cfg
	c.Now = func() time.Time { return s.clock.Now().Std() }
	c.CredentialSource = func(ctx context.Context) (client.Credentials, error) {
		credentials := s.credentials
		credentials.AuthorizedScopes, _ = ctx.Value(scopesKey{}).([]string)
		if credentials.AuthorizedScopes == nil {
			return client.Credentials{}, errors.New("queue: a call of the object service that does not say its scopes")
		}
		return credentials, nil
	}
	return object.New(c)
}

// beginObject creates the object of an artifact that is stored already. The
// object service takes the same call again.
func (s *Service) beginObject(ctx context.Context, name, projectID string, a *artifact) error {
	ctx = withScopes(ctx, "object:upload:"+projectID+":"+name)
	_, err := s.objects.CreateUpload(ctx, name, &object.CreateUploadRequest{
		ProjectID: projectID, UploadID: a.details, Expires: client.Time{Time: a.expires.Std()},
	})
	switch client.ErrorCode(err) {
	case string(tcerr.RequestConflict):
		return tcerr.Wrap(tcerr.RequestConflict, err, "The object service has an object %q already: its upload was not finished in time, or it belongs to something else. Use another name for the artifact.", name)
	case string(tcerr.NoMatchingBackend):
		return tcerr.Wrap(tcerr.InputError, err, "The object service has no backend for artifacts of the project %q. Use the storageType `s3`.", projectID)
	}
	return err
}

// answerObject tells a worker how to go on: with the object service, as a
// client that may do just that.
func (s *Service) answerObject(name, projectID string, a *artifact, by *run, id slugid.ID) (any, error) {
	now := s.clock.Now()
	until := min(a.expires, now.Add(objectUpload))
	c, err := s.credentials.Temporary(hawk.TemporaryOptions{
		Name:   fmt.Sprintf("artifact-upload/%s/%d/on/%s/%s", id, by.id, by.workerGroup, by.workerID),
		Scopes: []string{"object:upload:" + projectID + ":" + name},
		Start:  min(now, until).Std(), // an artifact may have expired just now
		Expiry: until.Std(),
	})
	if err != nil {
		return nil, err
	}
	b := appendString([]byte(`{"storageType":"object","name":`), name)
	b = appendString(append(b, `,"projectId":`...), projectID)
	b = appendString(append(b, `,"uploadId":`...), a.details)
	b = appendTime(b, "expires", a.expires)
	b = appendCredentialsOf(b, c)
	return api.JSON(append(b, '}')), nil
}

func appendCredentialsOf(b []byte, c hawk.Credentials) []byte {
	b = appendString(append(b, `,"credentials":{"clientId":`...), c.ClientID)
	b = appendString(append(b, `,"accessToken":`...), c.AccessToken)
	b = appendQuoted(append(b, `,"certificate":`...), c.Certificate)
	return append(b, '}')
}

// finishArtifact makes an artifact of the type object visible, when its upload
// is finished. Repeating it publishes the message again.
func (s *Service) finishArtifact(c *api.Call, in *FinishArtifactRequest) (any, error) {
	id, runID, err := authorizeRun(c)
	if err != nil {
		return nil, err
	}
	a, err := s.storedArtifact(c.Context, id, runID, c.Param("name"))
	switch {
	case err != nil:
		return nil, err
	case a.storageType != storageObject:
		return nil, tcerr.New(tcerr.InputError, "Only object artifacts can be finished")
	}
	if a.uploading() {
		if in.UploadID != a.details {
			return nil, tcerr.New(tcerr.InputError, "given uploadId does not match that for the artifact")
		}
		if err := s.checkObject(c.Context, objectName(id, runID, a.name)); err != nil {
			return nil, err
		}
	}
	var refusal error
	err = s.store.Write(c.Context, func(tx *store.Tx) error {
		refusal, err = s.markFinished(tx, id, runID, a.name, a.details)
		if err == nil && refusal == nil {
			c.Audit(tx)
		}
		return err
	})
	if err == nil {
		err = refusal
	}
	return nil, err
}

// checkObject refuses to finish an artifact whose object is not finished.
func (s *Service) checkObject(ctx context.Context, name string) error {
	if s.objects == nil {
		return errNoObjects
	}
	_, err := s.objects.Object(withScopes(ctx, "object:download:"+name), name)
	if client.IsNotFound(err) {
		return tcerr.Wrap(tcerr.InputError, err, "Object storing artifact data does not exist")
	}
	return err
}

// markFinished makes an artifact visible, if the upload is still the one that
// was looked at.
func (s *Service) markFinished(tx *store.Tx, id slugid.ID, runID int, name, uploadID string) (refusal, err error) {
	gone := tcerr.New(tcerr.ResourceNotFound, "Artifact not found")
	a, err := scanArtifact(tx.Row(stmt.artifact, id, runID, name))
	if errors.Is(err, store.ErrNoRows) || err == nil && a.expires.IsZero() {
		return gone, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := loadTask(tx, id)
	if errors.Is(err, store.ErrNoRows) {
		return tcerr.New(tcerr.ResourceNotFound, "Task not found"), nil
	}
	if err != nil {
		return nil, err
	}
	r := t.run(runID)
	switch {
	case r == nil:
		return tcerr.New(tcerr.ResourceNotFound, "Run not found"), nil
	case a.storageType != storageObject || a.uploading() && a.details != uploadID:
		return gone, nil // another one has taken its name meanwhile
	}
	if a.uploading() {
		if _, err := tx.Exec(stmt.updateArtifact, a.storageType, a.expires, "", a.message, id, runID, name); err != nil {
			return nil, err
		}
	}
	o := s.begin(tx)
	o.publishArtifact(t, r, a)
	return nil, o.finish()
}

// errNoObjects is the refusal where there is no object service.
var errNoObjects = tcerr.New(tcerr.InputError, "Artifacts of storageType `object` are not supported: this deployment has no object service. Use `s3`.")

// objectURL is where the content of an object can be had.
func (s *Service) objectURL(ctx context.Context, name string) (string, error) {
	if s.objects == nil {
		return "", errNoObjects
	}
	yes := true
	in := &object.DownloadObjectRequest{AcceptDownloadMethods: object.DownloadObjectRequestAcceptDownloadMethods{Simple: &yes}}
	out, err := s.objects.StartDownload(withScopes(ctx, "object:download:"+name), name, in)
	switch client.ErrorCode(err) {
	case string(tcerr.ResourceNotFound):
		return "", tcerr.Wrap(tcerr.ResourceNotFound, err, "Object does not exist.")
	case string(tcerr.NoMatchingMethod):
		return "", tcerr.Wrap(tcerr.ResourceNotFound, err, "Object does not support simple downloads.")
	}
	if err != nil {
		return "", err
	}
	return out.URL, nil
}

// objectContent names the object of an artifact, with credentials to download it.
func (s *Service) objectContent(id slugid.ID, runID int, a *artifact) (any, error) {
	name, now := objectName(id, runID, a.name), s.clock.Now()
	c, err := s.credentials.Temporary(hawk.TemporaryOptions{
		Name:   "artifact-download/" + id.String() + "/" + strconv.Itoa(runID) + "/" + clientName(a.name),
		Scopes: []string{"object:download:" + name},
		Start:  now.Std(),
		Expiry: now.Add(objectDownload).Std(),
	})
	if err != nil {
		return nil, err
	}
	b := appendString([]byte(`{"storageType":"object","name":`), name)
	return api.JSON(append(appendCredentialsOf(b, c), '}')), nil
}

// clientName makes the name of an artifact a part of a client's: characters
// that clientIds cannot have are replaced.
func clientName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', strings.ContainsRune("!@/:.+|_-", r):
			return r
		}
		return '_'
	}, name)
}

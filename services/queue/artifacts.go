package queue

import (
	"context"
	"errors"
	"strconv"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/blob"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// The storage types of artifacts.
const (
	storageS3        = "s3"        // content in the blob store
	storageReference = "reference" // content behind a URL
	storageLink      = "link"      // another artifact of the same run
	storageError     = "error"     // no content, and why
	storageObject    = "object"    // content in the object service
)

const (
	defaultContentType = "application/binary"
	maxArtifactName    = 1024
	uploadValid        = 45 * time.Minute
	uploadGrace        = 10 * time.Second // for clients whose clocks are behind
	downloadValid      = 30 * time.Minute
	// afterException is how long a run that ended as an exception takes
	// artifacts: workers upload logs after they were told.
	afterException = 25 * time.Minute
)

// artifact is an artifact of a run.
type artifact struct {
	name          string
	storageType   string
	contentType   string
	contentLength int64      // -1: not told
	expires       clock.Time // 0: it is being removed, and nobody sees it
	details       string     // URL of a reference, target of a link, reason of an error, uploadId of an object that is being uploaded
	message       string     // of an error
}

func scanArtifact(row scanner) (*artifact, error) {
	a := new(artifact)
	return a, row.Scan(&a.name, &a.storageType, &a.contentType, &a.contentLength, &a.expires, &a.details, &a.message)
}

// blobKey is where the content of an artifact of the type s3 is.
func blobKey(id slugid.ID, runID int, name string) string {
	return id.String() + "/" + strconv.Itoa(runID) + "/" + name
}

// readArtifact reads an artifact that can be seen; not found is a published error.
func (s *Service) readArtifact(ctx context.Context, id slugid.ID, runID int, name string) (*artifact, error) {
	a, err := s.storedArtifact(ctx, id, runID, name)
	if err == nil && a.uploading() {
		return nil, tcerr.New(tcerr.ResourceNotFound, "Artifact not found")
	}
	return a, err
}

// storedArtifact is readArtifact for artifacts that are being uploaded, too.
func (s *Service) storedArtifact(ctx context.Context, id slugid.ID, runID int, name string) (a *artifact, err error) {
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		a, err = scanArtifact(tx.Row(stmt.artifact, id, runID, name))
		return err
	})
	if errors.Is(err, store.ErrNoRows) || err == nil && a.expires.IsZero() {
		return nil, tcerr.New(tcerr.ResourceNotFound, "Artifact not found")
	}
	return a, err
}

// latestRun gives the number of a task's last run.
func (s *Service) latestRun(ctx context.Context, id slugid.ID) (int, error) {
	t, err := s.readTask(ctx, id)
	switch {
	case tcerr.CodeOf(err) == tcerr.ResourceNotFound && err != nil:
		return 0, tcerr.New(tcerr.ResourceNotFound, "Task not found")
	case err != nil:
		return 0, err
	case t.last.id < 0:
		return 0, tcerr.New(tcerr.ResourceNotFound, "Task doesn't have any runs")
	}
	return t.last.id, nil
}

// appendInfo appends what artifactInfo and the listings show.
func (a *artifact) appendInfo(b []byte) []byte {
	b = append(b, `{"storageType":"`...)
	b = append(b, a.storageType...)
	b = appendString(append(b, `","name":`...), a.name)
	b = appendTime(b, "expires", a.expires)
	b = appendString(append(b, `,"contentType":`...), a.contentType)
	if a.contentLength >= 0 {
		b = strconv.AppendInt(append(b, `,"contentLength":`...), a.contentLength, 10)
	}
	return append(b, '}')
}

// newArtifact makes an artifact of a request.
func newArtifact(name string, in *PostArtifactRequest) (*artifact, error) {
	a := &artifact{name: name, storageType: in.StorageType, contentType: in.ContentType, contentLength: -1,
		expires: in.Expires.Truncate()}
	if a.contentType == "" {
		a.contentType = defaultContentType
	}
	if len(name) > maxArtifactName {
		return nil, tcerr.New(tcerr.InputError, "Artifact names may have %d characters, this one has %d", maxArtifactName, len(name))
	}
	switch in.StorageType {
	case storageS3, storageObject:
		if in.ContentLength != nil {
			a.contentLength = *in.ContentLength
		}
		if in.StorageType == storageObject {
			a.details = slugid.Nice().String()
		}
		if err := blob.CheckHeader("Content-Type", a.contentType); err != nil {
			return nil, tcerr.Wrap(tcerr.InputError, err, "contentType must be printable ASCII, without white space at its ends")
		}
	case storageReference:
		a.details = in.URL
	case storageLink:
		a.details = in.Artifact
	case storageError:
		a.details, a.message = in.Reason, in.Message
	}
	return a, nil
}

// replaces tells whether a may take the place of what is stored under its name.
func (a *artifact) replaces(old *artifact) bool {
	switch {
	case a.contentType != old.contentType && a.storageType != storageLink:
		return false
	case a.expires < old.expires:
		return false
	case a.storageType != old.storageType:
		return old.storageType == storageReference && a.storageType == storageLink
	}
	if a.storageType == storageObject { // a repetition, until the upload is finished
		return old.uploading() && a.expires == old.expires
	}
	return a.storageType == storageReference || a.details == old.details && a.message == old.message
}

func (s *Service) createArtifact(c *api.Call, in *PostArtifactRequest) (any, error) {
	id, runID, err := authorizeRun(c)
	if err != nil {
		return nil, err
	}
	a, err := newArtifact(c.Param("name"), in)
	if err != nil {
		return nil, err
	}
	if a.storageType == storageObject && s.objects == nil {
		return nil, errNoObjects
	}
	var t *task
	var refusal error
	err = s.store.Write(c.Context, func(tx *store.Tx) error {
		t, refusal, err = s.addArtifact(tx, id, runID, a)
		if err == nil && refusal == nil {
			c.Audit(tx)
		}
		return err
	})
	if err == nil {
		err = refusal
	}
	if err != nil {
		return nil, err
	}
	switch a.storageType {
	case storageS3:
		return s.answerS3(c.Context, id, runID, a)
	case storageObject:
		// It is stored first, so that whoever calls again goes on with the same uploadId.
		name := objectName(id, runID, a.name)
		if err := s.beginObject(c.Context, name, t.project, a); err != nil {
			return nil, err
		}
		return s.answerObject(name, t.project, a, t.run(runID), id)
	}
	return &PostArtifactResponse{StorageType: a.storageType}, nil
}

// answerS3 tells a worker where to send the content. The URL ends before an
// artifact that expires soon may be removed: what came later would never be.
func (s *Service) answerS3(ctx context.Context, id slugid.ID, runID int, a *artifact) (any, error) {
	now := s.clock.Now()
	valid := min(uploadValid, a.expires.Add(expireGrace-2*uploadGrace).Sub(now))
	expires := now.Add(valid)
	url, err := s.blob.PutURL(ctx, blobKey(id, runID, a.name), blob.Upload{ContentType: a.contentType, Length: blob.AnyLength}, valid+uploadGrace)
	if err != nil {
		return nil, err
	}
	b := appendString([]byte(`{"storageType":"s3","contentType":`), a.contentType)
	b = appendTime(b, "expires", expires)
	b = appendString(append(b, `,"putUrl":`...), url)
	return api.JSON(append(b, '}')), nil
}

// addArtifact stores an artifact, after the published checks in their order.
func (s *Service) addArtifact(tx *store.Tx, id slugid.ID, runID int, a *artifact) (t *task, refusal, err error) {
	bad := func(format string, args ...any) (*task, error, error) {
		return nil, tcerr.New(tcerr.InputError, format, args...), nil
	}
	now := tx.Now()
	if a.expires < now.Add(-drift) {
		return bad("Expires must be in the future")
	}
	t, err = loadTask(tx, id)
	if errors.Is(err, store.ErrNoRows) {
		return bad("Task not found")
	}
	if err != nil {
		return nil, nil, err
	}
	r := t.run(runID)
	switch {
	case r == nil:
		return bad("Run not found")
	case r.workerID == "":
		return bad("Run was not claimed by a worker and so no artifacts can exist")
	case a.expires > t.expires:
		return bad("Artifact expires (%s) after the task expiration %s", a.expires, t.expires)
	case r.state != running && !(r.state == exception && r.resolved.Add(afterException) > now):
		return nil, conflict("Artifacts cannot be created for a task after it is resolved, unless it is resolved 'exception', and even then only %d minutes long.", int(afterException.Minutes())), nil
	}
	old, err := scanArtifact(tx.Row(stmt.artifact, id, runID, a.name))
	switch {
	case errors.Is(err, store.ErrNoRows):
		_, err = tx.Exec(stmt.insertArtifact, id, runID, a.name, a.storageType, a.contentType, a.contentLength,
			a.expires, a.details, a.message)
	case err != nil:
	case old.expires.IsZero():
		return nil, conflict("The artifact has expired and is being removed. Try again in a minute."), nil
	case !a.replaces(old):
		return nil, conflict("Artifact already exists with different properties, and none of the allowed exceptions apply: the content type must be the same (but for links), the expiration may only grow (that of an object not even that), the upload of an object must not be finished, only the URL of a reference may change, and only a reference may become another type, namely a link."), nil
	default:
		a.contentType, a.contentLength = old.contentType, old.contentLength
		if a.storageType == storageObject {
			a.details = old.details
		}
		_, err = tx.Exec(stmt.updateArtifact, a.storageType, a.expires, a.details, a.message, id, runID, a.name)
	}
	if err != nil || a.storageType == storageS3 || a.storageType == storageObject {
		return t, nil, err
	}
	o := s.begin(tx)
	o.publishArtifact(t, r, a)
	return t, nil, o.finish()
}

package object

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"strconv"
	"strings"

	"taskcluster/internal/api"
	"taskcluster/internal/blob"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// createUploadAnswer is CreateUploadResponse with the expiration as it was
// written.
type createUploadAnswer struct {
	ProjectID    string                           `json:"projectId"`
	UploadID     string                           `json:"uploadId"`
	Expires      json.RawMessage                  `json:"expires"`
	UploadMethod CreateUploadResponseUploadMethod `json:"uploadMethod"`
}

func (s *Service) createUpload(c *api.Call, in *CreateUploadRequest) (any, error) {
	name := c.Param("name")
	if err := c.Authorize(map[string]any{"projectId": in.ProjectID, "name": name}); err != nil {
		return nil, err
	}
	var verbatim struct{ Expires json.RawMessage }
	if err := json.Unmarshal(c.Body(), &verbatim); err != nil {
		return nil, err
	}
	if err := checkHashes(in.Hashes); err != nil {
		return nil, err
	}
	id, err := slugid.Parse(in.UploadID)
	if err != nil {
		return nil, err
	}
	backendID, err := s.choose(name, in.ProjectID)
	if err != nil {
		return nil, err
	}
	wanted := object{name: name, projectID: in.ProjectID, backendID: backendID, expires: in.Expires.Truncate(),
		uploadID: &id, hashes: in.Hashes}
	var o *object
	var refusal error
	err = s.store.Write(c.Context, func(tx *store.Tx) error {
		o, refusal, err = begin(tx, wanted)
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
	method, err := s.chooseUpload(c.Context, o, &in.ProposedUploadMethods)
	if err != nil {
		return nil, err
	}
	return &createUploadAnswer{ProjectID: in.ProjectID, UploadID: in.UploadID, Expires: verbatim.Expires, UploadMethod: method}, nil
}

// begin stores a new object, or goes on with the same one.
func begin(tx *store.Tx, wanted object) (o *object, refusal, err error) {
	now := tx.Now()
	until := now.Add(uploadTime)
	wanted.uploadExpires = &until
	if wanted.hashes == nil {
		wanted.hashes = map[string]json.RawMessage{}
	}
	// Whatever URL was given out has stopped working when the data is removed.
	inserted, err := insert(tx, &wanted, until.Add(putValid+putGrace))
	if err != nil || inserted {
		return &wanted, nil, err
	}
	exists := func(why string) (*object, error, error) {
		return nil, tcerr.New(tcerr.RequestConflict, "Object already exists%s", why), nil
	}
	o, err = scan(tx.Row(stmt.lock, wanted.name))
	switch {
	case errors.Is(err, store.ErrNoRows):
		return exists(": the uploadId belongs to another one")
	case err != nil:
		return nil, nil, err
	case o.removing:
		return exists(", and is being removed: try again later")
	case o.uploadID == nil:
		return exists(", and its upload is finished")
	case o.projectID != wanted.projectID || o.backendID != wanted.backendID || *o.uploadID != *wanted.uploadID || o.expires != wanted.expires:
		return exists(" with another projectId, uploadId, expires or backend")
	case *o.uploadExpires <= now:
		return exists(", but its upload was not finished in time and is going to be removed: try again later")
	}
	added, refusal := o.addHashes(wanted.hashes)
	if refusal != nil || !added {
		return o, refusal, nil
	}
	hashes, err := json.Marshal(o.hashes)
	if err != nil {
		return nil, nil, err
	}
	_, err = tx.Exec(stmt.setHashes, hashes, o.row)
	return o, nil, err
}

// chooseUpload picks the first method that was proposed, and does its part of
// it.
func (s *Service) chooseUpload(ctx context.Context, o *object, proposed *CreateUploadRequestProposedUploadMethods) (m CreateUploadResponseUploadMethod, err error) {
	b, err := s.backend(o)
	if err != nil {
		return m, err
	}
	switch {
	case proposed.DataInline != nil:
		yes := true
		m.DataInline = &yes
		ctx, cancel := context.WithTimeout(ctx, inlineTimeout)
		defer cancel()
		info := blob.Info{ContentType: proposed.DataInline.ContentType, ContentDisposition: disposition(proposed.DataInline.ContentType)}
		_, err = b.Blob.Put(ctx, b.key(o), info, bytes.NewReader(decode(proposed.DataInline.ObjectData)))
	case proposed.PutURL != nil:
		m.PutURL, err = s.putURL(ctx, b, o, proposed.PutURL)
	}
	return m, refuse(err)
}

func (s *Service) putURL(ctx context.Context, b Backend, o *object, p *UploadMethodPutURLRequest) (*UploadMethodPutURLResponse, error) {
	if p.ContentLength < 0 {
		return nil, tcerr.New(tcerr.InputError, "contentLength is a number of bytes; %d is none", p.ContentLength)
	}
	upload := blob.Upload{ContentType: p.ContentType, ContentDisposition: disposition(p.ContentType), Length: p.ContentLength}
	expires := s.clock.Now().Add(putValid)
	url, err := b.Blob.PutURL(ctx, b.key(o), upload, putValid+putGrace)
	if err != nil {
		return nil, err
	}
	headers := map[string]string{
		"Content-Type":     p.ContentType,
		"Content-Length":   strconv.FormatInt(p.ContentLength, 10),
		"Content-Encoding": "identity",
	}
	if upload.ContentDisposition != "" {
		headers["Content-Disposition"] = upload.ContentDisposition
	}
	return &UploadMethodPutURLResponse{URL: url, Expires: expires.Truncate(), Headers: headers}, nil
}

// disposition has browsers save pages instead of showing them, so that nobody
// can make a page that speaks for this deployment.
func disposition(contentType string) string {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		media, _, _ = strings.Cut(strings.ToLower(contentType), ";")
		media = strings.TrimSpace(media)
	}
	if media == "text/html" || media == "application/xhtml+xml" {
		return "attachment"
	}
	return ""
}

// decode reads base64 as Node.js does, for clients are used to that: both
// alphabets, and what belongs to neither is passed over. The end is at the
// first padding.
func decode(text string) []byte {
	text, _, _ = strings.Cut(text, "=")
	text = strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '+', r == '/':
			return r
		case r == '-':
			return '+'
		case r == '_':
			return '/'
		}
		return -1
	}, text)
	if len(text)%4 == 1 {
		text = text[:len(text)-1] // six bits are no byte
	}
	data, _ := base64.RawStdEncoding.DecodeString(text)
	return data
}

// refuse turns what a blob store says of the caller's input into refusals.
func refuse(err error) error {
	switch {
	case errors.Is(err, blob.ErrTooLarge):
		return tcerr.Wrap(tcerr.InputTooLarge, err, "%s", err)
	case errors.Is(err, blob.ErrInvalid):
		return tcerr.Wrap(tcerr.InputError, err, "%s", err)
	}
	return err
}

// finishUpload makes an object visible. It does not look whether the data has
// arrived, as published: the uploader knows, and whoever downloads finds out.
func (s *Service) finishUpload(c *api.Call, in *FinishUploadRequest) (any, error) {
	name := c.Param("name")
	if err := c.Authorize(map[string]any{"projectId": in.ProjectID, "name": name}); err != nil {
		return nil, err
	}
	if err := checkHashes(in.Hashes); err != nil {
		return nil, err
	}
	id, err := slugid.Parse(in.UploadID)
	if err != nil {
		return nil, err
	}
	var refusal error
	err = s.store.Write(c.Context, func(tx *store.Tx) error {
		refusal, err = s.finish(tx, name, in, id)
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
	return api.JSON("{}"), nil
}

// read reads an object as it stands.
func read(tx *store.Tx, name string) (o *object, refusal, err error) {
	o, err = scan(tx.Row(stmt.get, name))
	if errors.Is(err, store.ErrNoRows) || err == nil && o.removing {
		return nil, notFound(name), nil
	}
	return o, nil, err
}

// mayFinish refuses to finish an upload, for reasons in their published order.
func (o *object) mayFinish(in *FinishUploadRequest, id slugid.ID) error {
	switch {
	case o.projectID != in.ProjectID:
		return tcerr.New(tcerr.InputError, "The object %q does not belong to the project %q", o.name, in.ProjectID)
	case o.uploadID == nil:
		return o.sameHashes(in.Hashes)
	case *o.uploadID != id:
		return tcerr.New(tcerr.RequestConflict, "The uploadId does not match that of the object %q", o.name)
	}
	return nil
}

func (s *Service) finish(tx *store.Tx, name string, in *FinishUploadRequest, id slugid.ID) (refusal, err error) {
	o, refusal, err := load(tx, name)
	if err != nil || refusal != nil {
		return refusal, err
	}
	if refusal := o.mayFinish(in, id); refusal != nil || o.uploadID == nil {
		return refusal, nil
	}
	if _, refusal := s.backend(o); refusal != nil {
		return refusal, nil
	}
	if _, refusal := o.addHashes(in.Hashes); refusal != nil {
		return refusal, nil
	}
	hashes, err := json.Marshal(o.hashes)
	if err != nil {
		return nil, err
	}
	// A URL that was given out just now takes data for as long as this.
	due := max(o.expires, tx.Now().Add(putValid+putGrace))
	_, err = tx.Exec(stmt.finish, hashes, due, o.row)
	return nil, err
}

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"taskcluster/internal/blob"
	"taskcluster/internal/blob/fs"
	"taskcluster/internal/blob/s3"
	"taskcluster/internal/clock"
	"taskcluster/internal/store/keyring"
	"taskcluster/services/object"
)

// openBlobs opens the store of artifacts, and says what serves its URLs if
// this program does.
func (a *App) openBlobs(ctx context.Context, keys *keyring.Keyring) (blob.Store, http.Handler, error) {
	if *a.settings.ArtifactStore == "fs" {
		artifacts := filepath.Join(*a.settings.DataDir, artifactsName)
		files, err := fs.New(artifacts, fs.Options{
			RootURL: a.rootURL, Key: keys.Derive("blob urls"), Clock: clock.Real{}, MaxSize: *a.settings.MaxArtifactSize, Log: a.log,
		})
		if err != nil {
			return nil, nil, err
		}
		if a.store != nil && a.store.Shared() {
			if err := a.checkArtifacts(ctx, artifacts); err != nil {
				return nil, nil, err
			}
		}
		return files, files.Handler(), nil
	}
	bucket, err := s3.New(ctx, s3.Options{
		Endpoint: text(a.settings.S3Endpoint), Region: text(a.settings.S3Region), Bucket: *a.settings.S3Bucket,
		AccessKeyID: *a.settings.S3AccessKeyID, SecretAccessKey: string(*a.settings.S3SecretKey),
		PathStyle: *a.settings.S3PathStyle, CORS: *a.settings.S3CORS, Log: a.log,
	})
	return bucket, http.NotFoundHandler(), err
}

func text(setting *string) string {
	if setting == nil {
		return ""
	}
	return *setting
}

// The backend that keeps objects where nothing else is set: the deployment's
// own blob store. The artifacts of tasks are in there too, under keys that
// begin with a taskId, which the prefix is not.
const (
	ownBackend = "artifacts"
	ownPrefix  = "object/"
)

// newObject builds the object service.
func (a *App) newObject(ctx context.Context, blobs blob.Store) (_ *object.Service, err error) {
	cfg := object.Config{
		Store: a.store, Logger: a.log,
		Backends: map[string]object.Backend{ownBackend: {Blob: blobs, Prefix: ownPrefix}},
		Map:      []object.Rule{{BackendID: ownBackend}},
	}
	if a.settings.ObjectBackends != nil {
		if err := a.openBackends(ctx, []byte(*a.settings.ObjectBackends), cfg.Backends); err != nil {
			return nil, fmt.Errorf("setting object-backends: %w", err)
		}
	}
	if a.settings.ObjectMap != nil {
		if cfg.Map, err = object.ParseMap([]byte(*a.settings.ObjectMap)); err != nil {
			return nil, fmt.Errorf("setting object-backend-map: %w", err)
		}
	}
	if a.settings.ObjectCDN != nil {
		if cfg.CDN, err = object.ParseMiddleware([]byte(*a.settings.ObjectCDN)); err != nil {
			return nil, fmt.Errorf("setting object-middleware: %w", err)
		}
	}
	return object.New(cfg)
}

// backendSetting is one backend as it is set: a bucket.
type backendSetting struct {
	Type            string          `json:"backendType"`
	AccessKeyID     string          `json:"accessKeyId"`
	SecretAccessKey string          `json:"secretAccessKey"`
	Bucket          string          `json:"bucket"`
	SignGetURLs     *bool           `json:"signGetUrls"`
	Endpoint        string          `json:"endpoint"`
	Region          string          `json:"region"`
	PathStyle       bool            `json:"s3ForcePathStyle"`
	Tags            json.RawMessage `json:"tags"`
}

// openBackends opens the backends that are set, and adds them.
func (a *App) openBackends(ctx context.Context, setting []byte, backends map[string]object.Backend) error {
	var list map[string]json.RawMessage
	if json.Unmarshal(setting, &list) != nil {
		return errors.New("it is not a JSON object of backends by id") // not the text, which holds secrets
	}
	for id, text := range list {
		var b backendSetting
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err := d.Decode(&b)
		switch {
		case err != nil:
			return fmt.Errorf("backend %s: %w", id, err)
		case id == ownBackend:
			return fmt.Errorf("backend %s: this id stands for the deployment's artifact store; choose another", id)
		case b.Type != "aws":
			return fmt.Errorf("backend %s: unknown backendType %q; there is aws", id, b.Type)
		case b.Tags != nil:
			return fmt.Errorf("backend %s: tags are not supported; give the bucket or its lifecycle rules what you need them for", id)
		}
		for name, missing := range map[string]bool{"accessKeyId": b.AccessKeyID == "", "secretAccessKey": b.SecretAccessKey == "", "bucket": b.Bucket == "", "signGetUrls": b.SignGetURLs == nil} {
			if missing {
				return fmt.Errorf("backend %s: %s is missing", id, name)
			}
		}
		store, err := s3.New(ctx, s3.Options{
			Endpoint: b.Endpoint, Region: b.Region, Bucket: b.Bucket, AccessKeyID: b.AccessKeyID, SecretAccessKey: b.SecretAccessKey,
			PathStyle: b.PathStyle, Unsigned: !*b.SignGetURLs, Log: a.log,
		})
		if err != nil {
			return fmt.Errorf("backend %s: %w", id, err)
		}
		backends[id] = object.Backend{Blob: store}
	}
	return nil
}

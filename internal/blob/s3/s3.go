// Package s3 is the blob store that keeps objects in a bucket of Amazon S3, or
// of any service that speaks its protocol, and presigns its URLs.
//
// An object's key in the bucket is its key here, with one exception that
// keeps URLs and servers from reading something else into it: a segment
// between slashes that is empty, "." or ".." gets a "%" in front, and so does
// one that this could be mistaken for ("%.", "%%"). S3 allows keys of 1,024
// bytes.
//
// What S3 cannot do, and this store therefore does not:
//
//   - A signed URL is for one method: those of GetURL do not serve HEAD.
//   - One PUT takes 5 GiB, so PutURL refuses a longer Upload. Put sends
//     what is long in parts, up to 55,000 times the size of the first one.
//   - A PUT whose length was not bound may be of any length.
//
// A process that dies during Put may leave parts, which nobody sees but which
// take room: give the bucket a lifecycle rule that aborts incomplete uploads.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"taskcluster/internal/blob"
)

// Options say which bucket, and how to reach it.
type Options struct {
	// Endpoint is the URL of the service; empty for Amazon's.
	Endpoint string
	// Region of the bucket. Empty: Amazon is asked; elsewhere us-east-1.
	Region string
	Bucket string

	AccessKeyID     string
	SecretAccessKey string
	// PathStyle puts the bucket into the path of URLs instead of the host name,
	// as services want that have no wildcard domain.
	PathStyle bool
	// Unsigned has GetURL give plain URLs, for a bucket that anyone may read.
	Unsigned bool
	// CORS lets web pages of all origins use signed URLs, by giving the bucket
	// that rule when the store is opened. A bucket that does not take it is no
	// error, but a line in the log.
	CORS bool

	// PartSize is the size in bytes of the first thousand parts in which Put
	// sends long objects, and of the memory that it takes; each further thousand
	// is larger by that much. 16 MiB when 0, at least 5 MiB.
	PartSize int64
	// Stall is how long the service may neither take nor send a byte; a minute
	// when 0.
	Stall time.Duration
	Log   *slog.Logger
}

// Limits of S3.
const (
	// MaxPut is the largest body of one PUT, in bytes.
	MaxPut      = 5 << 30
	maxKey      = 1024
	maxDelete   = 1000
	maxParts    = 10_000
	minPartSize = 5 << 20
)

// Store implements blob.Store. It is safe for concurrent use.
type Store struct {
	client   *s3.Client
	presign  *s3.PresignClient
	bucket   string
	where    string // for messages
	unsigned string // base of plain URLs, or empty
	partSize int64
	log      *slog.Logger
}

// New opens a bucket. It fails if the bucket does not exist or the credentials
// do not open it.
func New(ctx context.Context, o Options) (*Store, error) {
	switch {
	case o.Bucket == "":
		return nil, errors.New("blob/s3: a bucket is needed")
	case o.AccessKeyID == "" || o.SecretAccessKey == "":
		return nil, errors.New("blob/s3: an access key id and a secret access key are needed")
	case o.PartSize != 0 && o.PartSize < minPartSize:
		return nil, fmt.Errorf("blob/s3: the parts must have at least %d bytes", minPartSize)
	}
	where := "bucket " + o.Bucket
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
			return nil, errors.New("blob/s3: the endpoint must be a URL like https://s3.example.com")
		}
		where += " at " + o.Endpoint
	}
	s := &Store{bucket: o.Bucket, where: where, partSize: o.PartSize, log: o.Log}
	if s.partSize == 0 {
		s.partSize = 16 << 20
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if o.Stall <= 0 {
		o.Stall = time.Minute
	}
	config := s3.Options{
		Region:       o.Region,
		Credentials:  staticKeys(o),
		UsePathStyle: o.PathStyle,
		HTTPClient:   &http.Client{Transport: transport(o.Stall), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		// Only where S3 demands them: other services do not know the newer ones,
		// and a presigned URL would bind that of an empty body.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if o.Endpoint != "" {
		config.BaseEndpoint = &o.Endpoint
	}
	if config.Region == "" {
		config.Region = "us-east-1"
		if o.Endpoint == "" {
			region, err := discover(ctx, s3.New(config), o.Bucket)
			if err != nil {
				return nil, s.failed("find the region of", "", err)
			}
			config.Region = region
		}
	}
	s.client = s3.New(config)
	s.presign = s3.NewPresignClient(s.client)
	// Listing says why it fails, unlike HeadBucket. Who may not list is not told
	// either that an object is missing, but only that he may not look.
	if _, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.bucket, MaxKeys: aws.Int32(1)}); err != nil {
		return nil, s.failed("list what is", "", err)
	}
	if o.Unsigned {
		if err := s.findBase(ctx); err != nil {
			return nil, err
		}
	}
	if o.CORS {
		s.allowPages(ctx)
	}
	return s, nil
}

func staticKeys(o Options) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(o.AccessKeyID, o.SecretAccessKey, "")
}

// discover asks Amazon for the region of a bucket.
func discover(ctx context.Context, c *s3.Client, bucket string) (string, error) {
	out, err := c.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: &bucket})
	if err != nil {
		return "", err
	}
	switch region := string(out.LocationConstraint); region {
	case "":
		return "us-east-1", nil
	case "EU": // of old
		return "eu-west-1", nil
	default:
		return region, nil
	}
}

// findBase finds what plain URLs begin with, whatever the style of addresses.
func (s *Store) findBase(ctx context.Context) error {
	signed, err := s.GetURL(ctx, "x", time.Minute)
	if err != nil {
		return err
	}
	base, _, _ := strings.Cut(signed, "?")
	s.unsigned = strings.TrimSuffix(base, "x")
	return nil
}

// allowPages gives the bucket the rule by which pages of all origins may use
// signed URLs.
func (s *Store) allowPages(ctx context.Context) {
	age := int32(3600)
	_, err := s.client.PutBucketCors(ctx, &s3.PutBucketCorsInput{Bucket: &s.bucket, CORSConfiguration: &types.CORSConfiguration{
		CORSRules: []types.CORSRule{{
			AllowedOrigins: []string{"*"}, AllowedHeaders: []string{"*"}, AllowedMethods: []string{"GET", "PUT", "HEAD"},
			ExposeHeaders: []string{"ETag", "Content-Encoding", "Content-Length", "Content-Range"}, MaxAgeSeconds: &age,
		}},
	}})
	if err != nil {
		s.log.Warn("web pages may not be able to read artifacts: the bucket did not take the CORS rule for all origins; "+
			"give it one by hand, and turn this off", "error", s.failed("set the CORS rule", "", err).Error())
	}
}

// keyOf is the key in the bucket.
func keyOf(key string) string {
	segments := strings.Split(key, "/")
	for i, segment := range segments {
		switch strings.TrimLeft(segment, "%") {
		case "", ".", "..":
			segments[i] = "%" + segment
		}
	}
	return strings.Join(segments, "/")
}

func check(key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	if n := len(keyOf(key)); n > maxKey {
		return fmt.Errorf("%w: its key would have %d bytes, and S3 takes %d", blob.ErrInvalid, n, maxKey)
	}
	return nil
}

// PutURL implements blob.Store.
func (s *Store) PutURL(ctx context.Context, key string, u blob.Upload, valid time.Duration) (string, error) {
	if err := errors.Join(check(key), (blob.Info{ContentType: u.ContentType, ContentDisposition: u.ContentDisposition}).CheckHeaders()); err != nil {
		return "", err
	}
	if u.Length > MaxPut {
		return "", fmt.Errorf("%w: S3 takes at most 5 GiB in one PUT; divide it into several", blob.ErrTooLarge)
	}
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: aws.String(keyOf(key)), ContentType: &u.ContentType}
	if u.ContentDisposition != "" {
		in.ContentDisposition = &u.ContentDisposition
	}
	if u.Length >= 0 {
		in.ContentLength = &u.Length
	}
	signed, err := s.presign.PresignPutObject(ctx, in, s3.WithPresignExpires(valid))
	if err != nil {
		return "", s.failed("presign", key, err)
	}
	return signed.URL, nil
}

// GetURL implements blob.Store.
func (s *Store) GetURL(ctx context.Context, key string, valid time.Duration) (string, error) {
	if err := check(key); err != nil {
		return "", err
	}
	if s.unsigned != "" {
		return s.unsigned + escape(keyOf(key)), nil
	}
	signed, err := s.presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String(keyOf(key))}, s3.WithPresignExpires(valid))
	if err != nil {
		return "", s.failed("presign", key, err)
	}
	return signed.URL, nil
}

// escape writes a key into the path of a URL.
func escape(key string) string {
	segments := strings.Split(key, "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	return strings.Join(segments, "/")
}

// Open implements blob.Store.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, blob.Info, error) {
	if err := check(key); err != nil {
		return nil, blob.Info{}, err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String(keyOf(key))})
	if err != nil {
		return nil, blob.Info{}, s.failed("read", key, err)
	}
	return out.Body, describe(out.ContentType, out.ContentEncoding, out.ContentDisposition, out.ETag, out.ContentLength), nil
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := check(key); err != nil {
		return blob.Info{}, err
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: aws.String(keyOf(key))})
	if err != nil {
		return blob.Info{}, s.failed("look at", key, err)
	}
	return describe(out.ContentType, out.ContentEncoding, out.ContentDisposition, out.ETag, out.ContentLength), nil
}

func describe(contentType, encoding, disposition, etag *string, size *int64) blob.Info {
	info := blob.Info{
		ContentType: aws.ToString(contentType), ContentEncoding: aws.ToString(encoding), ContentDisposition: aws.ToString(disposition),
		Size: aws.ToInt64(size), ETag: strings.Trim(aws.ToString(etag), `"`),
	}
	if info.ContentEncoding == "identity" {
		info.ContentEncoding = ""
	}
	return info
}

// Delete implements blob.Store, a thousand keys at a time.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	var errs []error
	for len(keys) > 0 {
		n := min(len(keys), maxDelete)
		errs = append(errs, s.delete(ctx, keys[:n]))
		keys = keys[n:]
	}
	return errors.Join(errs...)
}

func (s *Store) delete(ctx context.Context, keys []string) error {
	var objects []types.ObjectIdentifier
	for _, key := range keys {
		if check(key) == nil { // what cannot exist need not be deleted
			objects = append(objects, types.ObjectIdentifier{Key: aws.String(keyOf(key))})
		}
	}
	if len(objects) == 0 {
		return nil
	}
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)}})
	if err != nil {
		return s.failed("delete", keys[0], err)
	}
	var errs []error
	for _, e := range out.Errors {
		if code := aws.ToString(e.Code); code != "NoSuchKey" {
			errs = append(errs, fmt.Errorf("blob/s3: cannot delete %q in %s: %s: %s", aws.ToString(e.Key), s.where, code, aws.ToString(e.Message)))
		}
	}
	return errors.Join(errs...)
}

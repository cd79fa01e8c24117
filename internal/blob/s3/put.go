package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"taskcluster/internal/blob"
)

// Put implements blob.Store. What fits into one part is sent at once, more than
// that in parts; it takes the memory of one part.
func (s *Store) Put(ctx context.Context, key string, meta blob.Info, body io.Reader) (blob.Info, error) {
	if err := errors.Join(check(key), meta.CheckHeaders()); err != nil {
		return blob.Info{}, err
	}
	part := parts.Get().(*bytes.Buffer)
	defer parts.Put(part)
	last, err := fill(part, body, s.partSize)
	if err != nil {
		return blob.Info{}, err
	}
	info := blob.Info{ContentType: meta.ContentType, ContentEncoding: meta.ContentEncoding, ContentDisposition: meta.ContentDisposition}
	if !last {
		return s.putParts(ctx, key, info, part, body)
	}
	info.Size = int64(part.Len())
	in := &s3.PutObjectInput{
		Bucket: &s.bucket, Key: aws.String(keyOf(key)), Body: bytes.NewReader(part.Bytes()), ContentLength: &info.Size,
		ContentType: &info.ContentType, ContentEncoding: header(info.ContentEncoding), ContentDisposition: header(info.ContentDisposition),
	}
	out, err := s.client.PutObject(ctx, in)
	if err != nil {
		return blob.Info{}, s.failed("write", key, err)
	}
	info.ETag = describe(nil, nil, nil, out.ETag, nil).ETag
	return info, nil
}

// header leaves out what is empty.
func header(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}

// parts are buffers to be used again. They grow to what was needed.
var parts = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// fill reads the next part; last says that nothing follows it.
func fill(part *bytes.Buffer, body io.Reader, size int64) (last bool, err error) {
	part.Reset()
	n, err := io.CopyN(part, body, size)
	if err == io.EOF {
		return true, nil
	}
	return n < size, err
}

// putParts sends what does not fit into one part, of which the first is read
// already.
func (s *Store) putParts(ctx context.Context, key string, info blob.Info, part *bytes.Buffer, body io.Reader) (_ blob.Info, err error) {
	at := aws.String(keyOf(key))
	begun, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: at,
		ContentType: &info.ContentType, ContentEncoding: header(info.ContentEncoding), ContentDisposition: header(info.ContentDisposition),
	})
	if err != nil {
		return blob.Info{}, s.failed("begin to write", key, err)
	}
	defer func() {
		if err != nil {
			s.abort(key, begun.UploadId)
		}
	}()
	var done []types.CompletedPart
	for last := false; ; {
		number := int32(len(done) + 1)
		out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &s.bucket, Key: at, UploadId: begun.UploadId, PartNumber: &number,
			Body: bytes.NewReader(part.Bytes()), ContentLength: aws.Int64(int64(part.Len())),
		})
		if err != nil {
			return blob.Info{}, s.failed("write a part of", key, err)
		}
		done = append(done, types.CompletedPart{ETag: out.ETag, PartNumber: &number})
		info.Size += int64(part.Len())
		if last {
			break
		}
		if last, err = fill(part, body, s.sizeOfPart(len(done))); err != nil {
			return blob.Info{}, err
		}
		if part.Len() == 0 {
			break
		}
		if len(done) == maxParts {
			return blob.Info{}, fmt.Errorf("%w: it does not fit into the %d parts that S3 takes", blob.ErrTooLarge, maxParts)
		}
	}
	out, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.bucket, Key: at, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	})
	if err != nil {
		return blob.Info{}, s.failed("finish to write", key, err)
	}
	info.ETag = describe(nil, nil, nil, out.ETag, nil).ETag
	return info, nil
}

// sizeOfPart grows with the number of parts before, because S3 takes only so
// many of them.
func (s *Store) sizeOfPart(before int) int64 {
	return min(s.partSize*int64(1+before/1000), MaxPut)
}

// abort removes the parts of an upload that failed, whatever became of its
// context. A service that is away at the moment has some time to come back; and
// a part that was on its way may arrive after the abort, so it is looked for.
func (s *Store) abort(key string, uploadID *string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	at := aws.String(keyOf(key))
	patient := func(o *s3.Options) { o.Retryer = retry.AddWithMaxAttempts(o.Retryer, 0) }
	for {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: at, UploadId: uploadID}, patient)
		if err == nil || gone(err) {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			_, err = s.client.ListParts(ctx, &s3.ListPartsInput{Bucket: &s.bucket, Key: at, UploadId: uploadID}, patient)
			if gone(err) {
				return
			}
		}
		if err != nil {
			s.log.Warn("the parts of an upload that failed may be left in the bucket", "error", s.failed("abort", key, err).Error())
			return
		}
	}
}

// gone tells whether there is no such upload any more.
func gone(err error) bool {
	refusal, ok := errors.AsType[smithy.APIError](err)
	return ok && refusal.ErrorCode() == "NoSuchUpload"
}

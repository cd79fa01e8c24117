package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"taskcluster/internal/blob"
)

// failed says what could not be done, where, and why; what callers tell apart
// is one of the errors of package blob. Nothing of it is secret.
func (s *Store) failed(what, key string, err error) error {
	if key != "" {
		what += fmt.Sprintf(" %q", key)
	}
	prefix := "blob/s3: cannot " + what + " in " + s.where
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", prefix, err)
	}
	status := 0
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = response.HTTPStatusCode()
	}
	code, message := "", ""
	if refusal, ok := errors.AsType[smithy.APIError](err); ok {
		code, message = refusal.ErrorCode(), refusal.ErrorMessage()
	}
	switch {
	case code == "NoSuchBucket":
		return fmt.Errorf("%s: the bucket does not exist", prefix)
	case code == "NoSuchKey" || code == "NotFound" && status == http.StatusNotFound:
		return fmt.Errorf("%s: %w", prefix, blob.ErrNotFound)
	case code == "InvalidAccessKeyId" || code == "XAdminUserNotFound": // as some services call it
		return fmt.Errorf("%s: the service does not know the access key id", prefix)
	case code == "SignatureDoesNotMatch":
		return fmt.Errorf("%s: the secret access key is not that of the access key id", prefix)
	case status == http.StatusForbidden:
		return fmt.Errorf("%s: the credentials are wrong, or do not allow that (%s %s)", prefix, code, message)
	case status == http.StatusMovedPermanently || status == http.StatusBadRequest && code == "AuthorizationHeaderMalformed":
		return fmt.Errorf("%s: the bucket is in another region (%s %s)", prefix, code, message)
	case status == http.StatusInsufficientStorage || code == "QuotaExceeded" || code == "XMinioStorageFull":
		return fmt.Errorf("%s: %w (%s %s)", prefix, blob.ErrDiskFull, code, message)
	case code == "EntityTooLarge":
		return fmt.Errorf("%s: %w (%s)", prefix, blob.ErrTooLarge, message)
	}
	return fmt.Errorf("%s: %w", prefix, err)
}

// transport is how the service is reached: a transfer may take as long as it
// takes, but not stand still.
func transport(stall time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: min(10*time.Second, stall), KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &conn{c, stall}, nil
		},
		TLSHandshakeTimeout:   min(10*time.Second, stall),
		ResponseHeaderTimeout: stall,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   64,
		DisableCompression:    true, // what is stored is read as it is stored
		ForceAttemptHTTP2:     false,
	}
}

// conn is a connection that breaks when it stands still.
type conn struct {
	net.Conn
	stall time.Duration
}

func (c *conn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write extends the time of a Read that waits, too: what it waits for begins
// only now.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

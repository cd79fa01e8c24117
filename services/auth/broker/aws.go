package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/tcerr"
)

// AWS gives credentials for parts of S3 buckets. It has them from AWS's
// Security Token Service, where an IAM user of the deployment hands on a part
// of what he may do himself.
type AWS struct {
	buckets map[string]*awsUser
}

// awsUser is one element of the setting: an IAM user and the buckets of which
// he may hand on access.
type awsUser struct {
	AccessKeyID     string      `json:"accessKeyId"`
	SecretAccessKey secret.Text `json:"secretAccessKey"`
	Buckets         []string    `json:"buckets"`
	Region          string      `json:"region"`   // us-east-1 when empty
	Endpoint        string      `json:"endpoint"` // of the token service; AWS's own when empty

	tokens *sts.Client
}

// S3Credentials are temporary credentials as the AWS libraries take them.
type S3Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string

	Expires clock.Time
}

// federatedName is what AWS's own logs call those who use the credentials.
const federatedName = "TemporaryS3ReadWriteCredentials"

func newAWS(text string, web *http.Client) (*AWS, error) {
	a := &AWS{buckets: map[string]*awsUser{}}
	if text == "" {
		return a, nil
	}
	var users []*awsUser
	if err := parse(AWSSetting, text, &users); err != nil {
		return nil, err
	}
	for i, u := range users {
		if u == nil || u.AccessKeyID == "" || u.SecretAccessKey == "" || len(u.Buckets) == 0 {
			return nil, fmt.Errorf("setting %s: element %d needs accessKeyId, secretAccessKey and buckets", AWSSetting, i)
		}
		base, err := endpoint(AWSSetting, "endpoint", u.Endpoint, "")
		if err != nil {
			return nil, err
		}
		if u.Region == "" {
			u.Region = "us-east-1"
		}
		options := sts.Options{
			Region:     u.Region,
			HTTPClient: web,
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: u.AccessKeyID, SecretAccessKey: string(u.SecretAccessKey)}, nil
			}),
			RetryMaxAttempts: 2,
		}
		if base != "" {
			options.BaseEndpoint = aws.String(base)
		}
		u.tokens = sts.New(options)
		for _, bucket := range u.Buckets {
			if a.buckets[bucket] != nil {
				return nil, fmt.Errorf("setting %s: the bucket %q is named twice", AWSSetting, bucket)
			}
			a.buckets[bucket] = u
		}
	}
	return a, nil
}

// Credentials are good for the objects of a bucket whose names begin with
// prefix: for reading and listing them, and with write for changing them.
func (a *AWS) Credentials(ctx context.Context, bucket, prefix string, write bool) (S3Credentials, error) {
	user := a.buckets[bucket]
	if user == nil {
		return S3Credentials{}, tcerr.New(tcerr.ResourceNotFound,
			"No credentials available for bucket %s. The setting %s names the buckets that this deployment gives access to.", bucket, AWSSetting)
	}
	if strings.HasPrefix(prefix, "/") {
		return S3Credentials{}, tcerr.New(tcerr.InvalidRequestArguments, "The prefix must not begin with a slash")
	}
	policy, err := json.Marshal(s3Policy(partition(user.Region), bucket, prefix, write))
	if err != nil {
		return S3Credentials{}, err
	}
	out, err := user.tokens.GetFederationToken(ctx, &sts.GetFederationTokenInput{
		Name:            aws.String(federatedName),
		Policy:          aws.String(string(policy)),
		DurationSeconds: aws.Int32(int32(credentialLifetime.Seconds())),
	})
	var refusal smithy.APIError
	switch {
	case errors.As(err, &refusal):
		switch refusal.ErrorCode() {
		case "PackedPolicyTooLarge", "MalformedPolicyDocument", "ValidationError":
			return S3Credentials{}, tcerr.Wrap(tcerr.InputError, err, "AWS takes no such prefix; it may be too long, or have characters that policies cannot hold")
		}
		return S3Credentials{}, fmt.Errorf("GetFederationToken for bucket %s: %s", bucket, refusal.ErrorCode())
	case err != nil:
		return S3Credentials{}, fmt.Errorf("GetFederationToken for bucket %s: %w", bucket, err)
	case out.Credentials == nil || out.Credentials.Expiration == nil:
		return S3Credentials{}, fmt.Errorf("GetFederationToken for bucket %s: the answer has no credentials", bucket)
	}
	return S3Credentials{
		AccessKeyID:     aws.ToString(out.Credentials.AccessKeyId),
		SecretAccessKey: aws.ToString(out.Credentials.SecretAccessKey),
		SessionToken:    aws.ToString(out.Credentials.SessionToken),
		Expires:         clock.Of(*out.Credentials.Expiration),
	}, nil
}

// policy is a session policy: the credentials are good for what both it and
// the user's own policies allow.
type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid, Effect string
	Action      []string
	Resource    []string
	Condition   map[string]map[string][]string `json:",omitempty"`
}

func s3Policy(partition, bucket, prefix string, write bool) policy {
	arn := "arn:" + partition + ":s3:::" + bucket
	below := literal(prefix) + "*"
	actions := []string{"s3:GetObject"}
	if write {
		actions = append(actions, "s3:PutObject", "s3:PutObjectAcl", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
	}
	list := statement{Sid: "ListBelowPrefix", Effect: "Allow", Action: []string{"s3:ListBucket"}, Resource: []string{arn}}
	if prefix != "" { // else it may be listed without a prefix too
		list.Condition = map[string]map[string][]string{"StringLike": {"s3:prefix": {below}}}
	}
	return policy{Version: "2012-10-17", Statement: []statement{
		{Sid: "ObjectsBelowPrefix", Effect: "Allow", Action: actions, Resource: []string{arn + "/" + below}},
		list,
		{Sid: "FindBucket", Effect: "Allow", Action: []string{"s3:GetBucketLocation"}, Resource: []string{arn}},
	}}
}

// literal has the characters that mean something in a policy stand for
// themselves: what the caller may ask for was compared as plain text.
func literal(s string) string {
	return strings.NewReplacer("*", "${*}", "?", "${?}", "$", "${$}").Replace(s)
}

// partition is the part of AWS that a region belongs to.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

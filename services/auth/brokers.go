package auth

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
)

// containerPattern has a form that Go's regular expressions do not;
// validContainer is the same.
const containerPattern = `^(?!.*[-]{2})[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`

var containerCharacters = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)

func validContainer(name string) bool {
	return containerCharacters.MatchString(name) && !strings.Contains(name, "--")
}

// roleCompatible is the answer of EC2's metadata service to whoever asks for
// the credentials of the machine's role.
type roleCompatible struct {
	Code            string
	Type            string
	LastUpdated     clock.Time
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      clock.Time
}

func (s *Service) awsS3Credentials(c *api.Call) (any, error) {
	bucket, prefix, write := c.Param("bucket"), c.Param("prefix"), c.Param("level") == "read-write"
	if err := c.Authorize(map[string]any{"levelIsReadOnly": !write, "bucket": bucket, "prefix": prefix}); err != nil {
		return nil, err
	}
	got, err := s.brokers.AWS.Credentials(c.Context, bucket, prefix, write)
	if err != nil {
		return nil, err
	}
	if _, compatible := c.Query("format"); compatible {
		return roleCompatible{
			Code: "Success", Type: "AWS-HMAC", LastUpdated: c.Now(),
			AccessKeyID: got.AccessKeyID, SecretAccessKey: got.SecretAccessKey, Token: got.SessionToken, Expiration: got.Expires,
		}, nil
	}
	return AWSS3CredentialsResponse{
		Credentials: AWSS3CredentialsResponseCredentials{
			AccessKeyID: got.AccessKeyID, SecretAccessKey: got.SecretAccessKey, SessionToken: got.SessionToken,
		},
		Expires: got.Expires,
	}, nil
}

func (s *Service) azureAccounts(*api.Call) (any, error) {
	return AzureAccountListResponse{Accounts: s.brokers.Azure.Accounts()}, nil
}

func (s *Service) azureTables(c *api.Call) (any, error) {
	from, _ := c.Query("continuationToken")
	names, next, err := s.brokers.Azure.Tables(c.Context, c.Param("account"), from)
	if err != nil {
		return nil, err
	}
	return AzureTableListResponse{Tables: nonNil(names), ContinuationToken: next}, nil
}

func (s *Service) azureTableSAS(c *api.Call) (any, error) {
	account, table, write := c.Param("account"), c.Param("table"), c.Param("level") == "read-write"
	if err := c.Authorize(map[string]any{"levelIsReadOnly": !write, "account": account, "table": table}); err != nil {
		return nil, err
	}
	sas, err := s.brokers.Azure.TableSAS(c.Context, account, table, write)
	if err != nil {
		return nil, err
	}
	return AzureTableAccessResponse{SAS: sas.Query, Expiry: sas.Expiry}, nil
}

func (s *Service) azureContainers(c *api.Call) (any, error) {
	from, _ := c.Query("continuationToken")
	names, next, err := s.brokers.Azure.Containers(c.Context, c.Param("account"), from)
	if err != nil {
		return nil, err
	}
	return AzureContainerListResponse{Containers: nonNil(names), ContinuationToken: next}, nil
}

func (s *Service) azureContainerSAS(c *api.Call) (any, error) {
	account, container, write := c.Param("account"), c.Param("container"), c.Param("level") == "read-write"
	if err := c.Authorize(map[string]any{"levelIsReadOnly": !write, "account": account, "container": container}); err != nil {
		return nil, err
	}
	sas, err := s.brokers.Azure.ContainerSAS(c.Context, account, container, write)
	if err != nil {
		return nil, err
	}
	return AzureContainerResponse{SAS: sas.Query, Expiry: sas.Expiry}, nil
}

func (s *Service) sentryDSN(c *api.Call) (any, error) {
	project := c.Param("project")
	got, err := s.brokers.Sentry.DSN(c.Context, project)
	if err != nil {
		return nil, err
	}
	return SentryDSNResponse{Project: project, DSN: SentryDSNResponseDSN{Secret: got.Secret, Public: got.Public}, Expires: got.Expires}, nil
}

func (s *Service) gcpCredentials(c *api.Call) (any, error) {
	got, err := s.brokers.GCP.Token(c.Context, c.Param("projectId"), c.Param("serviceAccount"))
	if err != nil {
		return nil, err
	}
	return GCPCredentialsResponse{AccessToken: got.Token, ExpireTime: got.Expires}, nil
}

// githubRepoToken takes names in any case, as GitHub does; in scopes they are
// in lower case.
func (s *Service) githubRepoToken(c *api.Call) (any, error) {
	// The names of permissions are the schema's, so a map does for them.
	var in struct {
		Permissions  map[string]string
		Repositories []string
	}
	if err := json.Unmarshal(c.Body(), &in); err != nil {
		return nil, err
	}
	appName, owner := c.Param("appName"), strings.ToLower(c.Param("owner"))
	for i, name := range in.Repositories {
		in.Repositories[i] = strings.ToLower(name)
	}
	slices.Sort(in.Repositories)
	repositories := slices.Compact(in.Repositories)
	var needed []string
	for _, repository := range repositories {
		for _, permission := range slices.Sorted(maps.Keys(in.Permissions)) {
			needed = append(needed, repository+":"+permission+":"+in.Permissions[permission])
		}
	}
	if err := c.Authorize(map[string]any{"appName": appName, "owner": owner, "repoPerms": needed}); err != nil {
		return nil, err
	}
	got, err := s.brokers.GitHub.RepoToken(c.Context, appName, owner, repositories, in.Permissions)
	if err != nil {
		return nil, err
	}
	return GithubTokenResponse{Token: got.Token, Expires: got.Expires}, nil
}

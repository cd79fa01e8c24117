package auth

import (
	"net/http"

	"taskcluster/internal/api"
)

// accessLevel is what may be done with a bucket, table or container.
const accessLevel = `^(read-only|read-write)$`

// levelled is the scope expression of methods whose level is one of
// accessLevel. kind and name are what comes before and after the level.
func levelled(kind, name string) string {
	readOnly, readWrite := `"auth:`+kind+`:read-only:`+name+`"`, `"auth:`+kind+`:read-write:`+name+`"`
	return `{"if": "levelIsReadOnly", "then": {"AnyOf": [` + readOnly + `, ` + readWrite + `]}, "else": ` + readWrite + `}`
}

// brokerMethods hand out credentials of other systems. A deployment has all of
// them; those of systems that it has no access to answer with an error.
func (s *Service) brokerMethods() []api.Method {
	var all []api.Method
	all = append(all, api.Method{
		Name: "awsS3Credentials", Method: http.MethodGet, Route: "/aws/s3/:level/:bucket/{*prefix}",
		Category: "AWS Credentials", Stability: api.Stable,
		Title: "Get Temporary Read/Write Credentials S3",
		Description: "Answers with AWS credentials that last an hour and are good for the objects of a bucket whose names begin with `prefix`: " +
			"for getting and listing them and, if `level` is `read-write`, for putting and deleting them. The prefix must not begin with a slash. " +
			"It is compared with names as it is; if it is to stand for a directory, end it with a slash.\n\n" +
			"With `format=iam-role-compat` the answer has the form that the metadata service of EC2 gives to the AWS libraries.",
		Params: map[string]*api.Pattern{"level": api.Regexp(accessLevel), "bucket": api.Regexp(`^[a-z0-9][a-z0-9-]{1,62}[a-z0-9]$`)},
		Query:  []api.QueryParam{{Name: "format", Pattern: api.Regexp(`iam-role-compat`)}},
		Output: "v1/aws-s3-credentials-response.json#", Scopes: require(levelled("aws-s3", "<bucket>/<prefix>")),
		Handle: s.awsS3Credentials,
	})
	all = append(all, s.azureMethods()...)
	all = append(all, api.Method{
		Name: "sentryDSN", Method: http.MethodGet, Route: "/sentry/:project/dsn", Category: "Sentry Credentials", Stability: api.Stable,
		Title: "Get DSN for Sentry Project",
		Description: "Answers with the addresses by which errors of a project are reported to Sentry. They work for a day and more; ask again " +
			"before they expire.",
		Params: map[string]*api.Pattern{"project": api.Regexp(`^[a-zA-Z0-9_-]{1,64}$`)},
		Output: "v1/sentry-dsn-response.json#", Scopes: require(`"auth:sentry:<project>"`),
		Handle: s.sentryDSN,
	})
	all = append(all, s.tunnelMethod())
	all = append(all, api.Method{
		Name: "gcpCredentials", Method: http.MethodGet, Route: "/gcp/credentials/:projectId/:serviceAccount",
		Category: "GCP Credentials", Stability: api.Stable,
		Title: "Get Temporary GCP Credentials",
		Description: "Answers with an access token of a Google service account, named by its mail address, that lasts an hour. " +
			"The deployment decides for which accounts of which project there are tokens.",
		Output: "v1/gcp-credentials-response.json#", Scopes: require(`"auth:gcp:access-token:<projectId>/<serviceAccount>"`),
		Handle: s.gcpCredentials,
	})
	return append(all, api.Method{
		Name: "githubRepoToken", Method: http.MethodPost, Route: "/github/:appName/:owner/repo-token",
		Category: "Github Credentials", Stability: api.Experimental,
		Title: "Get Temporary GitHub Credentials",
		Description: "Answers with a token of a GitHub app that is good for the given repositories of an owner and has the given permissions, " +
			"no more of either. The app must be installed there.\n\n" +
			"The caller needs a scope for each permission on each repository, with the very level that is asked for: `write` does not include `read`. " +
			"In scopes, owner and repositories are in lower case.",
		Params: map[string]*api.Pattern{"appName": api.Regexp(`^[a-zA-Z0-9_-]+$`), "owner": api.Regexp(`^[A-Za-z0-9._-]+$`)},
		Input:  "v1/github-repo-token-request.json#", Output: "v1/github-token-response.json#",
		Scopes: require(`{"AllOf": [{"for": "repoPerm", "in": "repoPerms", "each": "auth:github-repo-token:<appName>/<owner>/<repoPerm>"}]}`),
		Handle: s.githubRepoToken,
	})
}

func (s *Service) azureMethods() []api.Method {
	const category = "Azure Credentials"
	account := api.Regexp(`^[a-z0-9]{3,24}$`)
	pages := api.Paging()[:1] // continuationToken, without limit
	return []api.Method{
		{
			Name: "azureAccounts", Method: http.MethodGet, Route: "/azure/accounts", Category: category, Stability: api.Deprecated,
			Title:       "List Accounts Managed by Auth",
			Description: "Lists the Azure storage accounts that this deployment gives access to.",
			Output:      "v1/azure-account-list-response.json#", Scopes: require(`"auth:azure-table:list-accounts"`),
			Handle: s.azureAccounts,
		},
		{
			Name: "azureTables", Method: http.MethodGet, Route: "/azure/:account/tables", Category: category, Stability: api.Deprecated,
			Title:       "List Tables in an Account Managed by Auth",
			Description: "Lists the tables of an Azure storage account, in pages as Azure gives them.",
			Params:      map[string]*api.Pattern{"account": account},
			Query:       pages,
			Output:      "v1/azure-table-list-response.json#", Scopes: require(`"auth:azure-table:list-tables:<account>"`),
			Handle: s.azureTables,
		},
		{
			Name: "azureTableSAS", Method: http.MethodGet, Route: "/azure/:account/table/:table/:level", Category: category, Stability: api.Deprecated,
			Title: "Get Shared-Access-Signature for Azure Table",
			Description: "Answers with a signature that, as the query of URLs, lets its holder read a table for 25 minutes and, " +
				"if `level` is `read-write`, change its rows. Then the table is made if it is missing.",
			Params: map[string]*api.Pattern{"account": account, "table": api.Regexp(`^[A-Za-z][A-Za-z0-9]{2,62}$`), "level": api.Regexp(accessLevel)},
			Output: "v1/azure-table-access-response.json#", Scopes: require(levelled("azure-table", "<account>/<table>")),
			Handle: s.azureTableSAS,
		},
		{
			Name: "azureContainers", Method: http.MethodGet, Route: "/azure/:account/containers", Category: category, Stability: api.Deprecated,
			Title:       "List containers in an Account Managed by Auth",
			Description: "Lists the containers of an Azure storage account, in pages as Azure gives them.",
			Params:      map[string]*api.Pattern{"account": account},
			Query:       pages,
			Output:      "v1/azure-container-list-response.json#", Scopes: require(`"auth:azure-container:list-containers:<account>"`),
			Handle: s.azureContainers,
		},
		{
			Name: "azureContainerSAS", Method: http.MethodGet, Route: "/azure/:account/containers/:container/:level", Category: category, Stability: api.Deprecated,
			Title: "Get Shared-Access-Signature for Azure Container",
			Description: "Answers with a signature that, as the query of URLs, lets its holder read and list the blobs of a container for 25 minutes and, " +
				"if `level` is `read-write`, change them. Then the container is made if it is missing.",
			Params: map[string]*api.Pattern{"account": account, "container": api.PatternFunc(containerPattern, validContainer), "level": api.Regexp(accessLevel)},
			Output: "v1/azure-container-response.json#", Scopes: require(levelled("azure-container", "<account>/<container>")),
			Handle: s.azureContainerSAS,
		},
	}
}

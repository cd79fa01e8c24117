package auth

import (
	"net/http"

	"taskcluster/internal/api"
	"taskcluster/internal/scopes"
	"taskcluster/internal/secret"
	"taskcluster/internal/store"
	"taskcluster/services/auth/schemas"
)

// API is the service as data.
func (s *Service) API() api.Service {
	return api.Service{
		Name:    "auth",
		Version: "v1",
		Title:   "Auth Service",
		Description: "Knows clients, their access tokens and the roles that give them scopes; checks the signatures of requests " +
			"on behalf of the other services; and keeps the history of what was changed by whom.",
		Methods:   s.methods(),
		Exchanges: exchanges(),
		Schemas:   schemas.Source(),
	}
}

// The categories of methods.
const (
	categoryClients = "Clients"
	categoryAudit   = "Audit"
	categoryRoles   = "Roles"
	categoryScopes  = "Scopes and Auth"
)

const (
	getClientResponse  = "v1/get-client-response.json#"
	getRoleResponse    = "v1/get-role-response.json#"
	getHistoryResponse = "v1/get-entity-history-response.json#"
	scopesetSchema     = "v1/scopeset.json#"
)

// expandedNote goes with the methods that answer with expandedScopes.
const expandedNote = "\n\nWhere roles would make too many scopes of these, `expandedScopes` has only what was given: " +
	"requests of their holders are refused until roles are changed."

// require is a method's scope expression, as JSON.
func require(template string) scopes.Template { return scopes.MustParseTemplate(template) }

// methods are the service's methods, in the order of the published reference.
func (s *Service) methods() []api.Method {
	var all []api.Method
	all = append(all, s.clientMethods()...)
	all = append(all, s.roleMethods()...)
	all = append(all, s.expansionMethods()...)
	all = append(all, s.brokerMethods()...)
	all = append(all, s.signatureMethods()...)
	return append(all, api.HeartbeatMethod(s.heartbeat), s.explainMethod())
}

func (s *Service) clientMethods() []api.Method {
	clientID := map[string]*api.Pattern{"clientId": api.PatternFunc(clientIDPattern, validClientID)}
	return []api.Method{
		{
			Name: "listClients", Method: http.MethodGet, Route: "/clients/", Category: categoryClients, Stability: api.Stable,
			Title: "List Clients",
			Description: "Lists clients in the order of their ids, without access tokens. `prefix` limits the list to ids that begin with it.\n\n" +
				"A page may be shorter than `limit`; there are more as long as there is a `continuationToken`." + expandedNote,
			Query: append([]api.QueryParam{
				{Name: "prefix", Pattern: api.PatternFunc(clientIDPattern, validClientID)},
			}, api.Paging()...),
			Output: "v1/list-clients-response.json#", Scopes: require(`"auth:list-clients"`),
			Handle: s.listClients,
		},
		{
			Name: "client", Method: http.MethodGet, Route: "/clients/:clientId", Category: categoryClients, Stability: api.Stable,
			Title:       "Get Client",
			Description: "Answers with one client, without its access token." + expandedNote,
			Params:      clientID,
			Output:      getClientResponse, Scopes: require(`"auth:get-client:<clientId>"`),
			Handle: s.getClient,
		},
		{
			Name: "createClient", Method: http.MethodPut, Route: "/clients/:clientId", Category: categoryClients, Stability: api.Stable,
			Title: "Create Client",
			Description: "Makes a client and answers with its access token, which can't be had again: `resetAccessToken` makes another.\n\n" +
				"The caller must hold every scope that the client gets. Repeating the call within 15 minutes gives the same answer.",
			Params: clientID,
			Input:  "v1/create-client-request.json#", Output: "v1/create-client-response.json#",
			Scopes: require(`{"AllOf": ["auth:create-client:<clientId>", {"for": "scope", "in": "scopes", "each": "<scope>"}]}`),
			Handle: api.Handle(s.createClient),
		},
		{
			Name: "getEntityHistory", Method: http.MethodGet, Route: "/audit/:entityType/:entityId", Category: categoryAudit, Stability: api.Stable,
			Title:       "Get Entity History",
			Description: "Lists what was done to a client, role, secret, hook or worker pool, by whom and when, the oldest first.",
			Params:      map[string]*api.Pattern{"entityType": api.Regexp(`^(client|role|secret|hook|worker-pool)$`)},
			Query:       api.Paging(),
			Output:      getHistoryResponse, Scopes: require(`"auth:audit-history:<entityType>"`),
			Handle: s.getEntityHistory,
		},
		{
			Name: "listAuditHistory", Method: http.MethodGet, Route: "/clients/:clientId/audit", Category: categoryAudit, Stability: api.Stable,
			Title:       "List Audit History",
			Description: "Lists what a client did to clients, roles, secrets, hooks and worker pools, the oldest first.",
			Params:      clientID,
			Query:       api.Paging(),
			Output:      getHistoryResponse, Scopes: require(`"auth:client-audit-history:<clientId>"`),
			Handle: s.listAuditHistory,
		},
		{
			Name: "resetAccessToken", Method: http.MethodPost, Route: "/clients/:clientId/reset", Category: categoryClients, Stability: api.Stable,
			Title: "Reset `accessToken`",
			Description: "Gives a client another access token and answers with it. The old one is void at once, " +
				"and with it all temporary credentials that were signed with it.",
			Params: clientID,
			Output: "v1/create-client-response.json#", Scopes: require(`"auth:reset-access-token:<clientId>"`),
			Handle: s.resetAccessToken,
		},
		{
			Name: "updateClient", Method: http.MethodPost, Route: "/clients/:clientId", Category: categoryClients, Stability: api.Stable,
			Title: "Update Client",
			Description: "Changes description, expiry and scopes of a client; scopes that are not given stay as they are.\n\n" +
				"The caller must hold the scopes that the client did not have before.",
			Params: clientID,
			Input:  "v1/create-client-request.json#", Output: getClientResponse,
			Scopes: require(`{"AllOf": ["auth:update-client:<clientId>", {"for": "scope", "in": "scopesAdded", "each": "<scope>"}]}`),
			Handle: api.Handle(s.updateClient),
		},
		{
			Name: "enableClient", Method: http.MethodPost, Route: "/clients/:clientId/enable", Category: categoryClients, Stability: api.Stable,
			Title:       "Enable Client",
			Description: "Lets a client that was disabled act again.",
			Params:      clientID,
			Output:      getClientResponse, Scopes: require(`"auth:enable-client:<clientId>"`),
			Handle: s.enableClient,
		},
		{
			Name: "disableClient", Method: http.MethodPost, Route: "/clients/:clientId/disable", Category: categoryClients, Stability: api.Stable,
			Title:       "Disable Client",
			Description: "Refuses all requests of a client, and of temporary credentials that it signed, until it is enabled again.",
			Params:      clientID,
			Output:      getClientResponse, Scopes: require(`"auth:disable-client:<clientId>"`),
			Handle: s.disableClient,
		},
		{
			Name: "deleteClient", Method: http.MethodDelete, Route: "/clients/:clientId", Category: categoryClients, Stability: api.Stable,
			Title:       "Delete Client",
			Description: "Deletes a client. It is no error if there is none.",
			Params:      clientID,
			Scopes:      require(`"auth:delete-client:<clientId>"`),
			Handle:      s.deleteClient,
		},
	}
}

func (s *Service) roleMethods() []api.Method {
	roleID := map[string]*api.Pattern{"roleId": api.PatternFunc(roleIDPattern, validRoleID)}
	return []api.Method{
		{
			Name: "listRoles", Method: http.MethodGet, Route: "/roles/", Category: categoryRoles, Stability: api.Stable,
			Title: "List Roles",
			Description: "Answers with all roles in one list, in the order of their ids. `listRoles2` answers in pages, and has to be asked " +
				"if all roles with their expanded scopes are more than one answer holds." + expandedNote,
			Output: "v1/list-roles-response.json#", Scopes: require(`"auth:list-roles"`),
			Handle: s.listRoles,
		},
		{
			Name: "listRoles2", Method: http.MethodGet, Route: "/roles2/", Category: categoryRoles, Stability: api.Stable,
			Title: "List Roles",
			Description: "Lists roles in the order of their ids; all of them if there is no `limit`, which is an error if that is more than one answer holds. " +
				"A page may be shorter than `limit`." + expandedNote,
			Query:  api.Paging(),
			Output: "v1/list-roles2-response.json#", Scopes: require(`"auth:list-roles"`),
			Handle: s.listRoles2,
		},
		{
			Name: "listRoleIds", Method: http.MethodGet, Route: "/roleids/", Category: categoryRoles, Stability: api.Stable,
			Title:       "List Role IDs",
			Description: "Lists the ids of roles, in order; all of them if there is no `limit`.",
			Query:       api.Paging(),
			Output:      "v1/list-role-ids-response.json#", Scopes: require(`"auth:list-roles"`),
			Handle: s.listRoleIds,
		},
		{
			Name: "role", Method: http.MethodGet, Route: "/roles/:roleId", Category: categoryRoles, Stability: api.Stable,
			Title:       "Get Role",
			Description: "Answers with one role, and with all that it gives to its holder." + expandedNote,
			Params:      roleID,
			Output:      getRoleResponse, Scopes: require(`"auth:get-role:<roleId>"`),
			Handle: s.getRole,
		},
		{
			Name: "createRole", Method: http.MethodPut, Route: "/roles/:roleId", Category: categoryRoles, Stability: api.Stable,
			Title: "Create Role",
			Description: "Makes a role: whoever has the scope `assume:<roleId>` has the role's scopes as well. The caller must hold these scopes.\n\n" +
				"If the roleId ends in a star, the role is for everybody who assumes what begins like it, and `<..>` in a scope stands for the rest. " +
				"Roles must not form a circle, and the parameters of roles that lead to each other must not make more than 100,000 scopes.",
			Params: roleID,
			Input:  "v1/create-role-request.json#", Output: getRoleResponse,
			Scopes: require(`{"AllOf": ["auth:create-role:<roleId>", {"for": "scope", "in": "scopes", "each": "<scope>"}]}`),
			Handle: api.Handle(s.createRole),
		},
		{
			Name: "updateRole", Method: http.MethodPost, Route: "/roles/:roleId", Category: categoryRoles, Stability: api.Stable,
			Title: "Update Role",
			Description: "Changes description and scopes of a role. The caller must hold the scopes that the role's holders did not have before, " +
				"be it through other roles.",
			Params: roleID,
			Input:  "v1/create-role-request.json#", Output: getRoleResponse,
			Scopes: require(`{"AllOf": ["auth:update-role:<roleId>", {"for": "scope", "in": "scopesAdded", "each": "<scope>"}]}`),
			Handle: api.Handle(s.updateRole),
		},
		{
			Name: "deleteRole", Method: http.MethodDelete, Route: "/roles/:roleId", Category: categoryRoles, Stability: api.Stable,
			Title:       "Delete Role",
			Description: "Deletes a role. It is no error if there is none.",
			Params:      roleID,
			Scopes:      require(`"auth:delete-role:<roleId>"`),
			Handle:      s.deleteRole,
		},
	}
}

func (s *Service) expansionMethods() []api.Method {
	return []api.Method{
		{
			Name: "expandScopes", Method: http.MethodPost, Route: "/scopes/expand", Category: categoryScopes, Stability: api.Stable,
			Title:       "Expand Scopes",
			Description: "Answers with the given scopes and all that roles give to their holder, without what others cover. It is an error if that is too much.",
			Input:       scopesetSchema, Output: scopesetSchema, Scopes: require(`"auth:expand-scopes"`),
			Handle: api.Handle(s.expandScopes),
		},
		{
			Name: "currentScopes", Method: http.MethodGet, Route: "/scopes/current", Category: categoryScopes, Stability: api.Stable,
			Title:       "Get Current Scopes",
			Description: "Answers with all scopes that the caller has.",
			Output:      scopesetSchema, Scopes: require(`"auth:current-scopes"`),
			Handle: s.currentScopes,
		},
	}
}

func (s *Service) signatureMethods() []api.Method {
	return []api.Method{
		{
			Name: "authenticateHawk", Method: http.MethodPost, Route: "/authenticate-hawk", Category: categoryScopes, Stability: api.Stable,
			Title: "Authenticate Hawk Request",
			Description: "Tells a service who signed the request that it got, and what the sender may do. " +
				"A payload hash is handed back as it came, for the service to compare.",
			Input: "v1/authenticate-hawk-request.json#", Output: "v1/authenticate-hawk-response.json#",
			Clean:  cleanHawkRequest,
			Handle: api.Handle(s.authenticateHawk),
		},
		{
			Name: "testAuthenticate", Method: http.MethodPost, Route: "/test-authenticate", Category: categoryScopes, Stability: api.Stable,
			Title: "Test Authentication",
			Description: "For the tests of clients. The request must be signed by the client `tester`, whose access token is `no-secret` and " +
				"who has the scopes `clientScopes`; it succeeds if these satisfy `requiredScopes`.",
			Input: "v1/test-authenticate-request.json#", Output: "v1/test-authenticate-response.json#",
			Handle: api.Handle(s.testAuthenticate),
		},
		{
			Name: "testAuthenticateGet", Method: http.MethodGet, Route: "/test-authenticate-get/", Category: categoryScopes, Stability: api.Stable,
			Title: "Test Authentication (GET)",
			Description: "Like `testAuthenticate`, for signed URLs: `tester` has the scopes `test:*` and `auth:create-client:test:*`, " +
				"and needs `test:authenticate-get`.",
			Output: "v1/test-authenticate-response.json#",
			Handle: s.testAuthenticateGet,
		},
	}
}

// explainMethod is our own: no published reference has it.
func (s *Service) explainMethod() api.Method {
	return api.Method{
		Name: "explainScopes", Method: http.MethodPost, Route: "/scopes/explain", Category: categoryScopes, Stability: api.Experimental,
		Title: "Explain Scopes",
		Description: "Tells which scopes a call of some method of some service would take, whether the caller has them, which are missing, " +
			"and which roles grant these. Nothing is called, and nothing looked up: what the scopes are made of has to be given in `params`. " +
			"Roles are named to those who have `auth:list-roles`.",
		Input: "v1/explain-scopes-request.json#", Output: "v1/explain-scopes-response.json#", Scopes: require(`"auth:explain-scopes"`),
		Handle: api.Handle(s.explainScopes),
	}
}

// cleanHawkRequest hides what could be used to repeat a request: the header,
// and a bewit in the resource.
func cleanHawkRequest(payload any) any {
	m, ok := payload.(map[string]any)
	if !ok {
		return payload
	}
	for _, name := range []string{"authorization", "resource"} {
		if _, given := m[name]; given {
			m[name] = secret.Redacted
		}
	}
	return m
}

// heartbeat reports whether the database answers.
func (s *Service) heartbeat(c *api.Call) error {
	var version int64
	return s.store.Read(c.Context, func(tx *store.Tx) error {
		return tx.Row(stmt.roleSetVersion).Scan(&version)
	})
}

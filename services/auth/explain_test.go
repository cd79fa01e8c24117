package auth

import (
	"strings"
	"taskcluster/internal/hawk"
	"testing"
)

func TestExplainScopes(t *testing.T) {
	d := deploy(t)
	d.call(d.root(), "PUT", "/roles/lister", map[string]any{"description": "", "scopes": []string{"auth:list-*"}}).want(200)
	d.call(d.root(), "PUT", "/roles/maker:*", map[string]any{"description": "", "scopes": []string{"auth:create-client:project/*", "x"}}).want(200)
	explain := func(as hawk.Credentials, body string) answer { return d.call(as, "POST", "/scopes/explain", body) }

	as := d.client("reader", "auth:list-roles", "auth:explain-scopes")
	explain(as, `{"service":"auth","method":"listClients"}`).want(200,
		`"required":"auth:list-clients","satisfied":false,"satisfiedBy":[],"missing":[{"scopes":["auth:list-clients"],"roles":["lister"`)
	explain(as, `{"service":"auth","method":"createClient","params":{"clientId":"project/a","scopes":["x","auth:list-roles"]}}`).want(200,
		`"required":{"AllOf":["auth:create-client:project/a","x","auth:list-roles"]}`,
		`"missing":[{"scopes":["auth:create-client:project/a","x"],"roles":["maker:*"`)
	explain(as, `{"service":"auth","method":"listRoles"}`).want(200, `"satisfied":true,"satisfiedBy":["auth:list-roles"],"missing":[],"more":false`)
	explain(as, `{"service":"auth","method":"ping"}`).want(200, `{"satisfied":true,"satisfiedBy":[],"missing":[],"more":false}`)
	// Roles are told only to those who may list them.
	got := explain(d.client("stranger", "auth:explain-scopes"), `{"service":"auth","method":"listClients"}`).want(200, `"missing":[{"scopes":["auth:list-clients"]}]`)
	if strings.Contains(got.body, "lister") {
		t.Error(got.body)
	}
	for body, text := range map[string]string{
		`{"service":"nothing","method":"ping"}`:                                                   `There is no service "nothing" here; there are auth`,
		`{"service":"auth","method":"nothing"}`:                                                   `The service auth has no method "nothing"`,
		`{"service":"auth","method":"client"}`:                                                    "give it in `params`",
		`{"service":"auth","method":"client","params":{"clientId":1.5}}`:                          "1.5",
		`{"service":"auth","method":"client","params":{"clientId":["a"]}}`:                        "`params.clientId` must be a string",
		`{"service":"auth","method":"client","params":{"clientId":"a b"}}`:                        "must match regular expression",
		`{"service":"auth","method":"client","params":{"clientId":"a","x":1}}`:                    "`params.x` is not among the parameters",
		`{"service":"auth","method":"createClient","params":{"clientId":"a","scopes":[1]}}`:       "`params.scopes` must be a list of strings",
		`{"service":"auth","method":"createClient","params":{"clientId":"a","scopes":{"a":"b"}}}`: "`params.scopes` must be a list of strings",
	} {
		if strings.Contains(body, "1.5") { // a number is taken for its text
			explain(as, body).want(200, "auth:get-client:1.5")
			continue
		}
		explain(as, body).want(400, text)
	}
}

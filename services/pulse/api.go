package pulse

import (
	"net/http"

	"taskcluster/internal/api"
	"taskcluster/internal/scopes"
	"taskcluster/internal/store"
	"taskcluster/services/pulse/schemas"
)

// API is the service as data.
func (s *Service) API() api.Service {
	return api.Service{
		Name:    "pulse",
		Version: "v1",
		Title:   "Pulse Management Service",
		Description: "Lends users of a RabbitMQ broker. A user belongs to a namespace: with it one may declare, bind and write to the " +
			"queues `queue/<namespace>/…` and the exchanges `exchange/<namespace>/…`, read those queues, and bind them to every exchange.\n\n" +
			"Passwords change: claim the namespace again at `reclaimAt`, and connect anew with what the answer has.",
		Methods: s.methods(),
		Schemas: schemas.Source(),
	}
}

func (s *Service) methods() []api.Method {
	const category = "Pulse Service"
	return []api.Method{
		{
			Name: "listNamespaces", Method: http.MethodGet, Route: "/namespaces", Category: category, Stability: api.Stable,
			Title: "List Namespaces",
			Description: "Lists the namespaces that are claimed, in the order of their names.\n\n" +
				"A deployment without a broker refuses this and what follows with `NotConfigured`.",
			Query: api.Paging(), Output: "v1/list-namespaces-response.json#",
			Handle: s.listNamespaces,
		},
		{
			Name: "namespace", Method: http.MethodGet, Route: "/namespace/:namespace", Category: category, Stability: api.Stable,
			Title:       "Get a namespace",
			Description: "Tells since when a namespace has been claimed, and until when it is.",
			Output:      "v1/namespace-response.json#",
			Handle:      s.namespace,
		},
		{
			Name: "claimNamespace", Method: http.MethodPost, Route: "/namespace/:namespace", Category: category, Stability: api.Stable,
			Title: "Claim a namespace",
			Description: "Claims a namespace until `expires`, and answers with how to connect to RabbitMQ. Whoever has it already claims it " +
				"again by the same call, with another `expires` and `contact` if he likes, and does so at `reclaimAt` for the next password. " +
				"The one that he has works until half an hour later, and connections that are open stay open.\n\n" +
				"A name has at most 64 letters, digits, `-` and `_`, and begins with the prefix that the deployment has for namespaces; " +
				"others are refused with `InvalidNamespace`. An hour after it expired the namespace's users are removed, then its queues and exchanges.\n\n" +
				"A deployment has a limited number of namespaces, of which one client can claim only a part; a further one is refused " +
				"with `TooManyRequests` until some have expired. To claim again what is claimed is never refused for that.\n\n" +
				"While RabbitMQ cannot be reached the answer is `BrokerUnavailable`, with status 503: call again.",
			Input: "v1/claim-namespace-request.json#", Output: "v1/claim-namespace-response.json#",
			Scopes: scopes.MustParseTemplate(`"pulse:namespace:<namespace>"`),
			Handle: api.Handle(s.claimNamespace),
		},
		api.HeartbeatMethod(s.heartbeat),
	}
}

// heartbeat succeeds when the database answers. RabbitMQ is left out: without it
// the service is there, and says what is the matter.
func (s *Service) heartbeat(c *api.Call) error {
	return s.store.Read(c.Context, func(tx *store.Tx) error {
		_, err := s.find(tx, "")
		return err
	})
}

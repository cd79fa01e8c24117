package auth

import (
	"encoding/json"

	"taskcluster/internal/events"
	"taskcluster/internal/store"
)

// exchangePrefix begins the full names of the exchanges.
const exchangePrefix = "exchange/taskcluster-auth/v1/"

// The messages' routing key has one part, kept for later use, so the key is
// "_" always.
const routingKey = "_"

func exchange(name, method, title, description, schema string) events.Exchange {
	return events.Exchange{
		Name: name, Method: method, Title: title, Description: description, Schema: schema,
		Key: []events.KeyPart{{
			Name: "reserved", Summary: "Kept for later use; bind with `#`.", MultipleWords: true, MaxSize: 249,
		}},
	}
}

const (
	clientMessage = "v1/client-message.json#"
	roleMessage   = "v1/role-message.json#"
)

const (
	clientCreated = "client-created"
	clientUpdated = "client-updated"
	clientDeleted = "client-deleted"
	roleCreated   = "role-created"
	roleUpdated   = "role-updated"
	roleDeleted   = "role-deleted"
)

// exchanges are the messages that this service publishes, in the order of the
// published reference.
func exchanges() []events.Exchange {
	return []events.Exchange{
		exchange(clientCreated, "clientCreated", "Client Created",
			"A client was made.", clientMessage),
		exchange(clientUpdated, "clientUpdated", "Client Updated",
			"A client was changed: updated, enabled, disabled, or given another access token.", clientMessage),
		exchange(clientDeleted, "clientDeleted", "Client Deleted",
			"A client was deleted.", clientMessage),
		exchange(roleCreated, "roleCreated", "Role Created",
			"A role was made.", roleMessage),
		exchange(roleUpdated, "roleUpdated", "Role Updated",
			"A role was changed.", roleMessage),
		exchange(roleDeleted, "roleDeleted", "Role Deleted",
			"A role was deleted.", roleMessage),
	}
}

// publish announces a change in the transaction that makes it.
func (s *Service) publish(tx *store.Tx, exchange string, message any) error {
	payload, err := json.Marshal(message)
	if err != nil {
		return err
	}
	s.log.Publish(tx, events.Event{Exchange: exchangePrefix + exchange, Key: routingKey, Payload: payload})
	return nil
}

// clientChanged announces a change of a client, and has every process forget the
// client as it was once the change is durable.
func (s *Service) clientChanged(tx *store.Tx, exchange, id string) error {
	tx.Signal(clientTopic, id)
	return s.publish(tx, exchange, ClientMessage{Version: 1, ClientID: id})
}

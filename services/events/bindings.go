package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"taskcluster/internal/events"
)

// maxName is the greatest length of an exchange and of a pattern, as in AMQP.
const maxName = 255

// The published errors about the query parameter bindings.
var (
	errOneKey     = errors.New("The json query should have only one key i.e. `bindings`.")
	errNoArray    = errors.New("Bindings must be an array of {exchange, routingKeyPattern}")
	errIncomplete = errors.New("Binding must include `exchange` and `routingKeyPattern` fields")
)

// parseBindings reads the query parameter.
func parseBindings(text string) ([]events.Binding, error) {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil || len(object) != 1 || object["bindings"] == nil {
		return nil, errOneKey
	}
	var list []struct{ Exchange, RoutingKeyPattern *string }
	if err := json.Unmarshal(object["bindings"], &list); err != nil || list == nil {
		var raw []json.RawMessage
		if json.Unmarshal(object["bindings"], &raw) == nil && raw != nil {
			return nil, errIncomplete // an array, of something else
		}
		return nil, errNoArray
	}
	if len(list) > MaxBindings {
		return nil, tooMany()
	}
	bindings := make([]events.Binding, len(list))
	for i, b := range list {
		if b.Exchange == nil || b.RoutingKeyPattern == nil {
			return nil, errIncomplete
		}
		bindings[i] = events.Binding{Exchange: *b.Exchange, Pattern: *b.RoutingKeyPattern}
		if err := checkBinding(bindings[i]); err != nil {
			return nil, err
		}
	}
	return bindings, nil
}

func tooMany() error { return fmt.Errorf("There are more than %d bindings", MaxBindings) }

func checkBinding(b events.Binding) error {
	switch {
	case b.Exchange == "" || len(b.Exchange) > maxName || !utf8.ValidString(b.Exchange):
		return fmt.Errorf("exchange must have 1 to %d characters", maxName)
	case utf8.RuneCountInString(b.Pattern) > maxName:
		return fmt.Errorf("routingKeyPattern is limited to %d characters", maxName)
	}
	return nil
}

// exchanges are the parameters by which bindings are authorized.
func exchanges(bindings []events.Binding) map[string]any {
	list := make([]string, len(bindings))
	for i, b := range bindings {
		list[i] = b.Exchange
	}
	return map[string]any{"exchanges": list}
}

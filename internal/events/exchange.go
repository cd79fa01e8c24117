package events

import (
	"fmt"
	"strings"
)

// Exchange describes one kind of message, as the published reference does.
type Exchange struct {
	Name        string // "task-defined"
	Method      string // "taskDefined", the entry's name in the reference
	Title       string
	Description string
	Schema      string // "v1/task-defined-message.json#"
	Key         []KeyPart
}

// KeyPart is one entry of an exchange's routing key.
type KeyPart struct {
	Name          string // "taskId"
	Summary       string
	Constant      string // its fixed value; empty when it has none
	MultipleWords bool   // it may contain dots
	Required      bool   // it may not be missing
	MaxSize       int    // the greatest number of bytes of its value
}

// MaxKey is the greatest number of bytes of a routing key; AMQP sets it.
const MaxKey = 255

// Check tells whether the exchange's routing key is well formed: the greatest
// sizes of its parts, with the dots between them, may not exceed MaxKey, names
// must be unique, and at most one part may have multiple words.
func (x *Exchange) Check() error {
	size, multi := len(x.Key)-1, 0
	seen := map[string]bool{}
	for _, part := range x.Key {
		if part.Name == "" || seen[part.Name] {
			return fmt.Errorf("exchange %s: the routing key has two parts, or none, of the name %q", x.Name, part.Name)
		}
		seen[part.Name] = true
		if part.Constant != "" {
			size += len(part.Constant)
		} else if part.MaxSize <= 0 {
			return fmt.Errorf("exchange %s: the part %s of the routing key has no greatest size", x.Name, part.Name)
		} else {
			size += part.MaxSize
		}
		if part.MultipleWords {
			multi++
		}
	}
	if len(x.Key) == 0 || size > MaxKey || multi > 1 {
		return fmt.Errorf("exchange %s: a routing key has at least one part, at most %d bytes, and at most one part of multiple words", x.Name, MaxKey)
	}
	return nil
}

// RoutingKey joins the values of the key's parts with dots, in order: the
// constant where there is one; "_" for an optional part without a value (a
// missing or empty one). A value that is required and missing, too long, or
// has a dot where only one word is allowed is an error, as is a value for
// a part that the exchange does not have.
func (x *Exchange) RoutingKey(values map[string]string) (string, error) {
	var key strings.Builder
	used := 0
	for i, part := range x.Key {
		if i > 0 {
			key.WriteByte('.')
		}
		value, given := values[part.Name]
		if given {
			used++
		}
		switch {
		case part.Constant != "":
			if given && value != part.Constant {
				return "", x.bad(part, "is the constant %q and cannot be %q", part.Constant, value)
			}
			value = part.Constant
		case value == "" && part.Required:
			return "", x.bad(part, "is required")
		case value == "":
			value = "_"
		case len(value) > part.MaxSize:
			return "", x.bad(part, "may have %d bytes, %q has %d", part.MaxSize, value, len(value))
		case !part.MultipleWords && strings.Contains(value, "."):
			return "", x.bad(part, "is one word, %q has a dot", value)
		}
		key.WriteString(value)
	}
	if used != len(values) {
		return "", fmt.Errorf("exchange %s: the routing key was given a value for a part that it does not have", x.Name)
	}
	if key.Len() > MaxKey {
		return "", fmt.Errorf("exchange %s: the routing key has %d bytes, %d are allowed", x.Name, key.Len(), MaxKey)
	}
	return key.String(), nil
}

func (x *Exchange) bad(part KeyPart, format string, args ...any) error {
	return fmt.Errorf("exchange %s: the part %s of the routing key "+format, append([]any{x.Name, part.Name}, args...)...)
}

// Pattern makes the pattern that selects messages with the given values, as
// client libraries do: constants verbatim, a part without a value is `*`, or
// `#` when it may have multiple words. A value may be a pattern itself.
func (x *Exchange) Pattern(values map[string]string) string {
	words := make([]string, 0, len(x.Key))
	for _, part := range x.Key {
		word := values[part.Name]
		switch {
		case part.Constant != "":
			word = part.Constant
		case word == "" && part.MultipleWords:
			word = "#"
		case word == "":
			word = "*"
		}
		words = append(words, word)
	}
	return strings.Join(words, ".")
}

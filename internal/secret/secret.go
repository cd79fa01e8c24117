// Package secret has text that shows itself to nobody who formats, logs or
// marshals it. Whoever needs it converts it to a string.
package secret

import "log/slog"

// Text is a password, a token or a key. It is shown as "[secret]".
type Text string

// Redacted is what is shown in place of a Text.
const Redacted = "[secret]"

// String implements fmt.Stringer without giving the secret away.
func (Text) String() string { return Redacted }

// GoString implements fmt.GoStringer likewise.
func (Text) GoString() string { return Redacted }

// LogValue implements slog.LogValuer likewise.
func (Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText keeps the secret out of JSON and YAML.
func (Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

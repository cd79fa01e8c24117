// Package tcerr is the one error type that crosses a service's border: a
// published code, which decides the HTTP status, a message for the caller, and
// a cause that stays inside the process.
package tcerr

import (
	"errors"
	"fmt"
)

// Code is a published error code.
type Code string

// The codes that every service may answer with.
const (
	MalformedPayload        Code = "MalformedPayload"
	InvalidRequestArguments Code = "InvalidRequestArguments"
	InputValidationError    Code = "InputValidationError"
	InputError              Code = "InputError"
	AuthenticationFailed    Code = "AuthenticationFailed"
	InsufficientScopes      Code = "InsufficientScopes"
	ResourceNotFound        Code = "ResourceNotFound"
	RequestConflict         Code = "RequestConflict"
	ResourceExpired         Code = "ResourceExpired"
	InputTooLarge           Code = "InputTooLarge"
	TooManyRequests         Code = "TooManyRequests"
	InternalServerError     Code = "InternalServerError"
)

// The codes of the object service alone.
const (
	NoMatchingMethod  Code = "NoMatchingMethod"
	NoMatchingBackend Code = "NoMatchingBackend"
)

// The codes of the pulse service alone.
const (
	InvalidNamespace  Code = "InvalidNamespace"
	NotConfigured     Code = "NotConfigured"
	BrokerUnavailable Code = "BrokerUnavailable"
)

// Status is the HTTP status of a code; an unknown code is an internal error.
func (c Code) Status() int {
	switch c {
	case MalformedPayload, InvalidRequestArguments, InputValidationError, InputError, NoMatchingBackend, InvalidNamespace:
		return 400
	case AuthenticationFailed:
		return 401
	case InsufficientScopes:
		return 403
	case ResourceNotFound:
		return 404
	case NoMatchingMethod:
		return 406
	case RequestConflict, NotConfigured:
		return 409
	case ResourceExpired:
		return 410
	case InputTooLarge:
		return 413
	case TooManyRequests:
		return 429
	case BrokerUnavailable:
		return 503
	}
	return 500
}

// Error is an answer to a request that could not be served. Code and Message
// reach the caller; Err does not.
type Error struct {
	Code    Code
	Message string
	Err     error
}

// New makes an error with a formatted message.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an error with a message for the caller and a cause for the log.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}

// Error is the text for logs: it includes the cause.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf is the code of err; what is not an *Error is an internal error.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return InternalServerError
}

// Op adds the name of the operation that failed to the trail of err. An
// *Error keeps its code and message, so the trail shows only in logs.
func Op(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}

package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Error is the refusal of a call by the server.
type Error struct {
	Service    string // such as "queue"
	Method     string // such as "createTask"
	StatusCode int
	// Code is the published one, such as "RequestConflict"; empty if the reply
	// was not in the published format.
	Code string
	// Message is the server's, complete.
	Message string
	// Body is the reply as received. It may repeat the call's payload, so it is
	// not part of the error's text.
	Body []byte
}

// Error tells what failed and the server's message without its trailer.
func (e *Error) Error() string {
	message, _, _ := strings.Cut(e.Message, "\n\n---\n")
	code := e.Code
	if code == "" {
		code = http.StatusText(e.StatusCode)
	}
	return fmt.Sprintf("%s.%s: %d %s: %s", e.Service, e.Method, e.StatusCode, code, message)
}

// parseError makes an Error of a reply.
func parseError(service, method string, status int, body []byte) *Error {
	e := &Error{Service: service, Method: method, StatusCode: status, Body: body}
	var reply struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Error   string `json:"error"` // of a path that no service has
	}
	if json.Unmarshal(body, &reply) == nil {
		e.Code, e.Message = reply.Code, reply.Message
		if e.Message == "" {
			e.Message = reply.Error
		}
	}
	if e.Message == "" {
		e.Message = "reply is not in the published error format"
	}
	return e
}

// ErrorCode returns the published code of an error of a call, such as
// "ResourceNotFound", or "" if the server did not answer or gave none.
func ErrorCode(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// StatusCode returns the HTTP status of an error of a call, or 0 if the
// server did not answer.
func StatusCode(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.StatusCode
	}
	return 0
}

// IsNotFound reports whether the server said that there is no such thing (404).
func IsNotFound(err error) bool { return StatusCode(err) == http.StatusNotFound }

// IsConflict reports whether the call contradicts what is there (409).
func IsConflict(err error) bool { return StatusCode(err) == http.StatusConflict }

// IsForbidden reports whether scopes are missing (403).
func IsForbidden(err error) bool { return StatusCode(err) == http.StatusForbidden }

package tcerr

import (
	"errors"
	"strings"
	"testing"
)

func TestStatus(t *testing.T) {
	for code, want := range map[Code]int{
		MalformedPayload: 400, InvalidRequestArguments: 400, InputValidationError: 400, InputError: 400,
		AuthenticationFailed: 401, InsufficientScopes: 403, ResourceNotFound: 404, RequestConflict: 409,
		ResourceExpired: 410, InputTooLarge: 413, TooManyRequests: 429, InternalServerError: 500,
		NoMatchingMethod: 406, NoMatchingBackend: 400, InvalidNamespace: 400, NotConfigured: 409, BrokerUnavailable: 503, "Nonsense": 500,
	} {
		if got := code.Status(); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
}

func TestTrailKeepsCodeAndCause(t *testing.T) {
	cause := errors.New("disk on fire")
	err := Op("createTask", Wrap(RequestConflict, cause, "taskId %q is in use", "x"))
	if CodeOf(err) != RequestConflict || !errors.Is(err, cause) || !strings.Contains(err.Error(), "createTask") {
		t.Fatal(err)
	}
	if CodeOf(cause) != InternalServerError {
		t.Fatal("a foreign error must be internal")
	}
	if Op("x", nil) != nil {
		t.Fatal("Op(nil) must be nil")
	}
}

// Package client is the ground that the typed clients of the services stand
// on: settings, credentials, signing, retries, errors and the transport that
// calls a handler in the same process. The clients themselves are the packages
// below it, one per service, generated from the API references:
//
//	cfg, err := client.FromEnv()
//	...
//	q, err := queue.New(cfg)
//	...
//	status, err := q.Status(ctx, taskID)
//	if client.IsNotFound(err) { ... }
//
// A call is tried up to five times, for connections fail and servers restart;
// the API is made so that a repeated call does no harm. Refusals (4xx) are
// returned at once, as *Error. Redirects are not followed.
package client

//go:generate ../scripts/generate-client

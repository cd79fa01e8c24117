package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"taskcluster/client"
)

// printJSON writes a document to stdout.
func (s *session) printJSON(v any) error { return writeJSON(s.stdout, v, "  ") }

func writeJSON(w io.Writer, v any, indent string) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(v)
}

// errorDocument is what --json prints of an error: the server's own body when
// there is one.
func errorDocument(err error) any {
	refusal, ok := errors.AsType[*client.Error](err)
	if !ok {
		return map[string]string{"message": explain(err)}
	}
	if json.Valid(refusal.Body) {
		return json.RawMessage(refusal.Body)
	}
	return map[string]any{"code": refusal.Code, "message": refusal.Message, "statusCode": refusal.StatusCode}
}

// explain is the sentence for an error: what is wrong, and what to do.
func explain(err error) string {
	lines := strings.Split(err.Error(), "\n") // servers explain in several
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	text := strings.Join(lines, "\n")
	if refusal, ok := errors.AsType[*client.Error](err); ok {
		switch refusal.StatusCode {
		case http.StatusUnauthorized:
			return text + "\nThe deployment does not know these credentials: correct TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN, or sign in with eval \"$(taskcluster env)\"."
		case http.StatusForbidden:
			return text + "\nThe credentials lack scopes: \"taskcluster env --check\" shows whose they are and which scopes they have."
		case http.StatusNotFound:
			return text + "\nCheck the identifier and the deployment; what has expired is gone."
		}
		return text
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op != "listen" {
		return text + "\nIs the deployment running at this address? \"taskcluster serve --worker\" starts one."
	}
	_, shape := errors.AsType[*json.UnmarshalTypeError](err)
	if _, syntax := errors.AsType[*json.SyntaxError](err); shape || syntax {
		return errUnexpected.Error() + "\n" + text
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return text
}

// table prints rows in columns.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, printable(cell))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printable replaces control characters: names and messages come from others,
// and must not steer the terminal.
func printable(text string) string {
	return strings.Map(visible, text)
}

// short writes a duration for people: 0.4s, 12s, 3m05s, 2h10m.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// resolved reports whether a state is final, unless someone reruns the task.
func resolved(state string) bool {
	return state == "completed" || state == "failed" || state == "exception"
}

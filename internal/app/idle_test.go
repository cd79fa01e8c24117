package app

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/testenv"
)

// TestIdleNodes: nodes that nobody calls leave the database alone, but for at most
// a query a second each, also with a mirror in RabbitMQ and pulse. A query is whatever
// PostgreSQL is sent and has to answer, as its own log tells: the begin and the
// commit of a transaction are, and so is what keeps a connection alive.
func TestIdleNodes(t *testing.T) {
	rabbit := testenv.RabbitMQ(t)
	everything := map[string]string{
		"TASKCLUSTER_AMQP_URL":             rabbit.URL,
		"TASKCLUSTER_PULSE_MANAGEMENT_URL": strings.Replace(rabbit.Management, "http://", "http://guest:guest@", 1),
	}
	for name, nodes := range map[string]int{"one node": 1, "two nodes": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Postgres(t)
			tellStatements(t, server.URL)
			var dirs []string
			for i := range nodes {
				dirs = append(dirs, t.TempDir())
				if i > 0 {
					join(t, dirs[0], dirs[i])
				}
				env := onPostgres(t, fmt.Sprintf("%s&application_name=node%d", server.URL, i))
				maps.Copy(env, everything)
				started(t, settings(t, dirs[i], env))
			}
			countIdle(t, server, nodes)
		})
	}
}

// tellStatements has the server log each query with the node that it is of.
func tellStatements(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, command := range []string{"ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_line_prefix = '<%a> '", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(t.Context(), command); err != nil {
			t.Fatal(err)
		}
	}
}

var loggedQuery = regexp.MustCompile(`(?m)^<node([0-9])> LOG:  (?:statement: |execute [^:]*: )(.*)$`)

// queries are those that each node has sent.
func queries(t *testing.T, server *testenv.PostgresServer, nodes int) [][]string {
	t.Helper()
	text, err := server.Log()
	if err != nil {
		t.Fatal(err)
	}
	sent := make([][]string, nodes)
	for _, line := range loggedQuery.FindAllStringSubmatch(text, -1) {
		node := line[1][0] - '0'
		sent[node] = append(sent[node], line[2])
	}
	return sent
}

// countIdle waits until the work of the nodes' start is done, and counts for a minute,
// in which each loop comes round.
func countIdle(t *testing.T, server *testenv.PostgresServer, nodes int) {
	t.Helper()
	count := func() (all int) {
		for _, of := range queries(t, server, nodes) {
			all += len(of)
		}
		return all
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		before := count()
		time.Sleep(5 * time.Second)
		if count() <= before+10*nodes {
			break
		}
	}
	before, began := queries(t, server, nodes), time.Now()
	time.Sleep(62 * time.Second)
	after, took := queries(t, server, nodes), time.Since(began)
	for i := range nodes {
		sent := after[i][len(before[i]):]
		t.Logf("node %d sent %d queries in %v", i, len(sent), took)
		if len(before[i]) == 0 || float64(len(sent)) > took.Seconds() {
			t.Errorf("node %d sent %d queries in %v:\n%s", i, len(sent), took, often(sent))
		}
	}
}

// often lists each query with how often it is among them.
func often(queries []string) string {
	times := map[string]int{}
	for _, q := range queries {
		times[q]++
	}
	var text strings.Builder
	for _, q := range slices.SortedFunc(maps.Keys(times), func(a, b string) int { return times[b] - times[a] }) {
		fmt.Fprintf(&text, "%5d %s\n", times[q], q)
	}
	return text.String()
}

package queue

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/tcerr"
)

// definition is a task as createTask was given it, with every default in
// place. What the queue does not look into is kept as it was written.
type definition struct {
	id           slugid.ID
	group        slugid.ID
	queue        string
	provisioner  string
	workerType   string
	scheduler    string
	project      string
	dependencies []slugid.ID
	allResolved  bool // requires
	priority     priority
	retries      int
	created      clock.Time
	deadline     clock.Time
	expires      clock.Time
	scopes       []string
	concurrency  *concurrency // set by check

	rawDependencies, rawRoutes, rawScopes []byte
	payload, metadata, tags, extra        []byte
}

// parseDefinition reads a body that passed the schema, which also filled in
// its defaults.
func parseDefinition(id slugid.ID, body []byte) (*definition, error) {
	d := &definition{id: id, group: id}
	var err error
	at := func(text []byte) clock.Time {
		t, e := clock.Parse(unquote(text))
		if e != nil && err == nil {
			err = tcerr.New(tcerr.InputError, "%s", e)
		}
		return t
	}
	eachMember(body, func(name string, v []byte) {
		switch name {
		case "provisionerId":
			d.provisioner = unquote(v)
		case "workerType":
			d.workerType = unquote(v)
		case "taskQueueId":
			d.queue = unquote(v)
		case "schedulerId":
			d.scheduler = unquote(v)
		case "projectId":
			d.project = unquote(v)
		case "taskGroupId":
			d.group, _ = slugid.Parse(unquote(v)) // the schema has its pattern
		case "dependencies":
			d.rawDependencies = v
		case "requires":
			d.allResolved = unquote(v) == "all-resolved"
		case "routes":
			d.rawRoutes = v
		case "priority":
			d.priority, _ = parsePriority(unquote(v))
		case "retries":
			n, _ := strconv.ParseFloat(string(v), 64) // 5.0 is an integer too
			d.retries = int(n)
		case "created":
			d.created = at(v)
		case "deadline":
			d.deadline = at(v)
		case "expires":
			d.expires = at(v)
		case "scopes":
			d.rawScopes = v
		case "payload":
			d.payload = v
		case "metadata":
			d.metadata = v
		case "tags":
			d.tags = v
		case "extra":
			d.extra = v
		}
	})
	if err != nil {
		return nil, err
	}
	for _, text := range stringsOf(d.rawDependencies) {
		dep, _ := slugid.Parse(text)
		d.dependencies = append(d.dependencies, dep)
	}
	d.scopes = stringsOf(d.rawScopes)
	if d.expires.IsZero() {
		d.expires = clock.Of(d.deadline.Std().AddDate(1, 0, 0))
	}
	return d, d.settleQueue()
}

// settleQueue makes taskQueueId, provisionerId and workerType agree.
func (d *definition) settleQueue() error {
	both := d.provisioner != "" && d.workerType != ""
	switch {
	case d.queue == "" && both:
		d.queue = d.provisioner + "/" + d.workerType
	case d.queue == "":
		return tcerr.New(tcerr.InputError, "at least a provisionerId and a workerType or a taskQueueId must be provided")
	case both && d.queue != d.provisioner+"/"+d.workerType:
		return tcerr.New(tcerr.InputError, `taskQueueId must match "provisionerId/workerType"`)
	default:
		d.provisioner, d.workerType = splitQueue(d.queue)
	}
	return nil
}

// drift is how far a caller's clock may be off.
const drift = 15 * time.Minute

// maxRoute is the bytes that a routing key leaves for a route. The schema counts
// characters.
const maxRoute = 255 - len("route.")

// check applies the rules that the schema cannot express.
func (d *definition) check(now clock.Time, maxDeadline time.Duration) error {
	bad := func(format string, args ...any) error { return tcerr.New(tcerr.InputError, format, args...) }
	switch {
	case d.created < now.Add(-drift):
		return bad("`created` cannot be in the past (max 15min drift)")
	case d.created > now.Add(drift):
		return bad("`created` cannot be in the future (max 15min drift)")
	case d.created > d.deadline:
		return bad("`deadline` cannot be later than `created`")
	case d.deadline < now:
		return bad("`deadline` cannot be in the past")
	case d.deadline > now.Add(maxDeadline+drift):
		days := strconv.FormatFloat(maxDeadline.Hours()/24, 'f', -1, 64)
		return bad("`deadline` cannot be more than %s days into the future", days)
	case d.expires < d.deadline:
		return bad("`expires` cannot be before `deadline`")
	}
	for _, scope := range d.scopes {
		if strings.HasSuffix(scope, "**") {
			return bad("scopes must not end with `**`")
		}
	}
	if len(d.rawRoutes) > maxRoute { // no route is longer than the JSON of all
		for i, route := range stringsOf(d.rawRoutes) {
			if len(route) > maxRoute {
				return bad("task.routes[%d] has %d bytes as UTF-8, a routing key has room for %d", i, len(route), maxRoute)
			}
		}
	}
	var err error
	d.concurrency, err = parseConcurrency(d.project, d.extra)
	return err
}

// text renders the definition as it is stored: complete, in the published
// order, without priority, which may change. at is where that belongs.
func (d *definition) text() (text []byte, at int) {
	b := make([]byte, 0, 768+len(d.rawDependencies)+len(d.rawRoutes)+len(d.rawScopes)+len(d.payload)+
		len(d.metadata)+len(d.tags)+len(d.extra))
	b = append(b, `{"provisionerId":"`...)
	b = append(b, d.provisioner...)
	b = append(b, `","workerType":"`...)
	b = append(b, d.workerType...)
	b = append(b, `","taskQueueId":"`...)
	b = append(b, d.queue...)
	b = append(b, `","schedulerId":"`...)
	b = append(b, d.scheduler...)
	b = append(b, `","projectId":"`...)
	b = append(b, d.project...)
	b = append(b, `","taskGroupId":"`...)
	b = d.group.AppendTo(b)
	b = append(b, `","dependencies":`...)
	b = append(b, d.rawDependencies...)
	b = append(b, `,"requires":"all-`...)
	if d.allResolved {
		b = append(b, `resolved"`...)
	} else {
		b = append(b, `completed"`...)
	}
	b = append(b, `,"routes":`...)
	b = append(b, d.rawRoutes...)
	at = len(b)
	b = append(b, `,"retries":`...)
	b = strconv.AppendInt(b, int64(d.retries), 10)
	b = appendTime(b, "created", d.created)
	b = appendTime(b, "deadline", d.deadline)
	b = appendTime(b, "expires", d.expires)
	b = append(b, `,"scopes":`...)
	b = append(b, d.rawScopes...)
	b = append(b, `,"payload":`...)
	b = append(b, d.payload...)
	b = append(b, `,"metadata":`...)
	b = append(b, d.metadata...)
	b = append(b, `,"tags":`...)
	b = append(b, d.tags...)
	b = append(b, `,"extra":`...)
	b = append(b, d.extra...)
	return append(b, '}'), at
}

// stored is a definition as it was read from the database.
type stored struct {
	priority priority
	at       int
	text     []byte
}

// appendTo appends the published definition.
func (s *stored) appendTo(b []byte) []byte {
	b = append(b, s.text[:s.at]...)
	b = append(b, `,"priority":"`...)
	b = append(b, s.priority.String()...)
	b = append(b, '"')
	return append(b, s.text[s.at:]...)
}

// scopes gives the task's scopes.
func (s *stored) scopes() (scopes []string) {
	eachMember(s.text, func(name string, v []byte) {
		if name == "scopes" {
			scopes = stringsOf(v)
		}
	})
	return scopes
}

// equalJSON compares two JSON texts by value: the order of members and the way
// in which strings and numbers are written do not count.
func equalJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, okX := decodeJSON(a)
	y, okY := decodeJSON(b)
	return okX && okY && reflect.DeepEqual(x, y)
}

func decodeJSON(text []byte) (any, bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, false
	}
	return canonical(v), true
}

// canonical gives each number one form: an integer that fits, or a double.
func canonical(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v
		}
		if n := int64(f); float64(n) == f && n > -1<<53 && n < 1<<53 {
			return n
		}
		if strings.ContainsAny(v.String(), ".eE") {
			return f
		}
		return v // an integer larger than 64 bits: its digits count
	case []any:
		for i := range v {
			v[i] = canonical(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = canonical(v[k])
		}
	}
	return v
}

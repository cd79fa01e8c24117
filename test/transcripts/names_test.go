package transcripts

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"taskcluster/internal/slugid"
)

// names gives values that differ from run to run names that do not.
type names struct {
	rootURL string
	broker  string    // its address, if there is one
	start   time.Time // what "now" is in requests
	upTo    time.Time // latest time that the server can have taken by now

	value map[string]string // by name
	name  map[string]string // by value
	count map[string]int    // names given, by kind
	times map[int64]string  // by milliseconds: times that requests gave

	signed *regexp.Regexp // URLs with a signature in the query
}

func newNames(rootURL, broker string) *names {
	return &names{
		rootURL: rootURL, broker: broker, start: time.Now().UTC().Truncate(time.Millisecond),
		value: map[string]string{}, name: map[string]string{}, count: map[string]int{}, times: map[int64]string{},
		signed: regexp.MustCompile(regexp.QuoteMeta(rootURL) + `/[^\s"?]*\?[^\s"]*`),
	}
}

func (n *names) set(name, value string) { n.value[name], n.name[value] = value, name }

// of is the name of a value; one of this kind is made when it has none.
func (n *names) of(kind, value string) string {
	if name, ok := n.name[value]; ok {
		return name
	}
	for {
		n.count[kind]++
		name := kind + strconv.Itoa(n.count[kind])
		if _, taken := n.value[name]; !taken {
			n.set(name, value)
			return name
		}
	}
}

var (
	nameInText = regexp.MustCompile(`(\b|%2F)(TASK|GROUP|ID|UPLOAD|TOKEN|PAGE|URL)[0-9]+\b`)
	timeInText = regexp.MustCompile(`(["=])now((?:[+-][0-9]+[smhdy])*)\b`)
	offset     = regexp.MustCompile(`([+-])([0-9]+)([smhdy])`)
)

// expand replaces names in a part of a request by values.
func (n *names) expand(text string) (string, error) {
	var unknown error
	text = nameInText.ReplaceAllStringFunc(text, func(name string) string {
		name, slash := strings.CutPrefix(name, "%2F")
		before := ""
		if slash {
			before = "%2F"
		}
		if v, ok := n.value[name]; ok {
			return before + v
		}
		if !madeName.MatchString(name) {
			unknown = fmt.Errorf("no answer before had %s", name)
			return name
		}
		n.set(name, slugid.New().String())
		return before + n.value[name]
	})
	text = timeInText.ReplaceAllStringFunc(text, func(s string) string {
		m := timeInText.FindStringSubmatch(s)
		at := n.start
		for _, o := range offset.FindAllStringSubmatch(m[2], -1) {
			k, _ := strconv.Atoi(o[1] + o[2])
			switch o[3] {
			case "y":
				at = at.AddDate(k, 0, 0)
			case "d":
				at = at.AddDate(0, 0, k)
			default:
				unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[o[3]]
				at = at.Add(time.Duration(k) * unit)
			}
		}
		n.gave(at, "now"+m[2])
		return m[1] + at.Format(milliseconds)
	})
	return strings.ReplaceAll(text, "ROOT/", n.rootURL+"/"), unknown
}

const milliseconds = "2006-01-02T15:04:05.000Z"

// gave remembers a time of a request, and what the queue derives from it: a task
// expires a year after its deadline, its group an hour later.
func (n *names) gave(t time.Time, name string) {
	year := t.AddDate(1, 0, 0)
	for at, name := range map[time.Time]string{
		t: name, t.Add(time.Hour): name + "+1h", year: name + "+1y", year.Add(time.Hour): name + "+1y+1h",
	} {
		if old, ok := n.times[at.UnixMilli()]; !ok || len(name) < len(old) {
			n.times[at.UnixMilli()] = name
		}
	}
}

// slack is how much later than an answer the times in it may be and still count
// as now: claims of short duration.
const slack = 20 * time.Second

// time names a time.
func (n *names) time(t time.Time) string {
	if name, ok := n.times[t.UnixMilli()]; ok {
		return name
	}
	return n.taken(t)
}

// serverTakes are properties whose time is never one that a request gave, though
// it may be the same to the millisecond: a deadline and when it was acted upon.
var serverTakes = map[string]bool{"scheduled": true, "started": true, "resolved": true, "takenUntil": true, "time": true}

// taken names a time that the server took.
func (n *names) taken(t time.Time) string {
	first, last := n.start.Add(-time.Second), n.upTo.Add(slack)
	if !t.Before(first) && !t.After(last) {
		return "TIME"
	}
	// Whole minutes from some moment of the story; long times in larger units.
	d := t.Sub(n.start)
	if years := d.Hours() / 24 / 365.25; math.Abs(years) > 0.9 {
		return fmt.Sprintf("TIME%+dy", int(math.Round(years)))
	}
	minutes := int(math.Floor(t.Sub(first).Minutes()))
	switch {
	case minutes%(24*60) == 0:
		return fmt.Sprintf("TIME%+dd", minutes/24/60)
	case minutes%60 == 0:
		return fmt.Sprintf("TIME%+dh", minutes/60)
	}
	return fmt.Sprintf("TIME%+dm", minutes)
}

var (
	slugInText = regexp.MustCompile(`[A-Za-z0-9_-]+`)
	isSlug     = regexp.MustCompile(`^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$`)
	isoInText  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	untilText  = regexp.MustCompile(`/until/(\d+)(\.\d+)?`)
	uuidText   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	hawkText   = regexp.MustCompile(`^Hawk .*`)
)

// text replaces values in a text by names.
func (n *names) text(s string) string {
	if name, ok := n.name[s]; ok {
		return name
	}
	s = n.signed.ReplaceAllStringFunc(s, n.signedURL)
	root, _ := url.Parse(n.rootURL)
	s = strings.ReplaceAll(s, n.rootURL, "ROOT")
	s = strings.ReplaceAll(s, root.Host, "HOST")
	if n.broker != "" {
		s = strings.ReplaceAll(s, n.broker, "BROKER")
	}
	s = hawkText.ReplaceAllString(s, "HAWK")
	s = untilText.ReplaceAllStringFunc(s, func(s string) string {
		seconds, _ := strconv.ParseFloat(strings.TrimPrefix(s, "/until/"), 64)
		return "/until/" + n.time(time.UnixMilli(int64(math.Round(seconds*1000))))
	})
	s = isoInText.ReplaceAllStringFunc(s, func(s string) string {
		t, err := time.Parse(milliseconds, s)
		if err != nil || t.Year() < 2000 {
			return s // nobody's now
		}
		return n.time(t)
	})
	s = uuidText.ReplaceAllString(s, "UUID")
	return slugInText.ReplaceAllStringFunc(s, func(s string) string {
		if name, ok := n.name[s]; ok {
			return name
		}
		if isSlug.MatchString(s) {
			return n.of("ID", s)
		}
		return s
	})
}

// signedURL names a signed URL by what it leads to: signatures of the same second
// are the same. The name stands for the latest one.
func (n *names) signedURL(s string) string {
	path, _, _ := strings.Cut(s, "?")
	name := n.of("URL", path)
	n.value[name] = s
	return name
}

// byKey are values that the property's name tells apart.
var byKey = map[string]string{"accessToken": "TOKEN", "continuationToken": "PAGE", "uploadId": "UPLOAD"}

// json replaces values in a decoded JSON value by names.
func (n *names) json(key string, v any) any {
	switch v := v.(type) {
	case string:
		if kind, ok := byKey[key]; ok && v != "" {
			return n.of(kind, v)
		}
		switch key {
		case "seed", "signature", "commit", "build", "sas":
			return strings.ToUpper(key)
		case "token": // a JSON Web Token: what it claims
			if parts := strings.Split(v, "."); len(parts) == 3 {
				if text, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
					if claims, err := decode(text); err == nil {
						return n.json(key, claims)
					}
				}
			}
			return "TOKEN"
		case "version":
			return "VERSION"
		case "certificate":
			if inner, err := decode([]byte(v)); err == nil {
				return n.json(key, inner)
			}
		}
		if serverTakes[key] {
			if t, err := time.Parse(milliseconds, v); err == nil {
				return n.taken(t)
			}
		}
		return n.text(v)
	case json.Number:
		switch key {
		case "uptime":
			return "SECONDS"
		case "iat", "nbf", "exp": // of JSON Web Tokens
			seconds, _ := v.Int64()
			return n.time(time.Unix(seconds, 0))
		case "start", "expiry": // of certificates
			ms, _ := v.Int64()
			return n.time(time.UnixMilli(ms))
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = n.json(key, v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for _, k := range sortedKeys(v) {
			value := n.json(k, v[k])
			if s, ok := value.(string); ok && strings.Contains(s, "\n") {
				lines := []any{}
				for l := range strings.SplitSeq(s, "\n") {
					lines = append(lines, l)
				}
				out[n.text(k)+"↵"] = lines
				continue
			}
			out[n.text(k)] = value
		}
		return out
	}
	return v
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func decode(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one JSON value")
	}
	return v, nil
}

// wide is the longest line that an object or a list is put on.
const wide = 110

// render is the canonical text of a JSON value: keys sorted, two spaces of
// indentation, and what fits on a line on one line.
func render(v any) string {
	var b strings.Builder
	renderInto(&b, v, 0, 0)
	b.WriteByte('\n')
	return b.String()
}

// renderInto appends a value that begins in the given column.
func renderInto(b *strings.Builder, v any, indent, column int) {
	one := line(v)
	if column+len(one) <= wide {
		b.WriteString(one)
		return
	}
	inner := strings.Repeat("  ", indent+1)
	item := func(i int, prefix string, v any) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n" + inner + prefix)
		renderInto(b, v, indent+1, len(inner)+len(prefix))
	}
	end := "\n" + strings.Repeat("  ", indent)
	switch v := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		for i, k := range sortedKeys(v) {
			item(i, line(k)+": ", v[k])
		}
		b.WriteString(end + "}")
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			item(i, "", e)
		}
		b.WriteString(end + "]")
	default:
		b.WriteString(one)
	}
}

// line is a JSON value on one line.
func line(v any) string {
	switch v := v.(type) {
	case map[string]any:
		parts := []string{}
		for _, k := range sortedKeys(v) {
			parts = append(parts, line(k)+": "+line(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		parts := []string{}
		for _, e := range v {
			parts = append(parts, line(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // it was decoded from JSON
	}
	return strings.TrimSuffix(b.String(), "\n")
}

package broker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"taskcluster/internal/clock"
)

// sign is the MAC that all of Azure's signatures are made of.
func (a *azureAccount) sign(lines ...string) string {
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(strings.Join(lines, "\n")))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// signTableRequest signs a request to the table service by the scheme
// SharedKey.
func (a *azureAccount) signTableRequest(r *http.Request) {
	a.authorize(r, a.sign(
		r.Method,
		r.Header.Get("Content-MD5"),
		r.Header.Get("Content-Type"),
		r.Header.Get("x-ms-date"),
		"/"+a.Account+r.URL.EscapedPath(),
	))
}

// signBlobRequest signs a request to the blob service by the scheme SharedKey,
// which covers more there.
func (a *azureAccount) signBlobRequest(r *http.Request) {
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	lines := []string{
		r.Method,
		r.Header.Get("Content-Encoding"), r.Header.Get("Content-Language"), length, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"),
		"", // Date, for which x-ms-date stands
		r.Header.Get("If-Modified-Since"), r.Header.Get("If-Match"), r.Header.Get("If-None-Match"), r.Header.Get("If-Unmodified-Since"),
		r.Header.Get("Range"),
	}
	var own []string
	for name := range r.Header {
		if name := strings.ToLower(name); strings.HasPrefix(name, "x-ms-") {
			own = append(own, name+":"+strings.TrimSpace(r.Header.Get(name)))
		}
	}
	slices.Sort(own)
	lines = append(append(lines, own...), "/"+a.Account+r.URL.EscapedPath())
	var query []string
	for name, values := range r.URL.Query() {
		slices.Sort(values)
		query = append(query, strings.ToLower(name)+":"+strings.Join(values, ","))
	}
	slices.Sort(query)
	a.authorize(r, a.sign(append(lines, query...)...))
}

func (a *azureAccount) authorize(r *http.Request, signature string) {
	r.Header.Set("Authorization", "SharedKey "+a.Account+":"+signature)
}

// tableSAS is the service SAS of a table.
func (a *azureAccount) tableSAS(table, permissions string, now clock.Time) SAS {
	start, end, expiry := period(now)
	return SAS{Expiry: expiry, Query: url.Values{
		"sv": {azureVersion}, "tn": {table}, "st": {start}, "se": {end}, "sp": {permissions}, "spr": {"https"},
		"sig": {a.sign(
			permissions, start, end,
			"/table/"+a.Account+"/"+strings.ToLower(table),
			"", "", "https", azureVersion, // no stored policy, no range of addresses
			"", "", "", "", // all rows
		)},
	}.Encode()}
}

// containerSAS is the service SAS of a container.
func (a *azureAccount) containerSAS(container, permissions string, now clock.Time) SAS {
	start, end, expiry := period(now)
	return SAS{Expiry: expiry, Query: url.Values{
		"sv": {azureVersion}, "sr": {"c"}, "st": {start}, "se": {end}, "sp": {permissions}, "spr": {"https"},
		"sig": {a.sign(
			permissions, start, end,
			"/blob/"+a.Account+"/"+container,
			"", "", "https", azureVersion, // no stored policy, no range of addresses
			"c", "", // the container as it is now, no snapshot
			"", "", "", "", "", // headers of answers stay as they are
		)},
	}.Encode()}
}

// period is when a signature is good, as signatures write it, and its end.
func period(now clock.Time) (start, end string, expiry clock.Time) {
	last := now.Add(sasAfter).Std().Truncate(time.Second)
	return now.Add(-sasBefore).Std().Truncate(time.Second).Format(time.RFC3339), last.Format(time.RFC3339), clock.Of(last)
}

package brokertest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Azure is the table and blob storage of one Azure account. Requests are either
// signed with the account's key (SharedKey) or carry a shared access signature;
// both are computed anew from the key, and what a shared access signature does
// not allow is refused.
type Azure struct {
	double
	account string
	key     []byte
	page    int

	// What follows is kept under mu.
	tables, containers []string
}

// NewAzure starts a double whose lists have pages of the given length.
func NewAzure(now func() time.Time, account string, page int) *Azure {
	a := &Azure{account: account, key: make([]byte, 64), page: page}
	rand.Read(a.key)
	a.start(now, a.serve)
	return a
}

// Setting is the value of azure-accounts.
func (a *Azure) Setting() string {
	return setting([]map[string]any{{"account": a.account, "key": a.Key(), "tableEndpoint": a.URL(), "blobEndpoint": a.URL()}})
}

// Key is the account's key in base64.
func (a *Azure) Key() string { return base64.StdEncoding.EncodeToString(a.key) }

// Tables are the tables, in the order in which they were made.
func (a *Azure) Tables() []string { return a.names(&a.tables) }

// Containers are the containers, likewise.
func (a *Azure) Containers() []string { return a.names(&a.containers) }

func (a *Azure) names(list *[]string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(*list)
}

func (a *Azure) serve(w http.ResponseWriter, r *http.Request) {
	text := body(r)
	query := r.URL.Query()
	if query.Has("sig") {
		a.serveSAS(w, r, query)
		return
	}
	if r.Header.Get("x-ms-version") == "" {
		a.refuse(w, http.StatusBadRequest, "InvalidHeaderValue", "no x-ms-version")
		return
	}
	at, err := http.ParseTime(r.Header.Get("x-ms-date"))
	if err != nil || a.now().Sub(at).Abs() > 15*time.Minute {
		a.refuse(w, http.StatusForbidden, "AuthenticationFailed", "x-ms-date is not now")
		return
	}
	table := r.URL.Path == "/Tables"
	if want := "SharedKey " + a.account + ":" + a.sign(a.canonical(r, table, len(text))); !hmac.Equal([]byte(want), []byte(r.Header.Get("Authorization"))) {
		a.refuse(w, http.StatusForbidden, "AuthenticationFailed", "the signature is not of this request and this key")
		return
	}
	switch {
	case table && r.Method == http.MethodGet:
		a.listTables(w, query.Get("NextTableName"))
	case table && r.Method == http.MethodPost:
		var in struct{ TableName string }
		if json.Unmarshal(text, &in) != nil || in.TableName == "" {
			a.refuse(w, http.StatusBadRequest, "InvalidInput", "no TableName")
			return
		}
		a.make(w, &a.tables, in.TableName, "TableAlreadyExists", http.StatusNoContent)
	case r.Method == http.MethodGet && r.URL.Path == "/" && query.Get("comp") == "list":
		a.listContainers(w, query.Get("marker"))
	case r.Method == http.MethodPut && query.Get("restype") == "container":
		a.make(w, &a.containers, strings.TrimPrefix(r.URL.Path, "/"), "ContainerAlreadyExists", http.StatusCreated)
	default:
		a.refuse(w, http.StatusBadRequest, "InvalidUri", "no such operation")
	}
}

// canonical is what SharedKey signs: little for tables, nearly all for blobs.
func (a *Azure) canonical(r *http.Request, table bool, length int) string {
	h := r.Header.Get
	if table {
		return strings.Join([]string{r.Method, h("Content-MD5"), h("Content-Type"), h("x-ms-date"), "/" + a.account + r.URL.EscapedPath()}, "\n")
	}
	size := ""
	if length > 0 {
		size = fmt.Sprint(length)
	}
	lines := []string{r.Method, h("Content-Encoding"), h("Content-Language"), size, h("Content-MD5"), h("Content-Type"), "",
		h("If-Modified-Since"), h("If-Match"), h("If-None-Match"), h("If-Unmodified-Since"), h("Range")}
	var named []string
	for name := range r.Header {
		if low := strings.ToLower(name); strings.HasPrefix(low, "x-ms-") {
			named = append(named, low+":"+h(name))
		}
	}
	slices.Sort(named)
	lines = append(append(lines, named...), "/"+a.account+r.URL.EscapedPath())
	named = nil
	for name, values := range r.URL.Query() {
		named = append(named, name+":"+strings.Join(values, ","))
	}
	slices.Sort(named)
	return strings.Join(append(lines, named...), "\n")
}

func (a *Azure) sign(text string) string {
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// serveSAS serves those who hold a shared access signature: reading and writing
// rows of a table, "/<table>", or reading, writing and listing blobs of a
// container, "/<container>[/<blob>]". A double need not keep what is written.
func (a *Azure) serveSAS(w http.ResponseWriter, r *http.Request, q url.Values) {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	var text, permission string
	if q.Has("tn") {
		text = strings.Join([]string{q.Get("sp"), q.Get("st"), q.Get("se"), "/table/" + a.account + "/" + strings.ToLower(name),
			q.Get("si"), q.Get("sip"), q.Get("spr"), q.Get("sv"), q.Get("spk"), q.Get("srk"), q.Get("epk"), q.Get("erk")}, "\n")
		permission = map[string]string{"GET": "r", "POST": "a", "PUT": "u", "DELETE": "d"}[r.Method]
		if q.Get("tn") != name {
			permission = ""
		}
	} else {
		text = strings.Join([]string{q.Get("sp"), q.Get("st"), q.Get("se"), "/blob/" + a.account + "/" + name,
			q.Get("si"), q.Get("sip"), q.Get("spr"), q.Get("sv"), q.Get("sr"), "",
			q.Get("rscc"), q.Get("rscd"), q.Get("rsce"), q.Get("rscl"), q.Get("rsct")}, "\n")
		permission = map[string]string{"GET": "r", "PUT": "w", "DELETE": "d"}[r.Method]
		if q.Get("comp") == "list" {
			permission = "l"
		}
	}
	start, e1 := time.Parse(time.RFC3339, q.Get("st"))
	end, e2 := time.Parse(time.RFC3339, q.Get("se"))
	switch {
	case !hmac.Equal([]byte(a.sign(text)), []byte(q.Get("sig"))):
		a.refuse(w, http.StatusForbidden, "AuthenticationFailed", "Signature did not match")
	case e1 != nil || e2 != nil || a.now().Before(start) || !a.now().Before(end):
		a.refuse(w, http.StatusForbidden, "AuthenticationFailed", "Signature not valid in the specified time frame")
	case permission == "" || !strings.Contains(q.Get("sp"), permission):
		a.refuse(w, http.StatusForbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission")
	case !slices.Contains(a.Tables(), name) && !slices.Contains(a.Containers(), name):
		a.refuse(w, http.StatusNotFound, "ResourceNotFound", "no "+name)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

func (a *Azure) make(w http.ResponseWriter, list *[]string, name, exists string, made int) {
	a.mu.Lock()
	there := slices.Contains(*list, name)
	if !there {
		*list = append(*list, name)
	}
	a.mu.Unlock()
	if there {
		a.refuse(w, http.StatusConflict, exists, name)
		return
	}
	w.WriteHeader(made)
}

// pageOf cuts a page out of a list, which is in order of names.
func (a *Azure) pageOf(list *[]string, from string) (names []string, next string) {
	all := a.names(list)
	slices.Sort(all)
	at, _ := slices.BinarySearch(all, from)
	names = all[at:]
	if len(names) > a.page {
		names, next = names[:a.page], names[a.page]
	}
	return names, next
}

func (a *Azure) listTables(w http.ResponseWriter, from string) {
	names, next := a.pageOf(&a.tables, from)
	rows := []map[string]string{}
	for _, name := range names {
		rows = append(rows, map[string]string{"TableName": name})
	}
	if next != "" {
		w.Header().Set("x-ms-continuation-NextTableName", next)
	}
	writeJSON(w, http.StatusOK, map[string]any{"value": rows})
}

func (a *Azure) listContainers(w http.ResponseWriter, from string) {
	type container struct{ Name string }
	var list struct {
		XMLName    xml.Name    `xml:"EnumerationResults"`
		Containers []container `xml:"Containers>Container"`
		NextMarker string
	}
	var names []string
	names, list.NextMarker = a.pageOf(&a.containers, from)
	for _, name := range names {
		list.Containers = append(list.Containers, container{name})
	}
	w.Header().Set("Content-Type", "application/xml")
	xml.NewEncoder(w).Encode(list)
}

func (a *Azure) refuse(w http.ResponseWriter, status int, code, message string) {
	a.note("%s: %s", code, message)
	w.Header().Set("x-ms-error-code", code)
	writeJSON(w, status, map[string]any{"odata.error": map[string]any{"code": code, "message": map[string]string{"value": message}}})
}

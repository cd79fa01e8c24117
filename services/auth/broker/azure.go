package broker

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/tcerr"
)

const (
	// sasBefore is by how much the clock of Azure may be behind, sasAfter is
	// for how long a signature lasts.
	sasBefore = 15 * time.Minute
	sasAfter  = 25 * time.Minute
	// azureVersion is the version of the storage services' protocol.
	azureVersion = "2019-02-02"
)

// Azure gives shared access signatures for tables and containers of storage
// accounts. It signs them with an account's key by itself; the account is asked
// only for lists, and to make what is to be written to.
//
// The requests and signatures are made here because Azure's own library comes
// as two modules, of which the one for tables can't always be had; what is
// needed are four requests and two signatures.
type Azure struct {
	accounts map[string]*azureAccount
	web      *http.Client
	clock    clock.Clock
}

// azureAccount is one element of the setting.
type azureAccount struct {
	Account       string      `json:"account"`
	Key           secret.Text `json:"key"`           // one of the two, in base64
	TableEndpoint string      `json:"tableEndpoint"` // Azure's own when empty
	BlobEndpoint  string      `json:"blobEndpoint"`  // likewise

	key []byte
}

// SAS is a shared access signature: what is to be added to the query of URLs.
type SAS struct {
	Query  string
	Expiry clock.Time
}

var azureAccountName = regexp.MustCompile(`^[a-z0-9]{3,24}$`)

func newAzure(text string, web *http.Client, c clock.Clock) (*Azure, error) {
	a := &Azure{accounts: map[string]*azureAccount{}, web: web, clock: c}
	if text == "" {
		return a, nil
	}
	var accounts []*azureAccount
	if err := parse(AzureSetting, text, &accounts); err != nil {
		return nil, err
	}
	for i, one := range accounts {
		if one == nil || !azureAccountName.MatchString(one.Account) || a.accounts[one.Account] != nil {
			return nil, fmt.Errorf("setting %s: element %d needs an account, 3 to 24 small letters and digits, that no other has", AzureSetting, i)
		}
		var err error
		if one.key, err = base64.StdEncoding.DecodeString(string(one.Key)); err != nil || len(one.key) == 0 {
			return nil, fmt.Errorf("setting %s: the key of %s is not one in base64", AzureSetting, one.Account)
		}
		if one.TableEndpoint, err = endpoint(AzureSetting, "tableEndpoint", one.TableEndpoint, "https://"+one.Account+".table.core.windows.net"); err != nil {
			return nil, err
		}
		if one.BlobEndpoint, err = endpoint(AzureSetting, "blobEndpoint", one.BlobEndpoint, "https://"+one.Account+".blob.core.windows.net"); err != nil {
			return nil, err
		}
		a.accounts[one.Account] = one
	}
	return a, nil
}

// Accounts are the names of the accounts, in order.
func (a *Azure) Accounts() []string {
	names := make([]string, 0, len(a.accounts))
	for name := range a.accounts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (a *Azure) account(name string) (*azureAccount, error) {
	if one := a.accounts[name]; one != nil {
		return one, nil
	}
	return nil, tcerr.New(tcerr.ResourceNotFound, "Account %s not found. The setting %s names the accounts that this deployment gives access to.", name, AzureSetting)
}

// Tables lists a page of the tables of an account. from is what the page before
// gave as next.
func (a *Azure) Tables(ctx context.Context, account, from string) (names []string, next string, err error) {
	one, err := a.account(account)
	if err != nil {
		return nil, "", err
	}
	query := url.Values{"$select": {"TableName"}}
	if from != "" {
		query.Set("NextTableName", from)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, one.TableEndpoint+"/Tables?"+query.Encode(), nil)
	if err != nil {
		return nil, "", err
	}
	said, err := a.askTables(one, r)
	if err != nil {
		return nil, "", err
	}
	if said.status == http.StatusBadRequest && from != "" {
		return nil, "", tcerr.New(tcerr.InputError, "Invalid continuation token")
	}
	if said.status != http.StatusOK {
		return nil, "", said.unexpected(azureCode(said))
	}
	var page struct {
		Value []struct{ TableName string } `json:"value"`
	}
	if err := said.decode(&page); err != nil {
		return nil, "", err
	}
	for _, t := range page.Value {
		names = append(names, t.TableName)
	}
	return names, said.header.Get("x-ms-continuation-NextTableName"), nil
}

// Containers lists a page of the containers of an account, likewise.
func (a *Azure) Containers(ctx context.Context, account, from string) (names []string, next string, err error) {
	one, err := a.account(account)
	if err != nil {
		return nil, "", err
	}
	query := url.Values{"comp": {"list"}, "maxresults": {"1000"}}
	if from != "" {
		query.Set("marker", from)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, one.BlobEndpoint+"/?"+query.Encode(), nil)
	if err != nil {
		return nil, "", err
	}
	said, err := a.askBlobs(one, r)
	if err != nil {
		return nil, "", err
	}
	if said.status == http.StatusBadRequest && from != "" {
		return nil, "", tcerr.New(tcerr.InputError, "Invalid continuation token")
	}
	if said.status != http.StatusOK {
		return nil, "", said.unexpected(azureCode(said))
	}
	var page struct {
		Containers []struct{ Name string } `xml:"Containers>Container"`
		NextMarker string
	}
	if err := xml.Unmarshal(said.body, &page); err != nil {
		return nil, "", fmt.Errorf("%s: the answer is not the XML that it should be", said.request)
	}
	for _, c := range page.Containers {
		names = append(names, c.Name)
	}
	return names, page.NextMarker, nil
}

// TableSAS signs access to a table: for reading it, and with write for changing
// its rows. With write the table is there afterwards.
func (a *Azure) TableSAS(ctx context.Context, account, table string, write bool) (SAS, error) {
	one, err := a.account(account)
	if err != nil {
		return SAS{}, err
	}
	permissions := "r"
	if write {
		permissions = "raud"
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, one.TableEndpoint+"/Tables", strings.NewReader(`{"TableName":"`+table+`"}`))
		if err != nil {
			return SAS{}, err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Prefer", "return-no-content")
		if err := made(a.askTables(one, r)); err != nil {
			return SAS{}, err
		}
	}
	return one.tableSAS(table, permissions, a.clock.Now()), nil
}

// ContainerSAS signs access to a container: for reading and listing its blobs,
// and with write for changing them. With write the container is there
// afterwards.
func (a *Azure) ContainerSAS(ctx context.Context, account, container string, write bool) (SAS, error) {
	one, err := a.account(account)
	if err != nil {
		return SAS{}, err
	}
	permissions := "rl"
	if write {
		permissions = "racwdl"
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, one.BlobEndpoint+"/"+container+"?restype=container", nil)
		if err != nil {
			return SAS{}, err
		}
		if err := made(a.askBlobs(one, r)); err != nil {
			return SAS{}, err
		}
	}
	return one.containerSAS(container, permissions, a.clock.Now()), nil
}

// made tells whether what was to be made is there.
func made(said *answer, err error) error {
	if err != nil {
		return err
	}
	if said.status == http.StatusCreated || said.status == http.StatusNoContent {
		return nil
	}
	switch code := azureCode(said); code {
	case "TableAlreadyExists", "ContainerAlreadyExists":
		return nil
	case "TableBeingDeleted", "ContainerBeingDeleted":
		return tcerr.New(tcerr.RequestConflict, "Azure is still deleting what had this name; try again in a minute")
	default:
		return said.unexpected(code)
	}
}

// azureCode is the name of an error. The table service gives it in the body.
func azureCode(a *answer) string {
	if code := a.header.Get("x-ms-error-code"); code != "" {
		return short(code)
	}
	var body struct {
		Error struct {
			Code string `json:"code"`
		} `json:"odata.error"`
	}
	if a.decode(&body) != nil {
		return ""
	}
	return short(body.Error.Code)
}

func (a *Azure) askTables(one *azureAccount, r *http.Request) (*answer, error) {
	r.Header.Set("x-ms-version", azureVersion)
	r.Header.Set("x-ms-date", a.clock.Now().Std().Format(http.TimeFormat))
	r.Header.Set("Accept", "application/json;odata=nometadata")
	r.Header.Set("DataServiceVersion", "3.0;NetFx")
	one.signTableRequest(r)
	return send(a.web, r)
}

func (a *Azure) askBlobs(one *azureAccount, r *http.Request) (*answer, error) {
	r.Header.Set("x-ms-version", azureVersion)
	r.Header.Set("x-ms-date", a.clock.Now().Std().Format(http.TimeFormat))
	one.signBlobRequest(r)
	return send(a.web, r)
}

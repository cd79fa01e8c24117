package brokertest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// STS is AWS's Security Token Service with the one method
// GetFederationToken.
type STS struct {
	double
	region, accessKeyID, secret string
	buckets                     []string

	policies map[string]*Policy // by session token
}

// NewSTS starts a double that knows one IAM user, who may do everything with
// the buckets. Credentials expire by now, time.Now when nil; the times of
// signatures are compared with the machine's clock, by which AWS's own library
// makes them.
func NewSTS(now func() time.Time, region string, buckets ...string) *STS {
	s := &STS{region: region, accessKeyID: "AKIADOUBLE", secret: random("aws/+"), buckets: buckets, policies: map[string]*Policy{}}
	s.start(now, s.serve)
	return s
}

// Setting is the value of aws-credentials-allowed-buckets.
func (s *STS) Setting() string {
	return setting([]map[string]any{{
		"accessKeyId": s.accessKeyID, "secretAccessKey": s.secret, "buckets": s.buckets, "region": s.region, "endpoint": s.URL(),
	}})
}

// Secret is the secret of the user.
func (s *STS) Secret() string { return s.secret }

// Policy is what credentials with a session token may do, nil if it is none.
func (s *STS) Policy(sessionToken string) *Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policies[sessionToken]
}

func (s *STS) serve(w http.ResponseWriter, r *http.Request) {
	text := body(r)
	if err := s.checkSignature(r, text); err != nil {
		s.refuse(w, http.StatusForbidden, "SignatureDoesNotMatch", err.Error())
		return
	}
	form, err := url.ParseQuery(string(text))
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/" || form.Get("Action") != "GetFederationToken" || form.Get("Version") != "2011-06-15" {
		s.refuse(w, http.StatusBadRequest, "InvalidAction", "no such action")
		return
	}
	name := form.Get("Name")
	if len(name) < 2 || len(name) > 32 {
		s.refuse(w, http.StatusBadRequest, "ValidationError", "Name has 2 to 32 characters")
		return
	}
	seconds, err := strconv.Atoi(form.Get("DurationSeconds"))
	if err != nil || seconds < 900 || seconds > 129600 {
		s.refuse(w, http.StatusBadRequest, "ValidationError", "DurationSeconds")
		return
	}
	if len(form.Get("Policy")) > 2048 {
		s.refuse(w, http.StatusBadRequest, "PackedPolicyTooLarge", "a policy of more than 2048 characters")
		return
	}
	policy, err := ParsePolicy(form.Get("Policy"))
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "MalformedPolicyDocument", err.Error())
		return
	}
	policy.Expires = s.now().Add(time.Duration(seconds) * time.Second).UTC().Truncate(time.Second)
	token := random("session/")
	s.mu.Lock()
	s.policies[token] = policy
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<GetFederationTokenResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetFederationTokenResult>`+
		`<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials>`+
		`<FederatedUser><Arn>arn:aws:sts::123456789012:federated-user/%s</Arn><FederatedUserId>123456789012:%s</FederatedUserId></FederatedUser>`+
		`</GetFederationTokenResult></GetFederationTokenResponse>`,
		"ASIADOUBLE", random("temporary/"), token, policy.Expires.Format(time.RFC3339), name, name)
}

func (s *STS) refuse(w http.ResponseWriter, status int, code, message string) {
	s.note("%s: %s", code, message)
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>`, code)
	xml.EscapeText(w, []byte(message))
	fmt.Fprint(w, `</Message></Error></ErrorResponse>`)
}

// checkSignature verifies version 4 of AWS's signatures.
func (s *STS) checkSignature(r *http.Request, payload []byte) error {
	fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return fmt.Errorf("no AWS4-HMAC-SHA256")
	}
	part := map[string]string{}
	for _, f := range strings.Split(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		part[name] = value
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 15*time.Minute {
		return fmt.Errorf("X-Amz-Date %q is not now", r.Header.Get("X-Amz-Date"))
	}
	scope := at.Format("20060102") + "/" + s.region + "/sts/aws4_request"
	if part["Credential"] != s.accessKeyID+"/"+scope {
		return fmt.Errorf("Credential %q is not for %s", part["Credential"], scope)
	}
	signed := strings.Split(part["SignedHeaders"], ";")
	if !slices.IsSorted(signed) || !slices.Contains(signed, "host") || !slices.Contains(signed, "x-amz-date") {
		return fmt.Errorf("SignedHeaders %q", signed)
	}
	sum := sha256.Sum256(payload)
	canonical := []string{r.Method, r.URL.EscapedPath(), r.URL.Query().Encode()}
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical = append(canonical, name+":"+strings.TrimSpace(value))
	}
	canonical = append(canonical, "", part["SignedHeaders"], hex.EncodeToString(sum[:]))
	hashed := sha256.Sum256([]byte(strings.Join(canonical, "\n")))
	key := []byte("AWS4" + s.secret)
	for _, step := range strings.Split(scope, "/") {
		key = mac(key, step)
	}
	want := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+r.Header.Get("X-Amz-Date")+"\n"+scope+"\n"+hex.EncodeToString(hashed[:])))
	if !hmac.Equal([]byte(want), []byte(part["Signature"])) {
		return fmt.Errorf("the signature is not of this request and this secret")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

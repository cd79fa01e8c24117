package docs

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"testing"
)

// trusting is a transport that trusts the certificate in a file.
func trusting(t *testing.T, file string) http.RoundTripper {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s has no certificate", file)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
}

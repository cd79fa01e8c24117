// Package cacert reads which certificate authorities a setting's URL trusts.
package cacert

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
)

// Pool has the certificates in the file, in PEM, that the query parameter
// cacertfile names. It is nil, which stands for the system's, without that
// parameter. Other parameters are refused by name.
func Pool(query url.Values) (pool *x509.CertPool, err error) {
	for name, values := range query {
		if name != "cacertfile" {
			return nil, fmt.Errorf("its parameter %.50q is not known; there is cacertfile", name)
		}
		pem, err := os.ReadFile(values[0])
		if err != nil {
			return nil, err
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificates", values[0])
		}
	}
	return pool, nil
}

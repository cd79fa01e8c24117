package amqp

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

// secure is the URL of the broker in TLS at an address, with the file of an
// authority or none.
func secure(addr, ca string) string {
	u := "amqps://guest:guest@" + addr + "/"
	if ca != "" {
		u += "?cacertfile=" + url.QueryEscape(ca)
	}
	return u
}

// Who knows the broker's authority mirrors by TLS, and goes on after the loss of
// the connection.
func TestTLS(t *testing.T) {
	proxy := testenv.StartProxy(t, server.TLSAddr)
	w := newWorldWith(t, secure(proxy.Addr, server.CA))
	w.start()
	w.publish(3000)
	eventually(t, "some are mirrored", func() bool { return w.relay.Published() > 0 })
	eventually(t, "the broker knows the relay's connection, as one in TLS", func() bool {
		var connections []struct {
			TLS    bool `json:"ssl"`
			Client struct {
				Name string `json:"connection_name"`
			} `json:"client_properties"`
		}
		manage(t, "GET", "connections", nil, &connections)
		for _, c := range connections {
			if c.Client.Name == "taskcluster relay" && c.TLS {
				return true
			}
		}
		return false
	})
	proxy.Cut()
	w.publish(500)
	t.Logf("%d messages came again", w.drain())
}

// A broker that proves nothing, or to be another one, is told nothing: neither
// a password nor an event. What the relay logs is what the check says, and what
// waited is mirrored when the URL was mended.
func TestTLSRefused(t *testing.T) {
	_, port, err := net.SplitHostPort(server.TLSAddr)
	if err != nil {
		t.Fatal(err)
	}
	ca, _, _, err := testenv.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(other, []byte(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url  string
		says []string
	}{
		"no authority": {secure(server.TLSAddr, ""), []string{server.TLSAddr, "by an authority that this machine does not know", "add ?cacertfile="}},
		"another's":    {secure(server.TLSAddr, other), []string{server.TLSAddr, "by an authority that this machine does not know", "add ?cacertfile="}},
		"another name": {secure("localhost:"+port, server.CA), []string{"localhost:" + port, `is for "127.0.0.1" and not for localhost`, "write a name that it is for"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldWith(t, c.url)
			w.start()
			w.publish(100)
			line := func() string {
				for l := range strings.Lines(w.logs.String()) {
					if strings.Contains(l, "cannot be mirrored") {
						return l
					}
				}
				return ""
			}
			eventually(t, "the log says so", func() bool { return line() != "" })
			for _, text := range c.says {
				if quoted := strconv.Quote(text); !strings.Contains(line(), quoted[1:len(quoted)-1]) {
					t.Errorf("%q is not in: %s", text, line())
				}
			}
			checked := Check(t.Context(), c.url, w.exchanges)
			if checked == nil || !strings.Contains(line(), strconv.Quote(checked.Error())) {
				t.Errorf("the check says: %v\nthe log: %s", checked, line())
			}
			if w.relay.Connected() || w.relay.Published() != 0 {
				t.Error("it mirrors all the same")
			}
			w.stopRelay()
			if strings.Contains(w.logs.String(), "guest") {
				t.Errorf("the user or the password is in the log:\n%s", w.logs)
			}
			w.connectTo(secure(server.TLSAddr, server.CA))
			w.start()
			if again := w.drain(); again != 0 {
				t.Errorf("%d messages came again", again)
			}
		})
	}
}

package app

import (
	"strings"
	"testing"
)

// TestPulseSettings: what is wrong with them is told by the setting's name, before
// anything is served, and no password is repeated.
func TestPulseSettings(t *testing.T) {
	const management, clients = "http://user:s3cret@127.0.0.1:1", "amqps://127.0.0.1:1/vhost"
	for name, c := range map[string]struct {
		names string
		env   map[string]string
	}{
		"no user":              {"pulse-management-url", map[string]string{"PULSE_MANAGEMENT_URL": "http://s3cret@host"}},
		"no URL":               {"pulse-management-url", map[string]string{"PULSE_MANAGEMENT_URL": "s3cret"}},
		"nowhere to connect":   {"pulse-amqp-url", map[string]string{"PULSE_AMQP_URL": ""}},
		"a user for clients":   {"pulse-amqp-url", map[string]string{"PULSE_AMQP_URL": "amqp://user:s3cret@host"}},
		"two parts of a vhost": {"pulse-amqp-url", map[string]string{"PULSE_AMQP_URL": "amqp://host/a/b"}},
		"another protocol":     {"pulse-amqp-url", map[string]string{"PULSE_AMQP_URL": "http://host"}},
		"a pattern":            {"pulse-namespace-prefix", map[string]string{"PULSE_NAMESPACE_PREFIX": ".*"}},
		"a slash":              {"pulse-username-prefix", map[string]string{"PULSE_USERNAME_PREFIX": "a/b"}},
		"no sender":            {"mail-from", map[string]string{"SMTP_URL": "smtp://user:s3cret@host"}},
		"no mail server":       {"smtp-url", map[string]string{"MAIL_FROM": "ci@example.com"}},
		"no mail URL":          {"smtp-url", map[string]string{"SMTP_URL": "s3cret", "MAIL_FROM": "ci@example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"TASKCLUSTER_PULSE_MANAGEMENT_URL": management, "TASKCLUSTER_PULSE_AMQP_URL": clients}
			for setting, value := range c.env {
				env["TASKCLUSTER_"+setting] = value
			}
			a, err := open(t, settings(t, t.TempDir(), env))
			if err == nil {
				a.close()
				t.Fatal("the settings are taken")
			}
			if !strings.Contains(err.Error(), "setting "+c.names) || strings.Contains(err.Error(), "s3cret") {
				t.Error(err)
			}
		})
	}
}

// TestPulseBroker: what clients are told is what the mirror is told, without its
// user, unless it is set; and the deployment's own names are in no namespace.
func TestPulseBroker(t *testing.T) {
	s := settings(t, t.TempDir(), map[string]string{
		"TASKCLUSTER_PULSE_MANAGEMENT_URL": "http://user:s3cret@127.0.0.1:1", "TASKCLUSTER_AMQP_URL": "amqps://mirror:s3cret@host:5671/a%2Fb?heartbeat=1",
	})
	b, err := pulseBroker(s)
	if err != nil || b.AMQP.String() != "amqps://host:5671/a%2Fb" || b.NamespacePrefix != "pulse-" || b.UserPrefix != "" {
		t.Errorf("%+v %v", b, err)
	}
	other := "amqp://public:1234"
	s.PulseAMQP = &other
	if b, err = pulseBroker(s); err != nil || b.AMQP.String() != other {
		t.Errorf("%+v %v", b, err)
	}
	s.PulseManagement = nil
	if b, err = pulseBroker(s); b != nil || err != nil {
		t.Errorf("%+v %v", b, err)
	}
	reserved := strings.Join(reservedNamespaces((&App{}).services()), " ")
	for _, name := range []string{"taskcluster-relay", "taskcluster-queue", "taskcluster-auth", "taskcluster-purge-cache", "taskcluster-pulse"} {
		if !strings.Contains(reserved+" ", name+" ") {
			t.Errorf("%s is not reserved: %s", name, reserved)
		}
	}
}

package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"taskcluster/internal/api"
	"taskcluster/internal/config"
	"taskcluster/internal/mail"
	"taskcluster/internal/obs"
	"taskcluster/internal/store/keyring"
	"taskcluster/services/pulse"
	"taskcluster/services/pulse/management"
)

// newPulse makes the pulse service. The queues and exchanges of the deployment's
// own services are in no namespace.
func (a *App) newPulse(keys *keyring.Keyring) (*pulse.Service, error) {
	cfg := pulse.Config{Store: a.store, Keys: keys, Logger: a.log}
	var err error
	if cfg.Broker, err = pulseBroker(a.settings); err != nil {
		return nil, err
	}
	if cfg.Broker != nil {
		cfg.Broker.Reserved = reservedNamespaces(a.services())
	}
	mailer, err := newMailer(a.settings)
	if err != nil {
		return nil, err
	}
	if mailer != nil {
		cfg.Mail = mailer
	}
	return pulse.New(cfg)
}

// reservedNamespaces are the names by which the deployment's own queues and
// exchanges on the mirror's broker go.
func reservedNamespaces(services []api.Service) []string {
	names := []string{"taskcluster-relay"}
	for _, s := range services {
		names = append(names, "taskcluster-"+s.Name)
	}
	return names
}

// pulseBroker is the RabbitMQ whose users are lent; nil if none is set.
func pulseBroker(settings config.Settings) (*pulse.Broker, error) {
	if settings.PulseManagement == nil {
		return nil, nil
	}
	b := &pulse.Broker{NamespacePrefix: *settings.PulsePrefix}
	if settings.PulseUserPrefix != nil {
		b.UserPrefix = *settings.PulseUserPrefix
	}
	if err := pulse.CheckPrefix(b.NamespacePrefix); err != nil {
		return nil, fmt.Errorf("setting %s: %w", pulse.PrefixSetting, err)
	}
	if err := pulse.CheckUserPrefix(b.UserPrefix); err != nil {
		return nil, fmt.Errorf("setting %s: %w", pulse.UserSetting, err)
	}
	var err error
	if b.Management, err = management.New(string(*settings.PulseManagement)); err != nil {
		return nil, fmt.Errorf("setting %s: %w", pulse.ManagementSetting, err)
	}
	if b.AMQP, err = pulseAMQP(settings); err != nil {
		return nil, fmt.Errorf("setting %s: %w", pulse.AMQPSetting, err)
	}
	return b, nil
}

// pulseAMQP is where clients connect: as was set, or where the mirror does.
func pulseAMQP(settings config.Settings) (*url.URL, error) {
	var u *url.URL
	var err error
	switch {
	case settings.PulseAMQP != nil:
		u, err = url.Parse(*settings.PulseAMQP)
	case settings.AMQPURL != nil:
		if u, err = url.Parse(string(*settings.AMQPURL)); err == nil {
			u.User, u.RawQuery = nil, ""
		}
	default:
		return nil, fmt.Errorf("it is needed with %s, where amqp-url is not set", pulse.ManagementSetting)
	}
	if err != nil {
		u = new(url.URL) // the error of Parse repeats the URL, which may hold a password
	}
	return u, pulse.CheckAMQP(u)
}

// newMailer is what sends mails; nil if no server is set.
func newMailer(settings config.Settings) (*mail.Mailer, error) {
	switch {
	case settings.SMTPURL == nil && settings.MailFrom == nil:
		return nil, nil
	case settings.SMTPURL == nil:
		return nil, errors.New("setting smtp-url: mail-from is set, and mails need a server")
	case settings.MailFrom == nil:
		return nil, errors.New("setting mail-from: smtp-url is set, and mails need a sender")
	}
	m, err := mail.New(string(*settings.SMTPURL), *settings.MailFrom)
	if err != nil {
		return nil, fmt.Errorf("setting smtp-url or mail-from: %w", err)
	}
	return m, nil
}

func (a *App) pulseFigures() ([]*obs.Family, func(emitter)) {
	namespaces := &obs.Family{Name: "taskcluster_pulse_namespaces", Help: "Namespaces of RabbitMQ that are claimed."}
	behind := &obs.Family{Name: "taskcluster_pulse_behind_namespaces", Help: "Namespaces of which RabbitMQ may not know what is stored."}
	mails := &obs.Family{Name: "taskcluster_pulse_waiting_mails", Help: "Mails about queues that wait to be sent."}
	failures := &obs.Family{Name: "taskcluster_pulse_monitor_failures_total", Help: "Looks at RabbitMQ that have failed in this process.", Counter: true}
	return []*obs.Family{namespaces, behind, mails, failures}, func(emit emitter) {
		emit(failures, float64(a.pulse.MonitorFailures()))
		a.figure("the namespaces of RabbitMQ", func(ctx context.Context) error {
			f, err := a.pulse.Figures(ctx)
			if err == nil {
				emit(namespaces, float64(f.Namespaces))
				emit(behind, float64(f.Behind))
				emit(mails, float64(f.Mails))
			}
			return err
		})
	}
}

// pulse looks whether users of RabbitMQ can be lent. It changes nothing there.
func (c *checking) pulse(ctx context.Context) (Status, string) {
	broker, err := pulseBroker(c.settings)
	if err != nil {
		return Fail, sentence(err)
	}
	if broker == nil {
		return OK, "There is no pulse-management-url: the pulse service lends no users of RabbitMQ."
	}
	defer broker.Management.Close()
	if err := broker.Check(ctx); err != nil {
		return Fail, sentence(err)
	}
	return OK, "RabbitMQ's management API answers, and its user may make users and delete what they leave."
}

// mail looks whether the mail server takes mails. None is sent.
func (c *checking) mail(ctx context.Context) (Status, string) {
	mailer, err := newMailer(c.settings)
	if err != nil {
		return Fail, sentence(err)
	}
	if mailer == nil {
		return OK, "There is no smtp-url: no mails are sent, and what needs them is refused."
	}
	if err := mailer.Check(ctx); err != nil {
		return Fail, sentence(err) + " See smtp-url, and that this machine may connect to it."
	}
	return OK, "The mail server answers, and lets this deployment in."
}

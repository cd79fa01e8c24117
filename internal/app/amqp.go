package app

import (
	"fmt"

	"taskcluster/internal/events/amqp"
	"taskcluster/internal/obs"
)

// newRelay makes the mirror of the event log in RabbitMQ, if one is set.
func (a *App) newRelay() error {
	connected := &obs.Family{Name: "taskcluster_amqp_relay_held", Help: "1 while this process mirrors events to RabbitMQ; of several processes one does."}
	published := &obs.Family{Name: "taskcluster_amqp_published_total", Help: "Events that RabbitMQ has confirmed to this process.", Counter: true}
	a.metrics.Publish([]*obs.Family{connected, published}, func(emit emitter) {
		if a.relay == nil {
			emit(connected, 0)
			emit(published, 0)
			return
		}
		up := 0.0
		if a.relay.Connected() {
			up = 1
		}
		emit(connected, up)
		emit(published, float64(a.relay.Published()))
	})
	if a.settings.AMQPURL == nil {
		return nil
	}
	var err error
	a.relay, err = amqp.New(amqp.Config{Log: a.events, Logger: a.log, URL: string(*a.settings.AMQPURL), Exchanges: a.exchanges()})
	if err != nil {
		return fmt.Errorf("setting amqp-url: %w", err)
	}
	return nil
}

// exchanges are those of all services: whichever process mirrors does it for all.
func (a *App) exchanges() (names []string) {
	for _, s := range a.services() {
		for _, x := range s.Exchanges {
			names = append(names, "exchange/taskcluster-"+s.Name+"/v1/"+x.Name)
		}
	}
	return names
}

package events

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/events"
	"taskcluster/internal/tcerr"
)

// visit is one connection, from when it is let in. Parked, it is one goroutine
// that waits for its end: what there is to send is sent by another that lives no
// longer than that takes. What the server kept for the request is gone.
type visit struct {
	service *Service
	caller  string // in the slots
	session *api.Session
	after   events.Position
	every   time.Duration // from ping to ping
	once    bool          // it ends when all that was published is sent

	sub  *subscriber
	out  line
	ctx  context.Context // ends with the connection
	ping *time.Timer

	calls atomic.Int64 // to look for what there is to do; who makes it 1 has it done
	due   atomic.Bool  // a ping
}

// line speaks to a subscriber in the words of his protocol. What it returns an
// error for did not reach him, and ends the visit.
type line interface {
	ready(after events.Position) error
	messages(list []*message) error
	lost() error // what was published before the messages that follow may be gone
	slow() error // what follows comes from the log
	ping(place events.Position) error

	// The ends: for a reason that another try would meet again, for trouble of
	// ours, and because another node will do.
	refuse(why string)
	broken()
	goAway()

	hangUp()
}

// in runs a part of the visit. A panic in it ends this visit and nothing else.
func (v *visit) in(part func()) {
	defer func() {
		if p := recover(); p != nil {
			v.service.logger.Error("a connection of a subscriber panicked, and ended", "caller", v.caller, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	part()
}

// stay serves until listen returns, which it does when the connection ends.
func (v *visit) stay(bindings []events.Binding, out line, listen func()) {
	defer out.hangUp()
	v.out = out
	v.sub = v.service.hub.subscribe(v.after, bindings, v.call)
	defer v.sub.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	v.ctx = ctx
	if out.ready(v.after) != nil {
		return
	}
	v.calls.Store(1) // nobody works before all is here
	v.ping = time.AfterFunc(v.every, func() {
		v.due.Store(true)
		v.call()
	})
	defer v.ping.Stop()
	stop := context.AfterFunc(v.service.stopping, v.call)
	defer stop()
	go v.in(v.work)
	listen()
}

// call has the visit look for what there is to do, and does not wait for it.
func (v *visit) call() {
	if v.calls.Add(1) == 1 {
		go v.in(v.work)
	}
}

// work does what there is to do, also for calls that come meanwhile. When the
// visit is over, or it panics, it answers no further call.
func (v *visit) work() {
	over := true
	defer func() {
		if over {
			v.out.hangUp()
		}
	}()
	for {
		calls := v.calls.Load()
		if !v.step() {
			return
		}
		if v.calls.CompareAndSwap(calls, 0) {
			over = false
			return
		}
	}
}

// step sends what there is, and tells whether the visit goes on.
func (v *visit) step() bool {
	if v.ctx.Err() != nil {
		return false
	}
	if v.service.stopping.Err() != nil {
		v.out.goAway()
		return false
	}
	if v.due.Swap(false) {
		if why := v.refusal(v.sub.bound()); why != "" {
			v.out.refuse(why)
			return false
		}
		if v.out.ping(v.sub.place()) != nil {
			return false
		}
		v.ping.Reset(v.every)
	}
	n, caught, err := v.sub.next(v.ctx)
	if err != nil {
		if v.ctx.Err() == nil {
			v.service.logger.Error("the event log cannot be read for a subscriber", "error", err)
			v.out.broken()
		}
		return false
	}
	if n.lost && v.out.lost() != nil || len(n.messages) > 0 && v.out.messages(n.messages) != nil || n.slow && v.out.slow() != nil {
		return false
	}
	return !caught || !v.once
}

// refusal is why the caller may not listen to the bindings now. When that cannot
// be found out, he goes on, and it is looked at again.
func (v *visit) refusal(bindings []events.Binding) string {
	err := v.session.Authorize(v.ctx, exchanges(bindings))
	if why, refused := refused(err); refused {
		return why
	}
	if err != nil && v.ctx.Err() == nil {
		v.service.logger.Error("it cannot be found out whether a subscriber may still listen", "caller", v.caller, "error", err)
	}
	return ""
}

// refused tells whether an error is an answer to the caller, and which.
func refused(err error) (why string, is bool) {
	var e *tcerr.Error
	if errors.As(err, &e) && e.Code != tcerr.InternalServerError {
		return e.Message, true
	}
	return "", false
}

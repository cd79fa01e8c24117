package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// subscribers measures what many parked subscribers to events cost, and how long
// after a task is created the last of some hundred hears of it. mark is what is
// read when a subscription holds.
func (b *bench) subscribers(ctx context.Context, path, mark string) (*Subscribers, error) {
	before, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range b.Subscribers {
		// Each follows a task of his own, as pages of tasks do.
		c, _, err := b.subscribe(ctx, path, fmt.Sprintf("primary.subscriber-%d.#", i), mark)
		if err != nil {
			return nil, fmt.Errorf("subscriber %d: %w", i+1, err)
		}
		conns = append(conns, c)
	}
	after, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	out := &Subscribers{Subscribers: b.Subscribers, Memory: int64(after[resident]), Growth: int64(after[resident] - before[resident])}
	out.Heard, err = b.heard(ctx, path, mark)
	return out, err
}

// listeners is how many subscribers hear of each created task.
const listeners = 100

// heard measures from before a task is created until all listeners were told.
func (b *bench) heard(ctx context.Context, path, mark string) (Latency, error) {
	creator, err := b.dial()
	if err != nil {
		return Latency{}, err
	}
	defer creator.c.Close()
	lines := make([]*bufio.Reader, listeners)
	for i := range lines {
		c, r, err := b.subscribe(ctx, path, "#", mark)
		if err != nil {
			return Latency{}, err
		}
		defer c.Close()
		lines[i] = r
	}
	def := b.definition()
	var took []time.Duration
	for began := time.Now(); time.Since(began) < b.Duration && ctx.Err() == nil; {
		var all sync.WaitGroup
		failed := make(chan error, listeners)
		for _, r := range lines {
			all.Go(func() { failed <- until(r, `"exchange":"exchange/taskcluster-queue/v1/task-defined"`) })
		}
		sent := time.Now()
		if err := b.createOne(creator, def); err != nil {
			return Latency{}, err
		}
		all.Wait()
		took = append(took, time.Since(sent))
		close(failed)
		for err := range failed {
			if err != nil {
				return Latency{}, err
			}
		}
	}
	return latency(took), ctx.Err()
}

// subscribe opens a connection that follows a pattern of task-defined.
func (b *bench) subscribe(ctx context.Context, path, pattern, mark string) (net.Conn, *bufio.Reader, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", b.root.Host)
	if err != nil {
		return nil, nil, err
	}
	bindings := fmt.Sprintf(`{"bindings":[{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKeyPattern":%q}]}`, pattern)
	key := make([]byte, 16)
	rand.Read(key)
	request := "GET " + path + "?bindings=" + url.QueryEscape(bindings) + " HTTP/1.1\r\nHost: " + b.root.Host + "\r\n"
	if strings.HasSuffix(path, "/socket") {
		request += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(key) + "\r\n"
	}
	r := bufio.NewReaderSize(c, 4<<10)
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err = io.WriteString(c, request+"\r\n"); err == nil {
		err = until(r, mark)
	}
	c.SetDeadline(time.Time{})
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, r, nil
}

// until reads as far as a text.
func until(r *bufio.Reader, text string) error {
	for matched := 0; matched < len(text); {
		c, err := r.ReadByte()
		if err != nil {
			return err
		}
		switch c {
		case text[matched]:
			matched++
		case text[0]:
			matched = 1
		default:
			matched = 0
		}
	}
	return nil
}

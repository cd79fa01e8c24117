package events

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"taskcluster/internal/events"
)

// Subscribers come and go at random while messages are published, and resume
// where they were: each gets exactly what fits, in order, whether it was handed
// to him live, waited in his queue, or was read from the log.
func TestNothingIsMissedOrRepeated(t *testing.T) {
	d := deploy(t)
	const messages, subscribers = 3000, 12
	start := d.log.Head()
	last := "b end"
	var all sync.WaitGroup
	for i := range subscribers {
		random := rand.New(rand.NewPCG(uint64(i), 7))
		pattern := []string{"#", "1.#", "*.2", "#.3"}[i%4]
		bindings := []events.Binding{{Exchange: "a", Pattern: pattern}, {Exchange: "a", Pattern: "1.2"}, {Exchange: "b", Pattern: "#"}}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			var got []string
			at := start
			for len(got) == 0 || got[len(got)-1] != last {
				wake := make(chan struct{}, 1)
				sub := d.service.hub.subscribe(at, bindings, func() {
					select {
					case wake <- struct{}{}:
					default:
					}
				})
				for range random.IntN(20) {
					n, wait, err := sub.next(ctx)
					if err != nil || n.lost {
						t.Error(err, n.lost)
						return
					}
					for _, m := range n.messages {
						got = append(got, textOf(t, m.body))
						at = m.position
					}
					if len(got) > 0 && got[len(got)-1] == last {
						break
					}
					if wait {
						select {
						case <-wake:
						case <-ctx.Done():
							t.Error("nothing came")
							return
						}
					}
				}
				sub.close()
			}
			var want []string
			for n := range messages {
				if key := keyOf(n); events.Match(pattern, key) || key == "1.2" {
					want = append(want, fmt.Sprintf("a %s", key))
				}
			}
			if want = append(want, last); !slices.Equal(got, want) {
				t.Errorf("%s: %d messages, want %d; the first difference is at %d", pattern, len(got), len(want), differ(got, want))
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := 0; n < messages; {
		var list []string
		for range 1 + random.IntN(40) {
			if n < messages {
				list = append(list, "a "+keyOf(n))
				n++
			}
		}
		d.publish(list...)
	}
	d.publish(last)
	all.Wait()
	d.service.hub.mu.Lock()
	defer d.service.hub.mu.Unlock()
	if d.service.hub.count != 0 || len(d.service.hub.live) != 0 {
		t.Errorf("%d subscribers are left, %d exchanges", d.service.hub.count, len(d.service.hub.live))
	}
}

func keyOf(n int) string { return strings.TrimSpace(fmt.Sprintf("%d.%d", n%3, n/3%5)) }

func differ(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

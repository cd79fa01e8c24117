package amqp

import (
	"testing"
	"time"
)

// BenchmarkRelay mirrors a backlog into a durable queue. It reports messages per
// second, each confirmed and its place in the log saved.
func BenchmarkRelay(b *testing.B) {
	w := newWorld(b, server.Addr)
	w.publish(b.N)
	b.ResetTimer()
	w.start()
	for w.relay.Published() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

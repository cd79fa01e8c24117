package bench

import "testing"

func TestMedian(t *testing.T) {
	report := func(before, after string, perSecond float64, operations int64, p99 float64) *Report {
		return &Report{LoadAverage: [2]string{before, after}, Clients: 32, Status: &Throughput{
			PerSecond: perSecond, Operations: operations, Millis: map[string]Latency{"status": {P99: p99}},
		}}
	}
	m, err := Median([]*Report{report("a", "b", 30, 1, 5), report("c", "d", 10, 3, 4), report("e", "f", 20, 2, 6)})
	if err != nil {
		t.Fatal(err)
	}
	if m.LoadAverage != [2]string{"a", "f"} || m.Runs != 3 || m.Clients != 32 || m.CreateTask != nil {
		t.Errorf("%+v", m)
	}
	if s := m.Status; s.PerSecond != 20 || s.Operations != 2 || s.Millis["status"].P99 != 5 {
		t.Errorf("%+v", s)
	}
}

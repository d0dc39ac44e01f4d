package telemetry

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

// show scrapes peers and returns the values by AWX's names.
func (a *awxPeers) show(t *testing.T, peers ...backplane.Peer) map[string]float64 {
	t.Helper()
	ch := make(chan prometheus.Metric, 100)
	a.collect(peers, ch)
	close(ch)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(replay(ch))
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "{" + l.GetName() + "=" + l.GetValue() + "}"
			}
			values[name] = m.GetGauge().GetValue()
			if f.GetType() == dto.MetricType_COUNTER {
				values[name] = m.GetCounter().GetValue()
			}
		}
	}
	return values
}

// replay is a collector of metrics that were collected before.
type replay chan prometheus.Metric

func (replay) Describe(chan<- *prometheus.Desc) {}

func (r replay) Collect(ch chan<- prometheus.Metric) {
	for m := range r {
		ch <- m
	}
}

// Counters continue across reconnects, the state follows, and the rate covers the last minute.
func TestAWXMetricsSurviveReconnects(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	a := newAWXPeers()
	a.now = func() time.Time { return now }
	began := now
	peer := func(state backplane.State, frames uint64) backplane.Peer {
		return backplane.Peer{URL: "https://awx-1.example.com:443", State: state, Since: began, FramesIn: frames}
	}
	const name = "awx_awx_1_example_com"
	expect := func(got map[string]float64, total, current, minute, connected float64) {
		t.Helper()
		for suffix, want := range map[string]float64{
			"_messages_received_total": total, "_messages_received_currrent_conn": current,
			"_messages_received_per_minute":                     minute,
			"_connection{" + name + "_connection=connected}":    connected,
			"_connection{" + name + "_connection=disconnected}": 1 - connected,
			"_connection_start":                                 connected * float64(began.Unix()),
		} {
			if v, ok := got[name+suffix]; !ok || v != want {
				t.Errorf("%s%s is %v, want %v; all: %v", name, suffix, v, want, got)
			}
		}
	}
	expect(a.show(t, peer(backplane.StateConnected, 0)), 0, 0, 0, 1)
	for i := range uint64(8) { // two messages a second
		now = now.Add(15 * time.Second)
		total := float64(30 * (i + 1))
		expect(a.show(t, peer(backplane.StateConnected, 30*(i+1))), total, total, min(120, total), 1)
	}
	now = now.Add(10 * time.Second) // between two samples
	expect(a.show(t, peer("retrying", 0)), 240, 0, 100, 0)
	began = now
	expect(a.show(t, peer(backplane.StateConnected, 5)), 245, 5, 105, 1)
	got := a.show(t, backplane.Peer{Address: "10.0.0.7:4711", State: backplane.StateConnected, FramesIn: 3})
	if got["awx_10_0_0_7_messages_received_total"] != 3 || len(a.peers) != 1 {
		t.Errorf("a peer that dials: %v; %d hosts are kept, want 1", got, len(a.peers))
	}
}

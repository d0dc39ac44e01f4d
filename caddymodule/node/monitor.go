package node

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay/hub"
)

const (
	// SampleInterval is the time between two samples; historySize is the number of samples kept.
	SampleInterval = time.Second
	historySize    = 120
	// lagSamples is the number of samples that the reported lag covers.
	lagSamples = 30
)

// Monitor samples the hub's metrics once a second, so that rates and their history are available on request. All
// methods are safe for concurrent use.
type Monitor struct {
	hub  *hub.Hub
	stop func()

	mu      sync.Mutex
	last    hub.Stats
	history []Sample  // the oldest first
	lags    []hub.Lag // as many as lagOver, the oldest first
	// repairs is the number of restored memberships; repairedAt is the time of the last change.
	repairs    uint64
	repairedAt time.Time

	onSample []func(now time.Time)

	measuring sync.Mutex
	measured  time.Time // the time of the last measurement of groups
}

// Sample is the state of the hub at the end of a second, and the rates within it.
type Sample struct {
	// Connections is the number of open connections.
	Connections int `json:"connections"`
	// Groups is the number of groups with a subscriber.
	Groups int `json:"groups"`
	// Events, Deliveries, Bytes and Dropped are rates per second.
	Events float64 `json:"events"`
	// Deliveries counts each event once for each of its receivers.
	Deliveries float64 `json:"deliveries"`
	// Bytes counts the bytes of these deliveries.
	Bytes float64 `json:"bytes"`
	// Dropped counts the deliveries that failed, and the events that no browser could read.
	Dropped float64 `json:"dropped"`
	// Lag is the 99th percentile of the second's deliveries, from emitter to socket, in seconds; 0 without deliveries.
	Lag float64 `json:"lag"`
}

// LagQuantiles are quantiles of the time from emitter to socket, in seconds: upper bounds of a histogram's buckets.
type LagQuantiles struct {
	// P50 is the median.
	P50 float64 `json:"p50"`
	// P99 is the 99th percentile.
	P99 float64 `json:"p99"`
}

// newMonitor starts to sample a hub's metrics.
func newMonitor(hub *hub.Hub) *Monitor {
	m := &Monitor{hub: hub, last: hub.Stats(), measured: time.Now()}
	tick, done, ended := time.NewTicker(SampleInterval), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		before := time.Now()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := time.Now()
			m.sample(now, now.Sub(before))
			m.mu.Lock()
			also := m.onSample
			m.mu.Unlock()
			for _, f := range also {
				f(now)
			}
			before = now
		}
	}()
	m.stop = sync.OnceFunc(func() {
		tick.Stop()
		close(done)
		<-ended
	})
	return m
}

// OnSample registers f to be called after each sample, on the monitor's goroutine.
func (m *Monitor) OnSample(f func(now time.Time)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onSample = append(m.onSample[:len(m.onSample):len(m.onSample)], f)
}

func (m *Monitor) sample(now time.Time, elapsed time.Duration) {
	s := m.hub.Stats()
	var repairs uint64
	if b := m.hub.Broker(); b != nil {
		repairs = b.Health().Repairs
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if repairs > m.repairs {
		m.repairedAt = now
	}
	m.repairs = repairs
	rate := func(after, before uint64) float64 { return float64(after-before) / elapsed.Seconds() }
	l := m.last
	m.last = s
	if len(m.lags) == lagSamples {
		m.lags = append(m.lags[:0], m.lags[1:]...)
	}
	m.lags = append(m.lags, s.Lag)
	if len(m.history) == historySize {
		m.history = append(m.history[:0], m.history[1:]...)
	}
	m.history = append(m.history, Sample{
		Connections: s.Sessions, Groups: s.Groups,
		Events:     rate(s.EventsFromLayer+s.EventsFromPeers, l.EventsFromLayer+l.EventsFromPeers),
		Deliveries: rate(s.Deliveries, l.Deliveries),
		Bytes:      rate(s.Bytes, l.Bytes),
		Dropped:    rate(s.Missed+s.Invalid, l.Missed+l.Invalid),
		Lag:        quantile(&s.Lag, &l.Lag, 0.99),
	})
}

// History returns the samples, oldest first, and the time of the last restored membership.
func (m *Monitor) History() (history []Sample, repairedAt time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Sample{}, m.history...), m.repairedAt
}

// Latest returns the newest sample.
func (m *Monitor) Latest() Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.history) == 0 {
		return Sample{Connections: m.last.Sessions, Groups: m.last.Groups}
	}
	return m.history[len(m.history)-1]
}

// Lag returns the quantiles of the last half minute.
func (m *Monitor) Lag() LagQuantiles {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.lags) == 0 {
		return LagQuantiles{}
	}
	return LagQuantiles{quantile(&m.last.Lag, &m.lags[0], 0.5), quantile(&m.last.Lag, &m.lags[0], 0.99)}
}

// quantile returns the quantile q of the deliveries between two histograms: the upper bound of the bucket, in seconds,
// or 0 without deliveries.
func quantile(after, before *hub.Lag, q float64) float64 {
	total := uint64(0)
	for i := range after.Counts {
		total += after.Counts[i] - before.Counts[i]
	}
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total))
	for i, bound := range hub.LagBounds {
		n := after.Counts[i] - before.Counts[i]
		if n > rank {
			return bound.Seconds()
		}
		rank -= n
	}
	return 2 * hub.LagBounds[len(hub.LagBounds)-1].Seconds()
}

// MeasureGroups updates the rates of groups, at most once a second.
func (m *Monitor) MeasureGroups() {
	m.measuring.Lock()
	defer m.measuring.Unlock()
	if elapsed := time.Since(m.measured); elapsed >= SampleInterval {
		m.measured = m.measured.Add(elapsed)
		m.hub.MeasureGroups(elapsed)
	}
}

package telemetry

import "github.com/edgerelay/edgerelay/relay/state"

var (
	descStateHealthy  = desc("state_healthy", "1 while the shared state of plugins answers.")
	descStateRequests = desc("state_requests_total", "Requests of plugins to the shared state, by operation and status.",
		"operation", "status")
	descStateSeconds = desc("state_request_seconds_total", "Time of the requests to the shared state, by operation.",
		"operation")
	descStateBatches  = desc("state_batches_total", "Round trips of the shared state to Redis.")
	descStateSessions = desc("state_sessions_total", "Sessions of the shared state with Redis: the first, and one after each failure.")
	descStateAlarms   = desc("state_alarms_total",
		"Alarms by what happened on this node: fired, failed, dropped after the last attempt, or moved from another node.",
		"event")
)

// collectState collects the metrics of the shared state. There are none while no plugin uses it.
func collectState(out sink, s *state.Store) {
	if s == nil {
		return
	}
	healthy := 1.0
	if s.Trouble() != "" {
		healthy = 0
	}
	out.gauge(descStateHealthy, healthy)
	s.EachRequestCount(func(op state.Op, status string, count uint64) {
		out.count(descStateRequests, count, op.String(), status)
	})
	for op := range state.OpCount {
		out.sum(descStateSeconds, s.RequestTime(op).Seconds(), op.String())
	}
	c := s.Counters()
	out.count(descStateBatches, c.Batches)
	out.count(descStateSessions, c.Sessions)
	out.count(descStateAlarms, c.Fired, "fired")
	out.count(descStateAlarms, c.Failed, "failed")
	out.count(descStateAlarms, c.Dropped, "dropped")
	out.count(descStateAlarms, c.Moved, "moved")
}

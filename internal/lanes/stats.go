package lanes

import (
	"maps"
	"time"
)

// Stats are counters since the start, and the current length of the queues.
type Stats struct {
	Queued      int    // events that wait for their plugins
	Dropped     uint64 // events that plugins dropped
	Withheld    uint64 // events without any output because a plugin could not process them
	DroppedSlow uint64 // events dropped because a plugin was too slow
	// Replays counts the replays that went through plugins, and Replayed their events. ReplaysFailed counts those that
	// ended without a result: the clients could not resume.
	Replays, ReplaysFailed, Replayed uint64
}

// Stats returns a snapshot. It does not wait for plugins.
func (ls *Lanes) Stats() Stats {
	s := Stats{
		Dropped: ls.dropped.Load(), Withheld: ls.withheld.Load(), DroppedSlow: ls.droppedSlow.Load(),
		Replays: ls.replays.Load(), ReplaysFailed: ls.replaysFailed.Load(), Replayed: ls.replayed.Load(),
	}
	for _, shard := range ls.shards {
		shard.eachLane(func(l *lane) {
			events, _ := l.state(time.Now())
			s.Queued += events
		})
	}
	return s
}

// Queue is the state of the lanes that wait for a plugin. A lane of several plugins waits for the slowest of them.
type Queue struct {
	Queued      int `json:"queued_events"`
	QueuedBytes int `json:"queued_bytes"`
	// OldestSeconds is how long the event at the head of the slowest lane has waited, without the time that the fan-out
	// took.
	OldestSeconds float64 `json:"oldest_event_seconds"`
	// DroppedSlow counts the events that were dropped because the plugin was too slow, the last of them at
	// LastDroppedSlow.
	DroppedSlow     uint64    `json:"dropped_slow"`
	LastDroppedSlow time.Time `json:"last_dropped_slow_at,omitzero"`
}

// Queues returns the state of the lanes by plugin. Plugins without queued or dropped events are absent. It does not
// wait for plugins.
func (ls *Lanes) Queues() map[string]Queue {
	ls.slowMu.Lock()
	queues := maps.Clone(ls.slow)
	ls.slowMu.Unlock()
	now := time.Now()
	for _, shard := range ls.shards {
		shard.eachLane(func(l *lane) {
			plugin := l.blamed()
			events, oldest := l.state(now)
			if plugin == "" || events == 0 {
				return
			}
			q := queues[plugin]
			q.Queued += events
			q.QueuedBytes += l.bytes
			q.OldestSeconds = max(q.OldestSeconds, oldest.Seconds())
			queues[plugin] = q
		})
	}
	return queues
}

package telemetry

import (
	"github.com/edgerelay/edgerelay/relay/presence"
)

var (
	descPresenceHealthy = desc("presence_healthy", "1 while presence reaches the channel layer.")
	descPresenceMembers = desc("presence_members", "Users in groups with presence, by connections to this node.")
	descPresenceWaiting = desc("presence_waiting", "Changes of presence that are not in the channel layer yet.")
	descPresenceTold    = desc("presence_announced_total", "Announcements of presence that this node published, by kind.",
		"kind")
	descPresenceFailed   = desc("presence_failures_total", "Failed requests of presence to the channel layer.")
	descPresenceRestored = desc("presence_restored_total", "Users that were restored after the channel layer lost them.")
	descPresenceExpelled = desc("presence_expelled_total", "Users of dead nodes that this node released.")
	descPresenceCalls    = desc("presence_webhook_events_total",
		"Events of presence webhooks by what this node did with them: queued, sent or dropped.", "action")
	descPresenceCallsFailed = desc("presence_webhook_failures_total", "Requests of presence webhooks that failed.")
)

// collectPresence collects the metrics of presence. There are none while no route has presence.
func collectPresence(out sink, t *presence.Tracker) {
	if t == nil {
		return
	}
	s, healthy := t.Stats(), 1.0
	if s.Trouble != "" {
		healthy = 0
	}
	out.gauge(descPresenceHealthy, healthy)
	out.gauge(descPresenceMembers, float64(s.Members))
	out.gauge(descPresenceWaiting, float64(s.Waiting))
	for kind, n := range s.Announced {
		out.count(descPresenceTold, n, kind.String())
	}
	out.count(descPresenceFailed, s.StoreFailed)
	out.count(descPresenceRestored, s.Restored)
	out.count(descPresenceExpelled, s.Expelled)
	out.count(descPresenceCalls, s.CallsQueued, "queued")
	out.count(descPresenceCalls, s.CallsSent, "sent")
	out.count(descPresenceCalls, s.CallsDropped, "dropped")
	out.count(descPresenceCallsFailed, s.CallsFailed)
}

package hub

import "github.com/edgerelay/edgerelay/relay"

// countUnheard counts an event without local clients, by the group's other listeners.
func (h *Hub) countUnheard(ev *relay.Event) {
	raw, _, node := h.listeners.load().tails(ev.Group)
	switch {
	case node: // for other nodes only
		h.stats.control.Add(1)
		journeyOf(ev).setOutcome("node_message")
	case raw > 0 || h.watchers.load()[ev.Group] != nil:
		h.stats.tailed.Add(1)
		journeyOf(ev).setOutcome("tail")
	default:
		h.stats.unheard.Add(1)
		journeyOf(ev).setOutcome("no_client")
	}
}

// countMiss counts events that a session missed, and logs the first miss of a slow consumer. Only the worker of the
// session's shard may call countMiss.
func (h *Hub) countMiss(s *Session, events int) {
	h.stats.missed.Add(uint64(events))
	if _, slow := s.socket.Waiting(); !slow {
		return
	}
	h.stats.missedSlow.Add(uint64(events))
	h.losses.events[relay.LossSlowReader].Add(uint64(events))
	if s.slow {
		return
	}
	s.slow = true
	h.stats.slow.Add(1)
	h.losses.times[relay.LossSlowReader].Add(1)
	go h.log.Info("slow consumer disconnected", // logging may block, the worker must not
		"user", s.identity.Name, "address", relay.AddressText(s.address), "queue_bytes", h.Limits().QueuePerConnection)
}

// countMissedJobs counts events that the clients of a shard missed because the hub is closing.
func (h *Hub) countMissedJobs(s *shard, jobs []job) {
	s.round.Lock()
	defer s.round.Unlock()
	for i := range jobs {
		h.stats.missed.Add(uint64(jobs[i].count * len(jobs[i].audience.subs)))
	}
}

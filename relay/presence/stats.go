package presence

import "time"

// Stats describes a tracker.
type Stats struct {
	// Groups is the number of groups with members of this node, and Members the number of memberships, of users with
	// connections to this node.
	Groups, Members int
	// Waiting is the number of memberships that are not in the store yet.
	Waiting int
	// Trouble tells in a line why the store cannot be used; empty if it can.
	Trouble string
	// Announced counts published announcements, by Kind.
	Announced map[Kind]uint64
	// Unannounced counts announcements that could not be published at once, Restored the memberships that were restored
	// after the store had lost them, Expelled those of dead nodes that were released, and StoreFailed calls to the store.
	Unannounced, Restored, Expelled, StoreFailed uint64
	// CallsQueued, CallsSent and CallsDropped count calls of webhooks, CallsFailed requests.
	CallsQueued, CallsSent, CallsDropped, CallsFailed uint64
	// Webhooks are the states by ID.
	Webhooks map[string]WebhookState
}

// WebhookState is the state of a webhook.
type WebhookState struct {
	// Trouble tells why the last request failed, and Since when the fault began; empty if it did not.
	Trouble string
	Since   time.Time
}

// Stats returns the current state.
func (t *Tracker) Stats() Stats {
	c := &t.stats
	s := Stats{
		Announced:   map[Kind]uint64{},
		Unannounced: c.unannounced.Load(), Restored: c.restored.Load(), Expelled: c.expelled.Load(),
		StoreFailed: c.storeFailed.Load(), CallsQueued: c.callsQueued.Load(), CallsSent: c.callsSent.Load(),
		CallsDropped: c.callsDropped.Load(), CallsFailed: c.callsFailed.Load(), Webhooks: map[string]WebhookState{},
	}
	for _, k := range []Kind{Join, Leave, Count} {
		s.Announced[k] = c.announced[kindIndex(k)].Load()
	}
	for _, shard := range t.shards {
		if text := shard.trouble.Load(); text != nil {
			s.Trouble = *text
		}
		shard.mu.Lock()
		s.Groups += len(shard.groups)
		s.Members += len(shard.members) - len(shard.leaving)
		s.Waiting += len(shard.queued)
		shard.mu.Unlock()
	}
	t.calls.mu.Lock()
	defer t.calls.mu.Unlock()
	for id, sender := range t.calls.senders {
		sender.mu.Lock()
		state := WebhookState{Trouble: sender.trouble}
		if state.Trouble != "" {
			state.Since = sender.since
		}
		sender.mu.Unlock()
		s.Webhooks[id] = state
	}
	return s
}

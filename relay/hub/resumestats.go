package hub

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// ResumeStats counts, since the hub was made, the subscriptions of clients that get positions, by their beginnings.
type ResumeStats struct {
	// Clients is the number of clients that get positions. Waiting is the number of subscriptions that wait for the
	// history, or for a slow client to take its replay. Lingering is the number of groups without a client whose
	// membership is kept for their history.
	Clients, Waiting, Lingering int
	// Retained is the number of bytes of the replays that are kept for clients which read slowly.
	Retained int
	// Recovered counts the subscriptions that got all events after a position, and Latest those that got the last events.
	Recovered, Latest uint64
	// NotRecovered counts the subscriptions that could not resume, by reason. All reasons are present.
	NotRecovered map[relay.NotRecovered]uint64
	// Events counts the replayed events, and Bytes the bytes of the replays, once for each client.
	Events, Bytes uint64
	// Reads counts the groups whose history was read, each once for all clients that waited for it.
	Reads uint64
}

// GroupResumes counts the resumes of a group.
type GroupResumes struct {
	Group string
	// Recovered, NotRecovered, Latest and Events are as in [ResumeStats].
	Recovered, NotRecovered, Latest, Events uint64
	// Last is the time of the last resume, and LastReason its reason if the client could not resume.
	Last       time.Time
	LastReason relay.NotRecovered
}

// reasons are all reasons for which a client cannot resume.
var reasons = [...]relay.NotRecovered{
	relay.NotRecoveredUnknown, relay.NotRecoveredGap, relay.NotRecoveredOff, relay.NotRecoveredUnavailable,
	relay.NotRecoveredPeers, relay.NotRecoveredTooMuch,
}

// maxResumeGroups bounds the groups that are counted one by one. Beyond it, the group with the oldest resume is
// forgotten.
const maxResumeGroups = 1024

// resumeCounters are the counters behind ResumeStats.
type resumeCounters struct {
	recovered, latest, events, bytes, reads atomic.Uint64
	notRecovered                            [len(reasons)]atomic.Uint64
	waiting                                 atomic.Int64

	mu     sync.Mutex // guards groups
	groups map[string]*GroupResumes
}

// count counts the beginning of a subscription.
func (r *resumes) count(p *pending, b *relay.Resumed, bytes int) {
	c := &r.stats
	reason := relay.NotRecovered("")
	switch {
	case b.Asked && b.Reason != nil:
		reason = reasonOf(b.Reason)
		for i := range reasons {
			if reasons[i] == reason {
				c.notRecovered[i].Add(1)
			}
		}
	case b.Asked:
		c.recovered.Add(1)
	case p.latest() > 0:
		c.latest.Add(1)
	default:
		return
	}
	c.events.Add(uint64(b.Events))
	c.bytes.Add(uint64(bytes))
	c.countGroup(b, reason)
}

func (c *resumeCounters) countGroup(b *relay.Resumed, reason relay.NotRecovered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[b.Group]
	if g == nil {
		c.makeRoom()
		g = &GroupResumes{Group: b.Group}
		c.groups[b.Group] = g
	}
	switch {
	case reason != "":
		g.NotRecovered++
	case b.Asked:
		g.Recovered++
	default:
		g.Latest++
	}
	g.Events += uint64(b.Events)
	g.Last, g.LastReason = time.Now(), reason
}

// makeRoom makes room for another group. c.mu is held.
func (c *resumeCounters) makeRoom() {
	if c.groups == nil {
		c.groups = map[string]*GroupResumes{}
	}
	if len(c.groups) < maxResumeGroups {
		return
	}
	var oldest *GroupResumes
	for _, g := range c.groups {
		if oldest == nil || g.Last.Before(oldest.Last) {
			oldest = g
		}
	}
	delete(c.groups, oldest.Group)
}

// ResumeStats returns a snapshot.
func (h *Hub) ResumeStats() ResumeStats {
	c := &h.resumes.stats
	s := ResumeStats{
		Clients: int(h.resumes.clients.Load()), Waiting: int(c.waiting.Load()), Lingering: h.interest.lingeringGroups(),
		Recovered: c.recovered.Load(), Latest: c.latest.Load(), Events: c.events.Load(), Bytes: c.bytes.Load(),
		Reads: c.reads.Load(), NotRecovered: make(map[relay.NotRecovered]uint64, len(reasons)),
	}
	for i, reason := range reasons {
		s.NotRecovered[reason] = c.notRecovered[i].Load()
	}
	h.resumes.mu.Lock()
	defer h.resumes.mu.Unlock()
	s.Retained = h.resumes.retained
	return s
}

// GroupResumes returns the counts of a group, and false if no client has resumed in the group lately.
func (h *Hub) GroupResumes(group string) (GroupResumes, bool) {
	c := &h.resumes.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.groups[group]; g != nil {
		return *g, true
	}
	return GroupResumes{}, false
}

// LastResumes returns the counts of the limit groups with the last resumes, latest first.
func (h *Hub) LastResumes(limit int) []GroupResumes {
	first := top[GroupResumes]{limit: limit, before: func(a, b *GroupResumes) bool {
		if !a.Last.Equal(b.Last) {
			return a.Last.After(b.Last)
		}
		return a.Group < b.Group
	}}
	c := &h.resumes.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.groups {
		first.add(*g)
	}
	return first.items
}

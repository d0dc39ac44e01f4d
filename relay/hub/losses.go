package hub

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// lossPolicy is the reaction to losses of a cause.
type lossPolicy struct {
	// remedy is advice for the operator. Empty: the source of the loss logs the loss.
	remedy string
	// resync is set if clients of the groups are told.
	resync bool
	// layer is set if peers with an interest in the groups have missed the events as well.
	layer bool
}

var lossPolicies = [relay.LossCauseCount]lossPolicy{
	relay.LossMembership: {
		"find the program that deletes the relay's keys in Redis; normal when AWX starts", true, true,
	},
	relay.LossMailboxFull: {
		"raise capacity here and in CHANNEL_LAYERS, or give the node more processor time", true, true,
	},
	relay.LossMailboxExpired: {
		"find the node that was stopped, or was cut off from Redis, for longer than expiry", true, true,
	},
	relay.LossMailboxReplaced: {
		"find the program that writes to the relay's keys in Redis", true, true,
	},
	relay.LossInterrupted: {"", true, true},
	relay.LossLateJoin: {
		"check the channel layer's health: the layer was slow or unreachable when clients subscribed", true, true,
	},
	relay.LossFailover: {
		"set min-replicas-to-write in Redis to reject writes that no replica would get", true, true,
	},
	relay.LossDeadNode:   {"find out why the node died; its clients have reconnected to other nodes", false, false},
	relay.LossShutdown:   {"restore the connection to Redis before stopping the node", true, false},
	relay.LossPeerQueue:  {"", false, false},
	relay.LossPeerLink:   {"fix the connection between the nodes", true, false},
	relay.LossPeer:       {"", true, false},
	relay.LossPluginSlow: {"make the plugin faster, or reduce its groups", true, false},
	relay.LossPluginWithheld: {
		"check the plugin's log and last error; set on_error pass if the plugin protects nothing", true, false,
	},
	relay.LossReclassified: {
		"normal when a plugin with on_subscribe is deployed; otherwise check the plugin's log and last error", true, false,
	},
	relay.LossNotUTF8:    {"fix the emitter: texts must be UTF-8", false, false},
	relay.LossSlowReader: {"", false, false},
	relay.LossMemory:     {"", false, false},
}

var _ relay.LossSink = (*Hub)(nil)

const (
	// resyncInterval is the least time between two messages to clients about events that may have been missed.
	resyncInterval = time.Second
	// lossLogInterval is the least time between two log lines about the same cause.
	lossLogInterval = 10 * time.Second
	// maxLoggedGroups is the greatest number of groups that a log line names.
	maxLoggedGroups = 5
)

// LossCount counts the losses of a cause.
type LossCount struct {
	// Times is the number of losses, Events the number of lost events, as far as known.
	Times, Events uint64
}

// ledger counts losses, and collects the losses for reportLosses.
// See docs/decisions/hub.md#why-do-losses-go-through-one-ledger
type ledger struct {
	times, events [relay.LossCauseCount]atomic.Uint64
	frame         atomic.Pointer[[]byte] // for clients that may have missed events; nil: none
	wake          chan struct{}

	mu         sync.Mutex
	last       LossReport
	log        [relay.LossCauseCount]lossLog
	resynced   time.Time // when clients were last told
	resync     lossSet   // groups with clients to tell
	peers      lossSet   // groups of losses to report to peers
	peerEvents int       // number of lost events in peers
}

// LossReport is the last loss, for operators.
type LossReport struct {
	At    time.Time
	Cause string
	Text  string
}

// lossLog is the losses of a cause that are not logged yet.
type lossLog struct {
	at            time.Time // of the last log line
	times, events int
	groups        lossSet
}

// lossSet is the groups of several losses.
type lossSet struct {
	all    bool
	groups map[string]struct{}
}

func (s *lossSet) add(l relay.Loss) {
	s.all = s.all || l.All
	for _, g := range l.Groups {
		if s.groups == nil {
			s.groups = map[string]struct{}{}
		}
		s.groups[g] = struct{}{}
	}
}

func (s *lossSet) empty() bool { return !s.all && len(s.groups) == 0 }

// take empties the set, and returns the groups.
func (s *lossSet) take() (groups []string, all bool) {
	for g := range s.groups {
		groups = append(groups, g)
	}
	all = s.all
	*s = lossSet{}
	return groups, all
}

// SetResync sets the JSON text that clients get when events of their groups may have been lost; empty: none.
func (h *Hub) SetResync(text string) {
	if text == "" {
		h.losses.frame.Store(nil)
		return
	}
	frame := relay.AppendFrame(make([]byte, 0, relay.FrameSize(len(text))), []byte(text))
	h.losses.frame.Store(&frame)
}

// Lost implements [relay.LossSink].
func (h *Hub) Lost(l relay.Loss) {
	h.losses.count(l.Cause, l.Events)
	h.losses.record(l, h.losses.frame.Load() != nil)
}

// Losses returns the counts since the hub was made, by the cause's name, and the last loss.
func (h *Hub) Losses() (counts map[string]LossCount, last LossReport) {
	counts = make(map[string]LossCount, relay.LossCauseCount)
	for c := range relay.LossCauseCount {
		counts[c.String()] = LossCount{h.losses.times[c].Load(), h.losses.events[c].Load()}
	}
	h.losses.mu.Lock()
	defer h.losses.mu.Unlock()
	return counts, h.losses.last
}

func (b *ledger) count(c relay.LossCause, events int) {
	b.times[c].Add(1)
	b.events[c].Add(uint64(max(events, 0)))
}

// record records a loss for reportLosses.
func (b *ledger) record(l relay.Loss, resync bool) {
	policy := &lossPolicies[l.Cause]
	b.mu.Lock()
	b.last = LossReport{time.Now(), l.Cause.String(), l.String()}
	if policy.remedy != "" {
		entry := &b.log[l.Cause]
		entry.times++
		entry.events += l.Events
		entry.groups.add(l)
	}
	if policy.resync && resync {
		b.resync.add(l)
	}
	if policy.layer {
		b.peers.add(l)
		b.peerEvents += l.Events
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// reportLosses reports losses to the log, to clients and to peers, until ctx ends.
func (h *Hub) reportLosses(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-h.losses.wake:
		case <-timer.C:
		case <-ctx.Done():
			h.logLosses(time.Now().Add(lossLogInterval)) // the remaining ones
			return
		}
		h.reportToPeers()
		now := time.Now()
		next := min(h.resyncClients(now), h.logLosses(now))
		timer.Reset(next)
	}
}

// resyncClients tells the clients concerned, if the interval has passed, and returns the time until the next call.
func (h *Hub) resyncClients(now time.Time) (next time.Duration) {
	b := &h.losses
	b.mu.Lock()
	if b.resync.empty() {
		b.mu.Unlock()
		return time.Hour
	}
	if wait := b.resynced.Add(resyncInterval).Sub(now); wait > 0 {
		b.mu.Unlock()
		return wait
	}
	b.resynced = now
	groups, all := b.resync.take()
	b.mu.Unlock()
	if frame := b.frame.Load(); frame != nil {
		h.resync(groups, all, *frame)
	}
	return time.Hour
}

// reportToPeers tells peers about events that were lost before this node.
func (h *Hub) reportToPeers() {
	b := &h.losses
	b.mu.Lock()
	if b.peers.empty() {
		b.mu.Unlock()
		return
	}
	groups, all := b.peers.take()
	events := b.peerEvents
	b.peerEvents = 0
	b.mu.Unlock()
	if f, ok := h.Backplane().(relay.LossForwarder); ok {
		f.ForwardLoss(relay.Loss{Groups: groups, All: all, Events: events})
	}
}

// logLosses logs the losses that are due, with a line per cause, and returns the time until the next call.
func (h *Hub) logLosses(now time.Time) (next time.Duration) {
	next = time.Hour
	for c := range relay.LossCauseCount {
		b := &h.losses
		b.mu.Lock()
		entry := b.log[c]
		wait := entry.at.Add(lossLogInterval).Sub(now)
		if entry.times == 0 || wait > 0 {
			b.mu.Unlock()
			if entry.times > 0 {
				next = min(next, wait)
			}
			continue
		}
		b.log[c] = lossLog{at: now}
		b.mu.Unlock()
		groups, all := entry.groups.take()
		fields := []any{"reason", c.String(), "times", entry.times}
		if entry.events > 0 {
			fields = append(fields, "count", entry.events)
		}
		switch {
		case all:
			fields = append(fields, "groups", "all")
		case len(groups) > 0:
			slices.Sort(groups)
			fields = append(fields, "groups", len(groups), "group",
				strings.Join(groups[:min(len(groups), maxLoggedGroups)], " "))
		}
		h.log.Warn("events may have been lost", append(fields, "remedy", lossPolicies[c].remedy)...)
	}
	return next
}

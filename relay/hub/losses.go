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
	remedy  string
	effects lossEffects
}

// lossEffects is a set of reactions to a loss.
type lossEffects uint8

const (
	// resyncs: plain clients of the groups are told.
	resyncs lossEffects = 1 << iota
	// tells: clients of the groups that get positions are told.
	tells
	// marks: the history may lack the events, so that no client resumes across the loss.
	marks
	// withholds: no client gets the event by another subscription either.
	withholds
	// forwards: peers with an interest in the groups have missed the events as well.
	forwards
)

func (p *lossPolicy) has(e lossEffects) bool { return p.effects&e != 0 }

// See docs/decisions/history.md#why-do-some-losses-leave-no-mark-in-the-history
var lossPolicies = [relay.LossCauseCount]lossPolicy{
	relay.LossMembership: {
		"find the program that deletes the relay's keys in Redis; normal when AWX starts",
		resyncs | tells | marks | forwards,
	},
	relay.LossMailboxFull: {
		"raise capacity here and in CHANNEL_LAYERS, or give the node more processor time",
		resyncs | tells | marks | forwards,
	},
	relay.LossMailboxExpired: {
		"find the node that was stopped, or was cut off from Redis, for longer than expiry",
		resyncs | tells | marks | forwards,
	},
	relay.LossMailboxReplaced: {
		"find the program that writes to the relay's keys in Redis", resyncs | tells | marks | forwards,
	},
	relay.LossInterrupted: {"", resyncs | tells | marks | forwards},
	relay.LossLateJoin: {
		"check the channel layer's health: the layer was slow or unreachable when clients subscribed",
		resyncs | tells | marks | forwards,
	},
	relay.LossFailover: {
		"set min-replicas-to-write in Redis to reject writes that no replica would get",
		resyncs | tells | marks | forwards,
	},
	relay.LossDeadNode:   {"find out why the node died; its clients have reconnected to other nodes", marks},
	relay.LossShutdown:   {"restore the connection to Redis before stopping the node", resyncs | tells | marks},
	relay.LossPeerQueue:  {"", 0}, // clients of the peer have missed the events, not ours; the peer is told
	relay.LossPeerLink:   {"fix the connection between the nodes", resyncs | tells | marks},
	relay.LossPeer:       {"", resyncs | tells | marks},
	relay.LossPluginSlow: {"make the plugin faster, or reduce its groups", resyncs | tells},
	relay.LossPluginWithheld: {
		"check the plugin's log and last error; set on_error pass if the plugin protects nothing",
		resyncs | tells | withholds,
	},
	relay.LossReclassified: {
		"normal when a plugin with on_subscribe is deployed; otherwise check the plugin's log and last error",
		resyncs | tells,
	},
	relay.LossNotUTF8: {"fix the emitter: texts must be UTF-8", tells | withholds},
	relay.LossUndecodable: {
		"see the line undecodable message skipped: the emitter sends what JSON cannot express", tells | withholds,
	},
	relay.LossSlowReader: {"", 0},
	relay.LossMemory:     {"", 0},
	relay.LossOverrun: { // the hub tells the client itself
		"normal when a backlog arrives at once, as after an outage; otherwise the clients' networks are slow, or " +
			"queue_per_connection is small", 0,
	},
	relay.LossOperator: {"", resyncs | tells},
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
	gaps       gapSet    // to tell clients that get positions
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
func (h *Hub) Lost(l relay.Loss) { h.lose(l, relay.Position{}) }

// lose is Lost for clients that can resume from the position before, if it is not zero.
func (h *Hub) lose(l relay.Loss, before relay.Position) {
	h.losses.count(l.Cause, l.Events)
	gap := h.gapOf(l, before)
	h.losses.record(l, gap, h.losses.frame.Load() != nil)
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
func (b *ledger) record(l relay.Loss, gap *gap, resync bool) {
	policy := &lossPolicies[l.Cause]
	b.mu.Lock()
	b.last = LossReport{time.Now(), l.Cause.String(), l.String()}
	if policy.remedy != "" {
		entry := &b.log[l.Cause]
		entry.times++
		entry.events += l.Events
		entry.groups.add(l)
	}
	if policy.has(resyncs) && resync {
		b.resync.add(l)
	}
	if gap != nil {
		b.gaps.add(l, gap)
	}
	if policy.has(forwards) {
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
	if b.resync.empty() && b.gaps.empty() {
		b.mu.Unlock()
		return time.Hour
	}
	if wait := b.resynced.Add(resyncInterval).Sub(now); wait > 0 {
		b.mu.Unlock()
		return wait
	}
	b.resynced = now
	groups, all := b.resync.take()
	gaps := b.gaps
	b.gaps = gapSet{}
	b.mu.Unlock()
	h.tellGaps(&gaps)
	if frame := b.frame.Load(); frame != nil && (all || len(groups) > 0) {
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

package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// LossCause is why clients did not get events that emitters had published. The names of the causes are labels of a
// metric.
type LossCause uint8

// The causes of losses that a relay can know of.
const (
	// LossMembership is a membership that had vanished from the channel layer until it was restored.
	LossMembership LossCause = iota
	// LossMailboxFull is a mailbox that held as many messages as it may: emitters drop further ones.
	LossMailboxFull
	// LossMailboxExpired is a mailbox that was not read for so long that messages expired in it.
	LossMailboxExpired
	// LossMailboxReplaced is a mailbox whose key held another type, so that emitters could not write to it.
	LossMailboxReplaced
	// LossInterrupted is a broken connection to a channel layer that keeps nothing.
	LossInterrupted
	// LossLateJoin is a subscription that was answered before the channel layer had taken the membership.
	LossLateJoin
	// LossFailover is a change of the Redis master, which can lose writes that were confirmed.
	LossFailover
	// LossDeadNode is messages that a dead node had not read.
	LossDeadNode
	// LossShutdown is messages that were unread when this node left the channel layer.
	LossShutdown
	// LossPeerQueue is events dropped from the queue for a peer: it was full, or the connection ended.
	LossPeerQueue
	// LossPeerLink is a connection over which a peer sent events, and which has ended.
	LossPeerLink
	// LossPeer is a loss that a peer tells of.
	LossPeer
	// LossPluginSlow is a full queue of events for plugins.
	LossPluginSlow
	// LossPluginWithheld is an event that a plugin could not process.
	LossPluginWithheld
	// LossNotUTF8 is a text that no browser takes.
	LossNotUTF8
	// LossSlowReader is a client that was closed because it read too slowly.
	LossSlowReader
	// LossMemory is a client that was closed because memory was short.
	LossMemory

	lossCauses
)

// lossKind says what is to be done about a cause.
type lossKind struct {
	name string
	// remedy is what an operator can do; where it is empty, the source of the loss has logged it.
	remedy string
	// resync is set where clients of the groups are told.
	resync bool
	// layer is set where peers that want the groups have missed the events, too.
	layer bool
}

var lossKinds = [lossCauses]lossKind{
	LossMembership: {
		"membership_restored", "look for a program that deletes the relay's keys in Redis; normal when AWX starts", true, true,
	},
	LossMailboxFull: {
		"mailbox_full", "raise capacity here and in CHANNEL_LAYERS, or give the node more processor time", true, true,
	},
	LossMailboxExpired: {
		"mailbox_expired", "look for a node that was stopped, or was cut off from Redis, for longer than expiry", true, true,
	},
	LossMailboxReplaced: {
		"mailbox_replaced", "look for a program that writes to the relay's keys in Redis", true, true,
	},
	LossInterrupted: {"interrupted", "", true, true},
	LossLateJoin: {
		"late_join", "look at the channel layer's health: it was slow or away when clients subscribed", true, true,
	},
	LossFailover: {
		"failover", "let Redis refuse writes without a replica (min-replicas-to-write) if this matters", true, true,
	},
	LossDeadNode:   {"dead_node", "find out why the node died; its clients have connected to others", false, false},
	LossShutdown:   {"shutdown", "mend the connection to Redis before the node is stopped", true, false},
	LossPeerQueue:  {"peer_queue", "", false, false},
	LossPeerLink:   {"peer_link", "mend the connection between the nodes", true, false},
	LossPeer:       {"peer", "", true, false},
	LossPluginSlow: {"plugin_slow", "make the plugin faster, or give it fewer groups", true, false},
	LossPluginWithheld: {
		"plugin_withheld", "look at the plugin's log and last error; set on_error pass if it guards nothing", true, false,
	},
	LossNotUTF8:    {"not_utf8", "mend the emitter: a text must be UTF-8", false, false},
	LossSlowReader: {"slow_reader", "", false, false},
	LossMemory:     {"memory", "", false, false},
}

// String is the cause's name.
func (c LossCause) String() string { return lossKinds[c].name }

// Loss is events that clients of this node did not get, or may not have got.
type Loss struct {
	Cause LossCause
	// Groups are those whose events are lost; with All, every group is concerned.
	Groups []string
	All    bool
	// Events is how many are lost, 0 if that is not known.
	Events int
}

// String says in one line how much is lost.
func (l Loss) String() string {
	groups := "all groups"
	switch {
	case l.All:
	case len(l.Groups) == 0:
		groups = "unknown groups"
	case len(l.Groups) == 1:
		groups = l.Groups[0]
	default:
		groups = fmt.Sprintf("%d groups", len(l.Groups))
	}
	switch l.Events {
	case 0:
		return fmt.Sprintf("events of %s may have been lost (%s)", groups, l.Cause)
	case 1:
		return fmt.Sprintf("1 event of %s was lost (%s)", groups, l.Cause)
	}
	return fmt.Sprintf("%d events of %s were lost (%s)", l.Events, groups, l.Cause)
}

// LossSink is a [Sink] that makes losses known.
type LossSink interface {
	// Lost counts a loss, logs it, and tells the clients concerned. It does not block, and keeps the groups.
	Lost(l Loss)
}

var _ LossSink = (*Hub)(nil)

// ReportLoss makes a loss known if the sink can do that.
func ReportLoss(to Sink, l Loss) {
	if s, ok := to.(LossSink); ok {
		s.Lost(l)
	}
}

// LossTeller is a [Backplane] that passes losses on.
type LossTeller interface {
	// LayerLost hears of events that were lost before they reached this node from its channel layer.
	LayerLost(l Loss)
}

const (
	// resyncEvery is how often a client is told at most that it may have missed events.
	resyncEvery = time.Second
	// lossLogEvery is how often losses of one cause are logged at most.
	lossLogEvery = 10 * time.Second
	// lossNames is how many groups are named in a line of the log.
	lossNames = 5
)

// LossCount is how much was lost for one cause.
type LossCount struct {
	// Times is how often something was lost, Events how many events, as far as that is known.
	Times, Events uint64
}

// ledger keeps the losses.
type ledger struct {
	times, events [lossCauses]atomic.Uint64
	frame         atomic.Pointer[[]byte] // what clients are told; nil: nothing
	wake          chan struct{}

	mu    sync.Mutex
	last  LossReport
	log   [lossCauses]lossLog
	told  time.Time // when clients were told last
	tell  lossSet   // groups whose clients are to be told
	peers lossSet   // what peers are to be told
	lost  int       // events in peers
}

// LossReport is the last loss, for operators.
type LossReport struct {
	At    time.Time
	Cause string
	Text  string
}

// lossLog is what is still to be logged of a cause.
type lossLog struct {
	at            time.Time
	times, events int
	groups        lossSet
}

// lossSet is the groups of several losses.
type lossSet struct {
	all    bool
	groups map[string]struct{}
}

func (s *lossSet) add(l Loss) {
	s.all = s.all || l.All
	for _, g := range l.Groups {
		if s.groups == nil {
			s.groups = map[string]struct{}{}
		}
		s.groups[g] = struct{}{}
	}
}

func (s *lossSet) empty() bool { return !s.all && len(s.groups) == 0 }

// take empties the set, and returns its groups.
func (s *lossSet) take() (groups []string, all bool) {
	for g := range s.groups {
		groups = append(groups, g)
	}
	all = s.all
	*s = lossSet{}
	return groups, all
}

// SetResync makes text, which must be JSON, what clients are told when events of their groups may have been lost;
// empty: nothing.
func (h *Hub) SetResync(text string) {
	if text == "" {
		h.losses.frame.Store(nil)
		return
	}
	frame := AppendFrame(make([]byte, 0, frameSize(len(text))), []byte(text))
	h.losses.frame.Store(&frame)
}

// Lost implements [LossSink].
func (h *Hub) Lost(l Loss) {
	h.losses.count(l.Cause, l.Events)
	h.losses.note(l, h.losses.frame.Load() != nil)
}

// Losses returns how much was lost for each cause, by its name, since the hub was made, and the last loss.
func (h *Hub) Losses() (counts map[string]LossCount, last LossReport) {
	counts = make(map[string]LossCount, lossCauses)
	for c := range lossCauses {
		counts[c.String()] = LossCount{h.losses.times[c].Load(), h.losses.events[c].Load()}
	}
	h.losses.mu.Lock()
	defer h.losses.mu.Unlock()
	return counts, h.losses.last
}

func (b *ledger) count(c LossCause, events int) {
	b.times[c].Add(1)
	b.events[c].Add(uint64(max(events, 0)))
}

// note keeps what is to be logged and told.
func (b *ledger) note(l Loss, resync bool) {
	kind := &lossKinds[l.Cause]
	b.mu.Lock()
	b.last = LossReport{time.Now(), l.Cause.String(), l.String()}
	if kind.remedy != "" {
		entry := &b.log[l.Cause]
		entry.times++
		entry.events += l.Events
		entry.groups.add(l)
	}
	if kind.resync && resync {
		b.tell.add(l)
	}
	if kind.layer {
		b.peers.add(l)
		b.lost += l.Events
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// reportLosses logs losses and tells clients and peers of them, until ctx ends.
func (h *Hub) reportLosses(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-h.losses.wake:
		case <-timer.C:
		case <-ctx.Done():
			h.logLosses(time.Now().Add(lossLogEvery)) // what is still to be said
			return
		}
		h.tellPeers()
		now := time.Now()
		next := min(h.resyncClients(now), h.logLosses(now))
		timer.Reset(next)
	}
}

// resyncClients tells the clients concerned, if it is time, and returns when it is next.
func (h *Hub) resyncClients(now time.Time) (next time.Duration) {
	b := &h.losses
	b.mu.Lock()
	if b.tell.empty() {
		b.mu.Unlock()
		return time.Hour
	}
	if wait := b.told.Add(resyncEvery).Sub(now); wait > 0 {
		b.mu.Unlock()
		return wait
	}
	b.told = now
	groups, all := b.tell.take()
	b.mu.Unlock()
	if frame := b.frame.Load(); frame != nil {
		h.resync(groups, all, *frame)
	}
	return time.Hour
}

// tellPeers reports events to peers that were lost before they reached this node.
func (h *Hub) tellPeers() {
	b := &h.losses
	b.mu.Lock()
	if b.peers.empty() {
		b.mu.Unlock()
		return
	}
	groups, all := b.peers.take()
	events := b.lost
	b.lost = 0
	b.mu.Unlock()
	if teller, ok := h.Backplane().(LossTeller); ok {
		teller.LayerLost(Loss{Groups: groups, All: all, Events: events})
	}
}

// logLosses logs what is due by now, a line for each cause, and returns when the next is.
func (h *Hub) logLosses(now time.Time) (next time.Duration) {
	next = time.Hour
	for c := range lossCauses {
		b := &h.losses
		b.mu.Lock()
		entry := b.log[c]
		wait := entry.at.Add(lossLogEvery).Sub(now)
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
				strings.Join(groups[:min(len(groups), lossNames)], " "))
		}
		h.log.Warn("events may have been lost", append(fields, "remedy", lossKinds[c].remedy)...)
	}
	return next
}

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

// lossKind says what is to be done about a cause.
type lossKind struct {
	// remedy is what an operator can do; where it is empty, the source of the loss has logged it.
	remedy string
	// resync is set where clients of the groups are told.
	resync bool
	// layer is set where peers that want the groups have missed the events, too.
	layer bool
}

var lossKinds = [relay.LossCauseCount]lossKind{
	relay.LossMembership: {
		"look for a program that deletes the relay's keys in Redis; normal when AWX starts", true, true,
	},
	relay.LossMailboxFull: {
		"raise capacity here and in CHANNEL_LAYERS, or give the node more processor time", true, true,
	},
	relay.LossMailboxExpired: {
		"look for a node that was stopped, or was cut off from Redis, for longer than expiry", true, true,
	},
	relay.LossMailboxReplaced: {
		"look for a program that writes to the relay's keys in Redis", true, true,
	},
	relay.LossInterrupted: {"", true, true},
	relay.LossLateJoin: {
		"look at the channel layer's health: it was slow or away when clients subscribed", true, true,
	},
	relay.LossFailover: {
		"let Redis refuse writes without a replica (min-replicas-to-write) if this matters", true, true,
	},
	relay.LossDeadNode:   {"find out why the node died; its clients have connected to others", false, false},
	relay.LossShutdown:   {"mend the connection to Redis before the node is stopped", true, false},
	relay.LossPeerQueue:  {"", false, false},
	relay.LossPeerLink:   {"mend the connection between the nodes", true, false},
	relay.LossPeer:       {"", true, false},
	relay.LossPluginSlow: {"make the plugin faster, or give it fewer groups", true, false},
	relay.LossPluginWithheld: {
		"look at the plugin's log and last error; set on_error pass if it guards nothing", true, false,
	},
	relay.LossNotUTF8:    {"mend the emitter: a text must be UTF-8", false, false},
	relay.LossSlowReader: {"", false, false},
	relay.LossMemory:     {"", false, false},
}

var _ relay.LossSink = (*Hub)(nil)

const (
	// resyncEvery is how often a client is told at most that it may have missed events.
	resyncEvery = time.Second
	// lossLogEvery is how often losses of one cause are logged at most.
	lossLogEvery = 10 * time.Second
	// lossGroups is how many groups are named in a line of the log.
	lossGroups = 5
)

// LossCount is how much was lost for one cause.
type LossCount struct {
	// Times is how often something was lost, Events how many events, as far as that is known.
	Times, Events uint64
}

// ledger keeps the losses.
// See docs/decisions/hub.md#why-do-losses-go-through-one-ledger
type ledger struct {
	times, events [relay.LossCauseCount]atomic.Uint64
	frame         atomic.Pointer[[]byte] // what clients are told; nil: nothing
	wake          chan struct{}

	mu    sync.Mutex
	last  LossReport
	log   [relay.LossCauseCount]lossLog
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
	frame := relay.AppendFrame(make([]byte, 0, relay.FrameSize(len(text))), []byte(text))
	h.losses.frame.Store(&frame)
}

// Lost implements [relay.LossSink].
func (h *Hub) Lost(l relay.Loss) {
	h.losses.count(l.Cause, l.Events)
	h.losses.note(l, h.losses.frame.Load() != nil)
}

// Losses returns how much was lost for each cause, by its name, since the hub was made, and the last loss.
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

// note keeps what is to be logged and told.
func (b *ledger) note(l relay.Loss, resync bool) {
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
	if f, ok := h.Backplane().(relay.LossForwarder); ok {
		f.ForwardLoss(relay.Loss{Groups: groups, All: all, Events: events})
	}
}

// logLosses logs what is due by now, a line for each cause, and returns when the next is.
func (h *Hub) logLosses(now time.Time) (next time.Duration) {
	next = time.Hour
	for c := range relay.LossCauseCount {
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
				strings.Join(groups[:min(len(groups), lossGroups)], " "))
		}
		h.log.Warn("events may have been lost", append(fields, "remedy", lossKinds[c].remedy)...)
	}
	return next
}

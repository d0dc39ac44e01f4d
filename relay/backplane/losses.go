package backplane

import (
	"net"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// gapWait is the time that a node waits for another link to a layer before it reports the gap to clients.
	gapWait = 30 * time.Second
	// maxPendingLosses bounds the nodes with a pending loss, and pendingLossAge the age of each.
	maxPendingLosses = 1000
	pendingLossAge   = 10 * time.Minute
)

var _ relay.LossForwarder = (*Backplane)(nil)

// lostGroups is the set of groups of lost events. Too many groups to list mean all groups.
type lostGroups struct {
	all    bool
	groups map[string]struct{}
}

func (g *lostGroups) add(group string) {
	if g.all {
		return
	}
	if g.groups == nil {
		g.groups = map[string]struct{}{}
	}
	g.groups[group] = struct{}{}
	if group == "" || len(g.groups) > groupsPerMessage { // for a broadcast peer, only the frame names the group
		g.all, g.groups = true, nil
	}
}

// list returns the groups; none means all groups.
func (g *lostGroups) list() (groups []string) {
	for group := range g.groups {
		groups = append(groups, group)
	}
	return groups
}

// pendingLoss is a loss to report to a node when it reconnects.
type pendingLoss struct {
	count uint64
	lostGroups
	since time.Time
}

// abandon counts the events that were queued or being written when the link ended, and records them as a pending
// loss.
func (l *link) abandon(unwritten []*event) {
	if l.send == nil {
		return
	}
	events, untold, groups := l.queue.abandon()
	for _, e := range unwritten {
		groups.add(e.group)
	}
	events += len(unwritten)
	if events > 0 {
		l.dropped.Add(uint64(events))
		l.b.stats.drop(faultLink, events)
		l.b.hub.Lost(relay.Loss{Cause: relay.LossPeerQueue, Events: events})
		l.b.log.Warn("peer queue lost", "peer", l.String(), "count", events,
			"remedy", "check the network between the nodes")
	}
	if total := untold + uint64(events); total > 0 && l.dialect == EdgeRelay {
		l.b.recordLoss(l.node, total, groups)
	}
}

// recordLoss keeps a loss until the node reconnects.
func (b *Backplane) recordLoss(node string, count uint64, groups lostGroups) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for other, o := range b.pendingLoss {
		if time.Since(o.since) > pendingLossAge {
			delete(b.pendingLoss, other)
		}
	}
	o := b.pendingLoss[node]
	if o == nil {
		if len(b.pendingLoss) >= maxPendingLosses {
			return
		}
		o = &pendingLoss{since: time.Now()}
		b.pendingLoss[node] = o
	}
	o.count += count
	if o.all = o.all || groups.all; !o.all {
		for g := range groups.groups {
			o.add(g)
		}
	}
}

// sendPendingLoss reports the losses of an earlier link to the peer.
func (l *link) sendPendingLoss() {
	l.b.mu.Lock()
	o := l.b.pendingLoss[l.node]
	delete(l.b.pendingLoss, l.node)
	l.b.mu.Unlock()
	if o != nil {
		l.sendLoss(o.count, o.list())
	}
}

// ForwardLoss implements [relay.LossForwarder]: relays with a subscription to the groups have missed the events as well.
func (b *Backplane) ForwardLoss(loss relay.Loss) {
	for _, l := range b.allLinks() {
		if l.dialect != EdgeRelay {
			continue
		}
		var groups []string
		l.groupsMu.Lock()
		wanted := loss.All && len(l.peerGroups) > 0
		for _, g := range loss.Groups {
			if _, ok := l.peerGroups[g]; ok {
				groups = append(groups, g)
			}
		}
		l.groupsMu.Unlock()
		if wanted || len(groups) > groupsPerMessage {
			l.sendLoss(uint64(loss.Events), nil)
		} else if len(groups) > 0 {
			l.sendLoss(uint64(loss.Events), groups)
		}
	}
}

// handleLoss passes on a loss that a peer reports.
func (l *link) handleLoss(m message) {
	if !l.phase().isSource() || len(m.Groups) > groupsPerMessage {
		return
	}
	l.b.log.Warn("peer reports lost events", "peer", l.String(),
		"count", m.Count)
	l.b.hub.Lost(relay.Loss{
		Cause: relay.LossPeer, Groups: m.Groups, All: len(m.Groups) == 0,
		Events: int(min(m.Count, 1<<31)),
	})
}

// gap is a time in which no peer is the source of a layer.
type gap struct{}

// openGap records that a source of events is gone. interest.mu is held.
func (b *Backplane) openGap(source string) {
	i := &b.interest
	if b.ctx.Err() != nil || i.gaps[source] != nil || len(i.groups) == 0 {
		return
	}
	g := &gap{}
	i.gaps[source] = g
	b.spawn(func() {
		if !sleep(b.ctx, gapWait) {
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.gaps[source] == g {
			delete(i.gaps, source)
			b.reportGap()
		}
	})
}

// closeGap reports the gap to clients, now that the source sends events again. interest.mu is held.
func (b *Backplane) closeGap(source string) {
	if b.interest.gaps[source] == nil {
		return
	}
	delete(b.interest.gaps, source)
	b.reportGap()
}

// reportGap reports a loss in all subscribed groups. interest.mu is held.
func (b *Backplane) reportGap() {
	if groups := b.interest.list(); len(groups) > 0 {
		b.hub.Lost(relay.Loss{Cause: relay.LossPeerLink, Groups: groups})
	}
}

// sourceName identifies a Python node as a source of events.
func (l *link) sourceName() string {
	if l.url != "" {
		return "python " + l.url
	}
	host, _, _ := net.SplitHostPort(l.address)
	return "python " + host
}

// endSource ends the link's phase, and opens a gap if the Python node was a source of events.
func (l *link) endSource() {
	if l.move(signalEnded) == phaseSeparate {
		l.b.interest.mu.Lock()
		l.b.openGap(l.sourceName())
		l.b.interest.mu.Unlock()
	}
}

// resumeSource closes the gap of a Python node that is a source of events.
func (l *link) resumeSource() {
	if l.phase() != phaseSeparate {
		return
	}
	l.b.interest.mu.Lock()
	l.b.closeGap(l.sourceName())
	l.b.interest.mu.Unlock()
}

package backplane

import (
	"net"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// gapWait is how long a node waits for another connection to a layer before it tells clients of what they miss.
	gapWait = 30 * time.Second
	// maxOwed bounds the nodes for which losses are kept, and owedFor for how long.
	maxPendingLosses = 1000
	pendingLossAge   = 10 * time.Minute
)

var _ relay.LossTeller = (*Backplane)(nil)

// lostGroups is the groups of lost events; too many to be named are all.
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
	if group == "" || len(g.groups) > groupsPerMessage { // of a broadcast peer, the group is in the frame
		g.all, g.groups = true, nil
	}
}

// list returns the groups, none if they are all.
func (g *lostGroups) list() (groups []string) {
	for group := range g.groups {
		groups = append(groups, group)
	}
	return groups
}

// owed is what a node is to be told once it is connected again.
type pendingLoss struct {
	count uint64
	lostGroups
	since time.Time
}

// abandon counts what was queued for the peer when the link ended, and keeps it to be told; unwritten is what the last
// write was of.
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
		l.b.log.Warn("events for a peer are lost with its connection", "peer", l.String(), "count", events,
			"remedy", "mend the connection between the nodes")
	}
	if total := untold + uint64(events); total > 0 && l.dialect == EdgeRelay {
		l.b.recordLoss(l.node, total, groups)
	}
}

// owe keeps a loss until the node is connected again.
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

// tellOwed reports the losses of an earlier link to the peer.
func (l *link) sendPendingLoss() {
	l.b.mu.Lock()
	o := l.b.pendingLoss[l.node]
	delete(l.b.pendingLoss, l.node)
	l.b.mu.Unlock()
	if o != nil {
		l.sendLoss(o.count, o.list())
	}
}

// LayerLost implements [relay.LossTeller]: relays that want the groups have missed the events, too.
func (b *Backplane) LayerLost(loss relay.Loss) {
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

// peerLost makes known what a peer tells of.
func (l *link) handleLoss(m message) {
	if !l.phase().isSource() || len(m.Groups) > groupsPerMessage {
		return
	}
	l.b.log.Warn("events from a peer are lost: this node, or the way to it, did not keep up", "peer", l.String(),
		"events", m.Count)
	l.b.hub.Lost(relay.Loss{
		Cause: relay.LossPeer, Groups: m.Groups, All: len(m.Groups) == 0,
		Events: int(min(m.Count, 1<<31)),
	})
}

// gap is a time in which no node sends this one the events of a layer.
type gap struct{}

// openGap notes that a source of events has gone. interest.mu is held.
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

// closeGap tells clients what they may have missed, now that the source sends events again. interest.mu is held.
func (b *Backplane) closeGap(source string) {
	if b.interest.gaps[source] == nil {
		return
	}
	delete(b.interest.gaps, source)
	b.reportGap()
}

// gapLost makes a loss of all that clients want known. interest.mu is held.
func (b *Backplane) reportGap() {
	if groups := b.interest.list(); len(groups) > 0 {
		b.hub.Lost(relay.Loss{Cause: relay.LossPeerLink, Groups: groups})
	}
}

// source names where a Python node's events come from.
func (l *link) sourceName() string {
	if l.url != "" {
		return "python " + l.url
	}
	host, _, _ := net.SplitHostPort(l.address)
	return "python " + host
}

// sourceGone notes that a Python node sends no events any more.
func (l *link) endSource() {
	if l.move(signalEnded) == phaseSeparate {
		l.b.interest.mu.Lock()
		l.b.openGap(l.sourceName())
		l.b.interest.mu.Unlock()
	}
}

// sourceDecided notes that it does again.
func (l *link) resumeSource() {
	if l.phase() != phaseSeparate {
		return
	}
	l.b.interest.mu.Lock()
	l.b.closeGap(l.sourceName())
	l.b.interest.mu.Unlock()
}

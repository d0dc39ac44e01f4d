package backplane

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
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

// merge adds all groups of other.
func (g *lostGroups) merge(other lostGroups) {
	if other.all {
		g.all, g.groups = true, nil
	}
	for group := range other.groups {
		g.add(group)
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
		l.b.countLost(l.String(), events)
	}
	if total := untold + uint64(events); total > 0 && l.dialect == EdgeRelay {
		l.b.recordLoss(l.node, total, groups)
	}
}

// countLost counts and logs events that were lost with a link.
func (b *Backplane) countLost(peer string, events int) {
	b.stats.lose(peer, faultLink, events)
	b.hub.Lost(relay.Loss{Cause: relay.LossPeerQueue, Events: events})
	b.log.Warn("peer queue lost", "peer", peer, "count", events, "remedy", "check the network between the nodes")
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

// ForwardLoss implements [relay.LossForwarder]: relays that subscribe the groups have missed the events as well.
func (b *Backplane) ForwardLoss(loss relay.Loss) {
	for _, l := range b.allLinks() {
		if l.dialect != EdgeRelay || l.resumes {
			continue
		}
		if groups, found := l.concerned(loss); found {
			l.sendLoss(uint64(loss.Events), groups)
		}
	}
	for _, s := range b.allStreams() {
		s.forwardLoss(loss)
	}
}

// handleLoss passes on a loss that a peer reports.
func (l *link) handleLoss(m message) {
	if !l.phase().isSource() || len(m.Groups) > groupsPerMessage {
		return
	}
	if !l.acknowledgeLoss(m.Loss) {
		return
	}
	l.jumped.Store(false)
	if r := l.recent.Load(); r != nil {
		r.noteHoles(m.Groups)
	}
	l.b.stats.noteLoss(l.String(), "reported", int(min(m.Count, 1<<31)))
	l.b.log.Warn("peer reports lost events", "peer", l.String(),
		"count", m.Count)
	l.b.hub.Lost(relay.Loss{
		Cause: relay.LossPeer, Groups: m.Groups, All: len(m.Groups) == 0,
		Events: int(min(m.Count, 1<<31)),
	})
}

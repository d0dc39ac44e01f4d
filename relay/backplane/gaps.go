package backplane

import (
	"maps"
	"net"
	"slices"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// gapForgotten is the time after which a gap no longer keeps clients from resuming, unless this node still dials
	// the peer: a node that dialed this one may never return.
	gapForgotten = 10 * time.Minute
	// maxGaps bounds the gaps, and maxSeen the known sources.
	maxGaps, maxSeen = 1000, 10_000
)

var _ relay.GapKnower = (*Backplane)(nil)

// gap is a time in which no peer sends this node the events of a layer. If the source continues its stream, all events
// from that time arrive. Otherwise, the end of the gap is reported as a loss.
type gap struct {
	node      string // run of the relay that was the source
	began     time.Time
	timer     *time.Timer
	uncovered map[string]struct{} // groups that the source was not asked for, or has not confirmed
	lossy     bool                // the source did not continue its stream
	told      bool                // clients know of the gap
	forgotten bool                // clients resume although it is open: the history is marked
}

// openGap records that a source of events is gone, and the groups that it had not confirmed. interest.mu is held.
func (b *Backplane) openGap(source, node string, uncovered []string) {
	i := &b.interest
	if b.ctx.Err() != nil {
		return
	}
	g := i.gaps[source]
	if g == nil {
		if len(i.gaps) >= maxGaps {
			b.dropOldestGap()
		}
		g = &gap{began: time.Now(), uncovered: map[string]struct{}{}}
		g.timer = time.AfterFunc(b.gapWait(), func() { b.reportOpenGap(source, g) })
		i.gaps[source] = g
	}
	g.node = node
	for _, group := range uncovered {
		g.uncovered[group] = struct{}{}
	}
}

// reportOpenGap tells clients of a gap that lasts. The peer may still send what its history has, so that the history of
// this node is marked only when the gap is no longer one that keeps clients from resuming. Another node with the same
// history may know of no gap: then the first report marks it.
func (b *Backplane) reportOpenGap(source string, g *gap) {
	own := b.ownLayer()
	i := &b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.gaps[source] != g || b.ctx.Err() != nil {
		return
	}
	if groups := i.list(); len(groups) > 0 {
		pending := !g.told && !(i.hasLayer(own) && b.lastingHistory() != nil)
		b.hub.Lost(relay.Loss{Cause: relay.LossPeerLink, Groups: groups, Pending: pending})
	}
	if g.told {
		g.forgotten = true
		return
	}
	g.told = true
	g.timer.Reset(max(time.Until(g.began.Add(gapForgotten)), 0))
}

// gapWait returns the time that this node waits for another link to a layer before it tells clients of the gap: as long
// as the peer keeps the events in its queue.
func (b *Backplane) gapWait() time.Duration { return b.settings.Load().QueueAge + redialTime }

// dropOldestGap ends the oldest gap with a loss. interest.mu is held.
func (b *Backplane) dropOldestGap() {
	i := &b.interest
	oldest := ""
	for source, g := range i.gaps {
		if oldest == "" || g.began.Before(i.gaps[oldest].began) {
			oldest = source
		}
	}
	b.closeGap(oldest, i.list())
}

// openFirstGap records that events of a peer's layer may be missing from before its first link: until now, peers were
// missing. interest.mu is held.
func (b *Backplane) openFirstGap(l *link, missing bool, groups []string) {
	i := &b.interest
	if missing && !i.seen[l.peer.layer] && i.gaps[l.peer.layer] == nil {
		b.openGap(l.peer.layer, l.node, groups)
	}
	i.setSeen(l.peer.layer)
}

// setSeen records a source. i.mu is held.
func (i *interest) setSeen(source string) {
	if len(i.seen) >= maxSeen {
		clear(i.seen)
	}
	i.seen[source] = true
}

// changeGaps records changes of interest that no source has heard of. asked are the layers with a source. i.mu is held.
func (i *interest) changeGaps(asked map[string]bool, joined, left []string) {
	for source, g := range i.gaps {
		for _, group := range left {
			delete(g.uncovered, group)
		}
		if asked[source] {
			continue
		}
		for _, group := range joined {
			g.uncovered[group] = struct{}{}
		}
	}
}

// wanted returns the groups that are still subscribed. i.mu is held.
func (i *interest) wanted(groups []string) (wanted []string) {
	for _, g := range groups {
		if _, ok := i.groups[g]; ok {
			wanted = append(wanted, g)
		}
	}
	return wanted
}

// checkGap closes the gap before this link if all events of that time have arrived.
func (l *link) checkGap() {
	l.b.interest.mu.Lock()
	defer l.b.interest.mu.Unlock()
	l.closeGaps()
}

// closeGaps closes the gaps before this link, if the peer has confirmed the interest and sent all events of that time.
// Unless its stream continues, events are missing. interest.mu is held.
func (l *link) closeGaps() {
	p, i := &l.peer, &l.b.interest
	if !l.phase().isSource() || p.confirmedSeq.Load() < p.gapSeq {
		return
	}
	var missed []string
	if l.resumes {
		if !p.announced || l.in.delivered.Load() < p.until || !l.takeRefilled() {
			return
		}
		if r := l.recent.Load(); r != nil && l.catchingUp.Load() {
			if !r.isRead() {
				return
			}
			l.catchingUp.Store(false)
			missed = r.missed()
			for _, group := range missed {
				delete(p.filled, group)
			}
			r.settle(time.Now().Add(recentAge))
		}
	}
	l.b.recordStart(i.gaps[p.layer] != nil)
	for source, g := range i.gaps {
		switch {
		case source != p.layer && g.node != l.node:
		case !l.resumes || g.lossy:
			l.b.closeGap(source, i.wanted(p.unfilled()))
		default:
			for _, group := range missed {
				g.uncovered[group] = struct{}{}
			}
			l.b.closeGap(source, i.wanted(slices.Collect(maps.Keys(g.uncovered))))
		}
	}
}

// unfilled returns the groups that the peer was asked for, without those whose earlier events it has sent.
func (p *peerState) unfilled() []string {
	return slices.DeleteFunc(slices.Clone(p.asked), func(group string) bool { return p.filled[group] })
}

// expectDoubles prepares for a source that may not continue its stream. It returns the tokens of the positions behind
// which the peer shall refill the gap. interest.mu is held.
func (l *link) expectDoubles(groups []string) (after map[string]string) {
	p, i := &l.peer, &l.b.interest
	p.refilling, p.filled, p.answers = map[string]struct{}{}, map[string]bool{}, nil
	r := l.b.recentOf(p.layer)
	l.recent.Store(r)
	if r.source != nil && r.source != l.in {
		r.source.forget()
	}
	r.source = l.in
	g := i.gaps[p.layer]
	if g == nil {
		return nil
	}
	after = map[string]string{}
	var holes []string // of which events come that do not follow the last ones
	positions := r.expectDoubles(groups)
	for _, group := range groups {
		at, ok := positions[group]
		if _, uncovered := g.uncovered[group]; !ok || uncovered {
			holes = append(holes, group)
			continue
		}
		after[group] = at.String()
		p.refilling[group] = struct{}{}
	}
	if len(holes) > 0 {
		r.noteHoles(holes)
	}
	l.readEarlier(r)
	return after
}

// expectFetched prepares for the refills of groups whose events the peer had dropped. interest.mu is held.
func (l *link) expectFetched(r *recent, groups []string) {
	if len(groups) == 0 || len(groups) > groupsPerMessage {
		return
	}
	for _, group := range groups {
		l.peer.refilling[group] = struct{}{}
	}
	r.findDoubles()
}

// closeGap ends a gap, and reports the groups that may have missed events. interest.mu is held.
func (b *Backplane) closeGap(source string, lost []string) {
	if g := b.interest.gaps[source]; g != nil {
		g.timer.Stop()
		delete(b.interest.gaps, source)
		b.reportGap(lost)
	}
}

// endGaps stops the timers of all gaps.
func (b *Backplane) endGaps() {
	b.interest.mu.Lock()
	defer b.interest.mu.Unlock()
	for _, g := range b.interest.gaps {
		g.timer.Stop()
	}
}

// reportGap reports a loss in groups. interest.mu is held.
func (b *Backplane) reportGap(groups []string) {
	if len(groups) > 0 {
		b.hub.Lost(relay.Loss{Cause: relay.LossPeerLink, Groups: groups})
	}
}

// recordStart records, with the first source of this run, that events of peers may be missing from before: a history
// that outlives this process has events from before its start. Unless it was awaited, a source that appears later is a
// new node. interest.mu is held.
func (b *Backplane) recordStart(awaited bool) {
	i := &b.interest
	if i.told {
		return
	}
	i.told = true
	if !awaited && time.Since(b.started) > b.gapWait() {
		return
	}
	if history := b.lastingHistory(); history != nil {
		history.MarkGap(relay.Loss{Cause: relay.LossPeerLink, All: true}) // no client of this run is concerned
	}
}

// history returns this node's history, nil if there is none.
func (b *Backplane) history() relay.History {
	if holder, ok := b.hub.(relay.HistoryHolder); ok {
		return holder.History()
	}
	return nil
}

// sourceName identifies a Python node as a source of events.
func (l *link) sourceName() string {
	if l.url != "" {
		return pythonSource(l.url)
	}
	host, _, _ := net.SplitHostPort(l.address)
	return pythonSource(host)
}

func pythonSource(address string) string { return "python " + address }

// endSource ends the link's phase, and opens a gap if the Python node was a source of events.
func (l *link) endSource() {
	if l.move(signalEnded) == phaseSeparate {
		l.b.interest.mu.Lock()
		l.b.openGap(l.sourceName(), "", nil)
		l.b.interest.mu.Unlock()
	}
}

// resumeSource closes the gap of a Python node that is a source of events. Python nodes send nothing again.
func (l *link) resumeSource() {
	if l.phase() != phaseSeparate {
		return
	}
	i, source := &l.b.interest, l.sourceName()
	i.mu.Lock()
	defer i.mu.Unlock()
	awaited := !i.seen[source] && l.dialed // an operator has named the node
	l.b.recordStart(awaited || i.gaps[source] != nil)
	if awaited && i.gaps[source] == nil {
		l.b.reportGap(i.list())
	}
	i.setSeen(source)
	l.b.closeGap(source, i.list())
}

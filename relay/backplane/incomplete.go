package backplane

// Incomplete implements [relay.GapKnower]. Events are missing while a source is gone, while a peer that an operator has
// named was never connected, and while a peer has not confirmed the group or not reported a loss yet.
// See docs/decisions/backplane.md#when-may-events-of-peers-be-missing
func (b *Backplane) Incomplete(group string) bool {
	if b.awaitsPeers() {
		return true
	}
	dialed := b.dialedSources()
	i := &b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	for source, g := range i.gaps {
		if dialed[source] || dialed[g.node] || !g.forgotten {
			return true
		}
	}
	for l := range i.relays {
		if !l.phase().isSource() {
			continue
		}
		_, fetched := l.peer.refilling[group] // without a gap: the stream has moved from another link
		if l.jumped.Load() || l.peer.continued && fetched || l.peer.lacks(group) {
			return true
		}
	}
	return false
}

// lacks reports whether clients subscribed to a group before the peer has confirmed it. interest.mu is held.
func (p *peerState) lacks(group string) bool {
	for _, u := range p.unconfirmed {
		if !u.late {
			continue
		}
		for _, g := range u.groups {
			if g == group {
				return true
			}
		}
	}
	return false
}

// dialedSources returns the relays and Python nodes that this node dials.
func (b *Backplane) dialedSources() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	sources := map[string]bool{}
	for url, d := range b.dialers {
		sources[pythonSource(url)] = true
		d.mu.Lock()
		if d.node != "" {
			sources[d.node] = true
		}
		d.mu.Unlock()
	}
	return sources
}

// awaitsPeers reports whether a peer that an operator has named was never connected.
func (b *Backplane) awaitsPeers() bool {
	b.mu.Lock()
	var waiting []*dialer
	for _, d := range b.dialers {
		if !d.target.Found && !d.reached.Load() {
			waiting = append(waiting, d)
		}
	}
	b.mu.Unlock()
	if len(waiting) == 0 {
		return false
	}
	own := b.ownLayer()
	b.interest.mu.Lock()
	defer b.interest.mu.Unlock()
	for _, d := range waiting {
		if !d.isReached(own) {
			return true
		}
		d.reached.Store(true)
	}
	return false
}

// isReached reports whether the events of the peer's layer arrive. interest.mu is held.
func (d *dialer) isReached(own string) bool {
	d.mu.Lock()
	state, l, node := d.state, d.link, d.node
	d.mu.Unlock()
	switch {
	case state == StateSelf:
		return true
	case l != nil && l.dialect != EdgeRelay:
		return l.phase() == phaseSeparate || l.phase() == phaseSameLayer
	case node == "":
		return false
	}
	i := &d.b.interest
	for l := range i.relays {
		if l.node == node {
			return l.peer.layer == own && own != "" || i.hasSource(l.peer.layer)
		}
	}
	return false
}

// hasSource reports whether a source sends the events of a layer, without a gap before. i.mu is held.
func (i *interest) hasSource(layer string) bool {
	if i.gaps[layer] != nil {
		return false
	}
	for l := range i.relays {
		if l.peer.layer == layer && (l.phase() == phaseSource || l.phase() == phaseLate) {
			return true
		}
	}
	return false
}

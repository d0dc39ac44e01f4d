package backplane

import "errors"

// addLink registers a link. It returns false if the backplane is closing.
func (b *Backplane) addLink(l *link) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.links[l] = struct{}{}
	return true
}

func (b *Backplane) removeLink(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.links, l)
}

// linkTo returns an established link to a relay that has neither stalled nor ended, nil if there is none.
func (b *Backplane) linkTo(node string) *link {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.findLink(node)
}

// findLink is linkTo. b.mu is held.
func (b *Backplane) findLink(node string) *link {
	for l := range b.links {
		if l.node == node && l.dialect == EdgeRelay && !l.isStalled() && l.ctx.Err() == nil {
			return l
		}
	}
	return nil
}

// stalledLinkTo reports whether a stalled link to a relay stands.
func (b *Backplane) stalledLinkTo(node string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.links {
		if l.node == node && l.isStalled() {
			return true
		}
	}
	return false
}

func (b *Backplane) allLinks() []*link {
	b.mu.Lock()
	defer b.mu.Unlock()
	links := make([]*link, 0, len(b.links))
	for l := range b.links {
		links = append(links, l)
	}
	return links
}

// disconnect ends all links. The dialers of this node reconnect.
func (b *Backplane) disconnect(why string) {
	for _, l := range b.allLinks() {
		l.end(errors.New(why))
	}
}

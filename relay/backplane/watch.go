package backplane

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// goroutinesPerPing is the number of times that a goroutine of this process has to wait for a processor until the
// answer to a ping is noticed: on a busy machine, silence tells nothing before.
const goroutinesPerPing = 8

// watchEvery is the time between two looks at all links. With a short Silence it is shorter.
const watchEvery = 250 * time.Millisecond

// watchLinks looks at the links between relays until the backplane ends: now and then, and when lookAtLinks is called.
func (b *Backplane) watchLinks() {
	var late time.Duration // of this goroutine, lately
	for {
		every := min(watchEvery, max(b.settings.Load().Silence/16, time.Millisecond))
		timer, began := time.NewTimer(every), time.Now()
		select {
		case <-timer.C:
			late = max(late*7/8, time.Since(began)-every)
		case <-b.look:
			timer.Stop()
		case <-b.ctx.Done():
			timer.Stop()
			return
		}
		b.watch(relay.Ticks(time.Now()), late)
	}
}

// lookAtLinks makes watchLinks look at all links now.
func (b *Backplane) lookAtLinks() {
	select {
	case b.look <- struct{}{}:
	default:
	}
}

// watch finds links that have stalled, settles which of several links to a node stays, and replaces silent sources.
// late is the delay with which this process runs its goroutines: an answer needs several of them.
func (b *Backplane) watch(now int64, late time.Duration) {
	_, stores := b.hub.Broker().(relay.KeyStore) // read before locking: the hub calls Interest under its own lock
	i := &b.interest
	i.mu.Lock()
	doubted := false
	nodes := make(map[string]*link, len(i.relays))
	var several []string
	for l := range i.relays {
		if !l.resumes {
			continue
		}
		if l.checkLife(now, late*goroutinesPerPing) {
			l.logHealth(now)
		}
		doubted = doubted || l.phase().isSource() && l.vitals.health() != healthy
		switch {
		case !l.phase().isRelay():
		case nodes[l.node] != nil:
			several = append(several, l.node)
		default:
			nodes[l.node] = l
		}
	}
	for _, node := range several {
		b.settle(node, now, stores)
	}
	if doubted {
		b.replaceSilent(now, stores)
	}
	i.mu.Unlock()
}

// logHealth logs that a link has stalled or has recovered.
func (l *link) logHealth(now int64) {
	silent := time.Duration(now - l.out.lastProgress.Load()).Round(time.Millisecond)
	switch {
	case !l.isStalled():
		l.b.log.Info("link to peer works again", "peer", l.String())
	case l.vitals.swallowed:
		l.b.log.Warn("link to peer stalled", "peer", l.String(), "reason", "packets to the peer are lost")
	default:
		l.b.log.Warn("link to peer stalled", "peer", l.String(), "reason", "nothing arrives", "silent", silent)
	}
}

// replaceSilent replaces sources that do not answer with a link to another node of the same layer. The link must have
// been alive for as long as the source had time to answer: after an outage, the source may be back a moment later, and
// it alone can send everything. interest.mu is held.
func (b *Backplane) replaceSilent(now int64, stores bool) {
	i := &b.interest
	for source := range i.relays {
		if !source.phase().isSource() || source.vitals.health() == healthy || !source.resumes {
			continue
		}
		var best *link
		for l := range i.relays {
			if l.peer.layer != source.peer.layer || l.node == source.node || l.phase() != phaseStandby || l.ctx.Err() != nil {
				continue
			}
			asked := source.vitals.asked.Load()
			if l.out.lastReceived.Load() < asked {
				l.ping()
				continue
			}
			waited := now - max(asked, l.vitals.alive.Load())
			if l.vitals.health() == healthy && waited >= int64(min(replaceWait, source.vitals.patience)) {
				best = l
			}
		}
		if best != nil {
			b.replaceSource(source, best, stores)
			return // the others are looked at next time
		}
	}
}

// replaceSource makes another node of a layer its source. interest.mu is held.
func (b *Backplane) replaceSource(from, to *link, stores bool) {
	from.move(signalReleased)
	b.openGap(from.peer.layer, from.node, from.peer.takeUnconfirmed(from.peer.askedSeq, true))
	from.sendInterest(true, nil, nil)
	to.move(signalChosen)
	groups := b.interest.list()
	if stores {
		groups = append(groups, metricsGroup)
	}
	to.ask(groups)
	from.peer.wakeWaiting()
	b.log.Warn("peer does not answer, another node of its layer takes over", "peer", from.String(), "source", to.String())
}

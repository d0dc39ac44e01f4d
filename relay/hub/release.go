package hub

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// releaseBatch is the greatest number of clients that begin while a shard's round is held.
	releaseBatch = 32
	// paceBytes is the number of bytes of a replay that may be queued for a client that reads slowly.
	paceBytes = 2 * joinSize
	// paceInterval is the time between two looks at such clients.
	paceInterval = 5 * time.Millisecond
	// maxPacedBytes bounds the replays that are in memory for such clients.
	maxPacedBytes = 256 << 20
	// paceTimeout is the time after which a client that has read nothing of what waits for it makes room for others.
	paceTimeout = time.Minute
	// releaseBytes bounds the memory of the answers to clients that begin at once.
	releaseBytes = 4 << 20
)

// release begins the subscriptions of a wave's clients on a shard, as far as each client reads fast enough.
func (s *shard) release(w *wave, clients []*pending) {
	h := s.hub
	var again []*pending
	answers := newAnswers(w, clients)
	for len(clients) > 0 {
		n := 0
		for own := 0; n < min(len(clients), releaseBatch) && own < releaseBytes; n++ {
			clients[n].answer = answers.of(clients[n])
			own += clients[n].answer.own
		}
		s.round.Lock()
		a, current := s.audienceOf(clients[0].sub), h.generation(w.course.group)
		for _, p := range clients[:n] {
			if p.phase == reading && !s.beginAfterRead(a, w, p, current) {
				again = append(again, p)
			}
			if p.phase != paced { // else the client needs it until finish
				p.answer = nil
			}
		}
		if clients = clients[n:]; a != nil && len(clients) == 0 {
			a.trimLog()
		}
		s.round.Unlock()
	}
	h.resumes.retry(again)
}

// retry has clients wait for another wave. It gives the rules for classes some time to decide.
func (r *resumes) retry(ps []*pending) {
	if len(ps) == 0 {
		return
	}
	r.hub.Reclassify()
	time.AfterFunc(retryDelay, func() { r.enqueue(ps) })
}

// beginAfterRead begins a subscription after the read of a wave, and returns false if the client has to wait for
// another wave. current is the generation of the group's classes. The round is held.
func (s *shard) beginAfterRead(a *positionAudience, w *wave, p *pending, current uint64) bool {
	an := p.answer
	reason := an.reason
	switch {
	case reason != nil || an.rendering == nil && !an.outdated: // no replay
	case p.flood:
		reason = relay.NotRecoveredTooMuch
	case an.outdated || p.class != p.sub.classification() || p.class.Generation != current:
		if p.tries++; p.tries < maxResumeTries {
			a.leaveLog(p)
			p.phase = waiting
			return false
		}
		reason = relay.NotRecoveredUnavailable
	}
	if reason != nil || an.rendering == nil {
		s.beginWithoutReplay(a, w, p, reason)
		return true
	}
	if s.feed(a, p) {
		s.finish(a, p, begun)
		return true
	}
	s.pace(a, p)
	return true
}

// beginWithoutReplay begins a subscription with the live stream. The round is held.
func (s *shard) beginWithoutReplay(a *positionAudience, w *wave, p *pending, reason error) {
	b := relay.Resumed{Group: w.course.group, Asked: p.asks(), Position: w.page.Head}
	if b.Asked {
		b.Reason = reason
	}
	// The client does not get the events that have been written since the read.
	if p.flood {
		b.Position = a.written
	} else if last := a.log.lastSince(p.from); !last.IsZero() {
		b.Position = last
	}
	if frame := appendText(nil, a.framer.EncodeResumed(b)); frame != nil {
		relay.SendAnswer(p.sub.session.socket, frame, s.hub.Limits().QueuePerConnection)
	}
	s.hub.resumes.count(p, &b, 0)
	if b.Asked {
		a.settle(s, p, &known{listed: listedOf(p.resume.After)})
	}
	s.finish(a, p, begun)
}

// feed sends the next parts of a client's replay, and then the recorded events, while the client reads fast enough. It
// reports whether the client has all. The round is held.
func (s *shard) feed(a *positionAudience, p *pending) (done bool) {
	an, socket := p.answer, p.sub.session.socket
	limit := s.hub.Limits().QueuePerConnection
	for ; p.part < len(an.parts); p.part++ {
		part := an.parts[p.part]
		if !mayFeed(socket, len(part), limit) {
			return false
		}
		if p.part == 0 {
			s.hub.resumes.count(p, &an.resumed, an.bytes)
		}
		if !relay.SendAnswer(socket, part, limit) {
			return true // the connection has ended
		}
	}
	for p.from < a.log.end() {
		t := an.tailOf(a, p)
		if len(t.frames) > 0 {
			if !mayFeed(socket, len(t.frames), limit) {
				return false
			}
			s.sendTail(p, t, limit)
		}
		p.from = t.to
	}
	a.settle(s, p, &an.known)
	return true
}

// sendTail sends recorded events, which count as live ones. The round is held.
func (s *shard) sendTail(p *pending, t *tail, limit int) {
	session := p.sub.session
	if !session.socket.Send(t.frames, limit) {
		s.hub.countMiss(session, t.events)
		if told, open := s.hub.makeRoom(session, limit); open { // answers have filled the queue meanwhile
			s.hub.loseQueued(session, t.events, told)
		}
		return
	}
	s.hub.stats.deliveries.Add(uint64(t.events))
	s.hub.stats.bytes.Add(uint64(len(t.frames)))
}

// mayFeed reports whether a client has read enough to get n more bytes.
func mayFeed(socket relay.Socket, n, limit int) bool {
	waiting, _ := socket.Waiting()
	return waiting == 0 || waiting+n <= min(paceBytes, limit/2)
}

// pace has a goroutine feed a client as fast as it reads. The round is held.
func (s *shard) pace(a *positionAudience, p *pending) {
	if s.hub.resumes.beginPace(s, a, p) {
		return
	}
	p.sub.session.socket.Close(relay.CloseTryLater, "too many clients resume")
	s.finish(a, p, ended) // at once: the client may never read the close frame
}

// beginPace keeps the replay of a client for the goroutine, and reports whether there is memory for it.
func (r *resumes) beginPace(s *shard, a *positionAudience, p *pending) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retain(p.answer, 1)
	if p.phase = paced; r.retained > r.retainable {
		return false
	}
	r.paced[a] = s
	if !r.pacing {
		r.pacing = r.spawn(r.feedPaced)
	}
	return true
}

// stalls reports whether a client has read nothing for paceTimeout. The round is held.
func (p *pending) stalls(now time.Time) bool {
	waiting, _ := p.sub.session.socket.Waiting()
	if p.readAt.IsZero() || waiting < p.unread {
		p.readAt = now
	}
	p.unread = waiting
	return now.Sub(p.readAt) > paceTimeout
}

// endPace records that a client with an answer has its replay, or has left.
func (r *resumes) endPace(an *answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retain(an, -1)
}

// retain adds n to the clients that an answer is kept in memory for. What clients share counts once. r.mu is held.
func (r *resumes) retain(an *answer, n int) {
	r.retained += kept(&an.paced, n, an.own) + kept(&an.rendering.paced, n, len(an.rendering.frames))
}

// kept adds n to a count, and returns the change of the memory that is kept while the count is above 0.
func kept(count *int, n, bytes int) int {
	before := *count
	switch *count += n; {
	case before == 0:
		return bytes
	case *count == 0:
		return -bytes
	}
	return 0
}

// feedPaced feeds clients that read slowly, until there are none.
func (r *resumes) feedPaced() {
	tick := time.NewTicker(paceInterval)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		for a, s := range r.pacedAudiences() {
			s.feedAll(a)
		}
		r.mu.Lock()
		if len(r.paced) == 0 {
			r.pacing = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

func (r *resumes) pacedAudiences() map[*positionAudience]*shard {
	r.mu.Lock()
	defer r.mu.Unlock()
	audiences := make(map[*positionAudience]*shard, len(r.paced))
	for a, s := range r.paced {
		audiences[a] = s
	}
	return audiences
}

// feedAll feeds the clients of an audience that read slowly.
func (s *shard) feedAll(a *positionAudience) {
	s.round.Lock()
	defer s.round.Unlock()
	fed, left := 0, false
	for _, p := range a.pending {
		if p.phase != paced {
			continue
		}
		if fed++; fed%releaseBatch == 0 { // for the worker; the map may be changed during an iteration
			s.round.Unlock()
			s.round.Lock()
			if p.phase != paced {
				continue
			}
		}
		switch {
		case p.class != p.sub.classification() || p.class.Generation != s.hub.generation(p.sub.group):
			// The rest of the replay is for another class. The client comes back, and resumes.
			p.sub.session.socket.Close(relay.CloseRestart, "rights have changed")
			s.finish(a, p, ended)
		case s.feed(a, p):
			s.finish(a, p, begun)
		case p.stalls(time.Now()):
			p.sub.session.socket.Close(relay.ClosePolicy, "slow reader")
			s.finish(a, p, ended)
		default:
			left = true
		}
	}
	a.trimLog()
	if !left {
		r := &s.hub.resumes
		r.mu.Lock()
		delete(r.paced, a)
		r.mu.Unlock()
	}
}

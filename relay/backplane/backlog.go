package backplane

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// backlogWait is the time for which the subscriptions of a Python node without a link are kept, if queue_age is not
	// longer. A node does not repeat them on a new connection.
	backlogWait = time.Minute
	// doubtWait is the time for which an address counts as that of several nodes.
	doubtWait = 10 * time.Minute
	// maxSlots is the number of addresses above which unused ones are forgotten.
	maxSlots = 100
)

// backlog is the queue of events for a Python node. It outlives the links to the node: what has not left this node when
// a link ends leaves over the next one, and behind it the events of the time between.
// See docs/decisions/backplane.md#which-events-does-a-python-node-get-again
type backlog struct {
	b        *Backplane
	key      string
	queue    *queue
	groupSet // of a web node; a node that dials this one gets all events

	mu     sync.Mutex // guards the fields below; b.mu may be held before it
	link   *link      // that writes the events; nil while there is none
	peer   string     // name of the node in logs
	expiry *time.Timer
	fate   backlogFate
	same   bool                // the node has the events from the layer, as far as is known
	again  map[*event]struct{} // events in the queue that count as sent; they had not left when the link ended
}

// backlogFate is the treatment of a backlog at the end of its link.
type backlogFate uint8

const (
	backlogStays   backlogFate = iota // for the next link
	backlogDoubted                    // several nodes may use the address: the next link may be another node's
	backlogEnded
)

// backlogs are the backlogs of all Python nodes.
type backlogs struct {
	mu    sync.Mutex // guards the fields below; a backlog's lock may be taken while it is held
	slots map[string]*backlogSlot
}

// backlogSlot is the place of one URL that this node dials, or of one address from which nodes dial it.
type backlogSlot struct {
	links   int       // that stand
	doubted time.Time // when several links stood at once, or the last of these ended
	backlog *backlog  // for the next link, or of the only one
}

// backlogKey names the place of the link's peer; empty if it cannot be told from others.
func (l *link) backlogKey() string {
	if l.dialed {
		return l.url
	}
	host, _, err := net.SplitHostPort(l.address)
	if err != nil {
		return ""
	}
	return "from " + host
}

// takeBacklog gives the link the backlog of its peer, or a new one. leaveBacklog must follow.
func (l *link) takeBacklog() {
	b, key := &l.b.backlogs, l.backlogKey()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prune()
	slot := b.slots[key]
	if slot == nil {
		slot = &backlogSlot{}
		b.slots[key] = slot
	}
	slot.links++
	if !l.dialed && slot.links > 1 {
		slot.doubted = time.Now()
		if slot.backlog != nil {
			slot.backlog.doubt()
			slot.backlog = nil
		}
	}
	doubted := key == "" || !slot.doubted.IsZero() && time.Since(slot.doubted) < doubtWait
	s := slot.backlog
	if s == nil || !s.attach(l) {
		s = l.b.newBacklog(key)
		if doubted {
			s.fate = backlogDoubted
		} else {
			slot.backlog = s
		}
		s.attach(l)
	}
	l.backlog.Store(s)
}

// prune forgets unused slots. b.mu is held.
func (b *backlogs) prune() {
	if len(b.slots) <= maxSlots {
		return
	}
	for key, slot := range b.slots {
		if slot.links == 0 && slot.backlog == nil && time.Since(slot.doubted) >= doubtWait {
			delete(b.slots, key)
		}
	}
}

func (b *Backplane) newBacklog(key string) *backlog {
	s := &backlog{b: b, key: key, queue: newQueue(b.settings.Load().QueueBytes)}
	s.queue.signal = nil
	s.peerGroups = map[string]map[string]struct{}{}
	s.queue.age = b.ageLimit(func() (string, *link) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.peer, s.link
	})
	return s
}

// attach makes l the link that writes the events. It returns false if the backlog has ended.
func (s *backlog) attach(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fate == backlogEnded {
		return false
	}
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	s.link, s.peer = l, l.String()
	s.queue.handTo(l.queue)
	return true
}

// doubt records that the next link from the same address may be another node's.
func (s *backlog) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fate == backlogStays {
		s.fate = backlogDoubted
	}
}

// leaveBacklog ends the use of the backlog. Events that have never left go back into the queue, for the next link.
func (l *link) leaveBacklog() {
	s := l.backlog.Load()
	if s == nil {
		return
	}
	unsent, counted, lost := l.settleWritten()
	l.unwritten = nil
	if lost > 0 {
		l.dropped.Add(uint64(lost))
		l.b.countLost(l.String(), lost)
	}
	final := websocket.CloseStatus(context.Cause(l.ctx)) == websocket.StatusGoingAway || l.b.isLeft(l)
	dropped, first, stays := s.detach(l, unsent, counted, final)
	s.countOverflow(l, dropped, first)
	l.b.backlogs.freeSlot(s)
	if !stays || l.b.leaving() { // Close has passed backlogs without a link, or does so now
		s.expire()
	}
}

// detach takes the backlog from its link, and puts events back, of which some count as sent. It returns false if the
// next link is not to get them. The other results are as of queue.push.
func (s *backlog) detach(l *link, unsent []*event, counted map[*event]struct{}, final bool) (dropped int, first, stays bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.again = nil, counted
	s.queue.detach()
	switch l.phase() {
	case phaseSeparate:
		s.same = false
	case phaseSameLayer:
		s.same = true
	}
	if s.same {
		s.queue.forget()
	} else {
		dropped, first = s.queue.putBack(unsent)
	}
	if stays = s.fate == backlogStays && !final; stays {
		s.expiry = time.AfterFunc(max(backlogWait, s.queue.age.limit), s.expire)
	}
	return dropped, first, stays
}

// freeSlot records the end of a link that had a backlog.
func (b *backlogs) freeSlot(s *backlog) {
	b.mu.Lock()
	defer b.mu.Unlock()
	slot := b.slots[s.key]
	slot.links--
	if slot.backlog != s {
		slot.doubted = time.Now()
	}
}

// isLeft reports whether the link's peer is no longer one of the nodes that this one dials.
func (b *Backplane) isLeft(l *link) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed || l.dialed && b.dialers[l.url] == nil
}

// expire ends a backlog without a link. Its events are lost.
func (s *backlog) expire() {
	b := &s.b.backlogs
	b.mu.Lock()
	s.mu.Lock()
	if s.link != nil || s.fate == backlogEnded {
		s.mu.Unlock()
		b.mu.Unlock()
		return
	}
	s.fate = backlogEnded
	if s.expiry != nil {
		s.expiry.Stop()
	}
	if slot := b.slots[s.key]; slot != nil && slot.backlog == s {
		slot.backlog = nil
	}
	peer := s.peer
	s.mu.Unlock()
	b.mu.Unlock()
	s.b.tap.remove(s, s.list())
	s.b.tap.setBroadcast(s, false)
	if events, _, _ := s.queue.close(); events > 0 {
		s.b.countLost(peer, int(events))
	}
}

// endBacklog ends the backlog of a place where a relay is now.
func (b *Backplane) endBacklog(key string) {
	b.backlogs.mu.Lock()
	slot := b.backlogs.slots[key]
	b.backlogs.mu.Unlock()
	if slot == nil {
		return
	}
	for _, s := range b.allBacklogs() {
		if s.key == key {
			s.expire()
		}
	}
}

// allBacklogs returns the backlogs that a next link may take.
func (b *Backplane) allBacklogs() (all []*backlog) {
	b.backlogs.mu.Lock()
	defer b.backlogs.mu.Unlock()
	for _, slot := range b.backlogs.slots {
		if slot.backlog != nil {
			all = append(all, slot.backlog)
		}
	}
	return all
}

// endBacklogs ends all backlogs without a link.
func (b *Backplane) endBacklogs() {
	for _, s := range b.allBacklogs() {
		s.expire()
	}
}

// push queues an event for the node. It implements sink.
func (s *backlog) push(e *event) {
	if e.kind != "" { // A consumer of AWX would end with an error.
		return
	}
	s.mu.Lock()
	l, same := s.link, s.same
	s.mu.Unlock()
	if l == nil && same || l != nil && l.phase() == phaseSameLayer {
		return
	}
	dropped, first := s.queue.push(e)
	s.countOverflow(l, dropped, first)
}

// countOverflow counts events that were dropped from the full queue. l is nil without a link.
func (s *backlog) countOverflow(l *link, dropped int, first bool) {
	if dropped == 0 {
		return
	}
	if l != nil {
		l.dropped.Add(uint64(dropped))
	}
	s.mu.Lock()
	peer := s.peer
	s.mu.Unlock()
	s.b.countOverflow(peer, s.queue.limit, dropped, first)
}

// next returns events for a link to write, and the number of dropped events if that ends a series of drops.
func (s *backlog) next(l *link, events []*event) (_ []*event, recovered uint64) {
	if l.phase().flow() != flowOpen {
		return events, 0
	}
	return s.queue.nextPaced(l.queue, events, batchBytes, time.Now())
}

// idle reports whether nothing is queued. A link without a backlog has nothing there.
func (s *backlog) idle() bool {
	if s == nil {
		return true
	}
	events, _, _ := s.queue.load()
	return events == 0
}

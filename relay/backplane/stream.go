package backplane

import (
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// featureResume is the ability to number and acknowledge events, and to continue a stream over another link.
	featureResume = "resume"
	// featureTypes is the ability to read events with a type, in a numbered batch.
	featureTypes = "types"
	// streamWait is the time for which a stream waits for a link: each of its events for no longer than Settings.QueueAge,
	// but the groups, and the number of events that were lost meanwhile.
	streamWait = 10 * time.Minute
	// maxStreams bounds the streams as long as one of them waits for a link: a peer that restarts again and again leaves
	// one with each run.
	maxStreams = 1000
)

// errReplaced ends a link whose peer has taken its stream over another link.
var errReplaced = errors.New("the peer continues over another link")

// stream is the numbered sequence of events for one run of a relay. It outlives its links: events that the relay has
// not acknowledged when a link ends are sent again over the next one, behind them the events of the time between.
// See docs/decisions/backplane.md#how-are-events-in-flight-on-a-broken-link-sent-again
type stream struct {
	b     *Backplane
	node  string // id of the relay's run
	name  string // of the relay
	id    string
	queue *queue
	types bool // the relay has the feature types; other relays get no events with a type
	groupSet

	mu     sync.Mutex // guards the fields below; b.mu may be held before it
	link   *link      // that sends the events; nil while there is none
	peer   string     // name of the relay in logs
	expiry *time.Timer
	waits  time.Time // since when there is no link
	turn   uint64    // of the last request for the stream
	former bool      // another run of the relay has taken the place of this one
	ended  bool
}

// takeStream makes l the link that sends the events of its peer's stream. The peer asks for that with the id of the
// stream and the number of the last event that it has, as far as it knows them. If the peer knows another stream or
// none, a new one begins: the peer may have got events from another node in the meantime.
func (l *link) takeStream(m message) {
	b := l.b
	b.mu.Lock()
	s := b.streams[l.node]
	if s != nil && m.Turn < s.turn { // an old request, from a link that has stalled: the peer has asked over another one
		b.mu.Unlock()
		return
	}
	var before *link
	if s != nil && s.id != m.Stream {
		before = s.drop()
		l.replaced = s
		s = nil
	}
	l.resumed.Store(s != nil)
	if s == nil {
		s = b.newStream(l)
		b.streams[l.node] = s
	}
	s.turn = m.Turn
	other, refills := s.attach(l, m)
	if other != nil {
		before = other
	}
	excess := b.excessStream()
	b.mu.Unlock()
	s.refetch(l, refills)
	s.countLosses()
	if excess != nil {
		excess.expire()
	}
	if before != nil && before != l { // the peer has noticed the end of that link before this node did
		b.streamMoved(before, l)
	}
}

// excessStream returns the stream that has waited for the longest, if there are too many. b.mu is held.
func (b *Backplane) excessStream() (longest *stream) {
	if len(b.streams) <= maxStreams {
		return nil
	}
	var since time.Time
	for _, s := range b.streams {
		s.mu.Lock()
		if s.link == nil && (longest == nil || s.waits.Before(since)) {
			longest, since = s, s.waits
		}
		s.mu.Unlock()
	}
	return longest
}

// newStream returns a stream for the peer of a link.
func (b *Backplane) newStream(l *link) *stream {
	s := &stream{
		b: b, node: l.node, name: l.name, id: rand.Text(), queue: newQueue(b.settings.Load().QueueBytes), types: l.types,
	}
	s.queue.base, s.queue.signal, s.queue.refetches = 1, nil, l.refetches
	s.peerGroups = map[string]map[string]struct{}{}
	s.queue.age = b.ageLimit(func() (string, *link) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.peer, s.link
	})
	return s
}

// attach makes l the link of the stream, and returns the link before, and the refills of dropped events.
func (s *stream) attach(l *link, m message) (before *link, refills []*refill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	before, s.link, s.peer = s.link, l, l.String()
	lost, refills := s.queue.attach(l.queue, m.Last, m.Loss, func(first, until uint64, list []*refill) {
		begin := message{Type: "stream", Stream: s.id, First: first, Until: until}
		for _, r := range list {
			begin.Groups = append(begin.Groups, r.group)
		}
		l.sendMessage(begin)
		l.stream.Store(s)
		s.queue.answer = l.sendMessage
	})
	if lost > 0 {
		s.b.countLost(s.peer, int(lost))
	}
	return before, refills
}

// drop ends a stream in favor of another one, and returns its link. leaveGroups must follow. b.mu is held.
func (s *stream) drop() (before *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry != nil {
		s.expiry.Stop()
	}
	before, s.link, s.ended = s.link, nil, true
	s.queue.detach()
	s.queue.close()
	return before
}

// leaveGroups ends the subscriptions of a stream.
func (s *stream) leaveGroups() { s.b.tap.remove(s, s.list()) }

// has reports whether l sends the stream's events.
func (s *stream) has(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link == l
}

// detach records the end of a link. The stream waits for the next one, unless the peer has shut down or restarted.
func (s *stream) detach(l *link, final bool) {
	s.mu.Lock()
	if s.link != l {
		s.mu.Unlock()
		return
	}
	s.link, s.waits = nil, time.Now()
	s.queue.detach()
	if final = final || s.former; !final {
		s.expiry = time.AfterFunc(max(streamWait, 2*s.queue.age.limit), s.expire)
	}
	s.mu.Unlock()
	if final || s.b.leaving() { // Close has passed detached streams, or does so now
		s.expire()
	}
}

// expire ends a stream without a link. What its peer has not acknowledged is lost.
func (s *stream) expire() {
	s.b.mu.Lock()
	s.mu.Lock()
	if s.link != nil || s.ended {
		s.mu.Unlock()
		s.b.mu.Unlock()
		return
	}
	s.ended = true
	if s.expiry != nil {
		s.expiry.Stop()
	}
	delete(s.b.streams, s.node)
	peer := s.peer
	s.mu.Unlock()
	s.b.mu.Unlock()
	s.leaveGroups()
	events, untold, groups := s.queue.close()
	if events > 0 {
		s.b.countLost(peer, int(events))
	}
	if events+untold > 0 {
		s.b.recordLoss(s.node, events+untold, groups)
	}
	s.countLosses()
}

// endFormerRun ends the stream for an earlier run of a relay, which does not come back: the URL at which it was found
// leads to another run with the same name.
func (b *Backplane) endFormerRun(node, name string) {
	b.mu.Lock()
	s := b.streams[node]
	b.mu.Unlock()
	if s == nil || s.name != name {
		return
	}
	s.mu.Lock()
	s.former = true
	s.mu.Unlock()
	s.expire()
}

// push queues an event for the relay. It implements sink. The relay gets none of a dead node's mailbox: it has asked
// this node for the events that it lacked when its source ended, and may have got these from the dead node.
// See docs/decisions/backplane.md#which-events-of-a-dead-node-travel
func (s *stream) push(e *event) {
	if e.adopted || e.kind != "" && !s.types {
		return
	}
	s.countDropped(s.queue.push(e))
	s.countLosses()
}

// countDropped counts events that were dropped from the full queue.
func (s *stream) countDropped(dropped int, first bool) {
	if dropped == 0 {
		return
	}
	s.mu.Lock()
	l, peer := s.link, s.peer
	s.mu.Unlock()
	if l != nil {
		l.dropped.Add(uint64(dropped))
	}
	s.b.countOverflow(peer, s.queue.limit, dropped, first)
}

// forwardLoss tells the relay about lost events of its groups, once there is a link.
func (s *stream) forwardLoss(loss relay.Loss) {
	groups, found := s.concerned(loss)
	if !found {
		return
	}
	lost := lostGroups{all: groups == nil}
	for _, g := range groups {
		lost.add(g)
	}
	s.queue.addLoss(loss.Events, lost)
}

// allStreams returns the streams for all relays.
func (b *Backplane) allStreams() []*stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.streams))
}

// endStreams ends all streams without a link.
func (b *Backplane) endStreams() {
	for _, s := range b.allStreams() {
		s.expire()
	}
}

// groupSet is the groups that a peer subscribed, each with the channels of a Python web node.
type groupSet struct {
	groupsMu   sync.Mutex
	peerGroups map[string]map[string]struct{}
	origins    int // the number of these channels
}

// list returns all groups.
func (s *groupSet) list() []string {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	groups := make([]string, 0, len(s.peerGroups))
	for g := range s.peerGroups {
		groups = append(groups, g)
	}
	return groups
}

func (s *groupSet) size() int {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	return len(s.peerGroups)
}

// concerned returns the groups of a loss that are in the set; nil if these are all groups, or too many to list.
func (s *groupSet) concerned(loss relay.Loss) (groups []string, found bool) {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	if loss.All {
		return nil, len(s.peerGroups) > 0
	}
	for _, g := range loss.Groups {
		if _, ok := s.peerGroups[g]; ok {
			groups = append(groups, g)
		}
	}
	if len(groups) > groupsPerMessage {
		return nil, true
	}
	return groups, len(groups) > 0
}

// update changes the groups of a relay, and returns the difference. bad is called for each invalid group.
func (s *groupSet) update(reset bool, join, leave []string, bad func(fault)) (joined, left []string) {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	leave = slices.Clone(leave)
	if reset {
		keep := map[string]bool{}
		for _, g := range join {
			keep[g] = true
		}
		for g := range s.peerGroups {
			if !keep[g] {
				leave = append(leave, g)
			}
		}
	}
	for _, g := range leave {
		if _, ok := s.peerGroups[g]; ok {
			delete(s.peerGroups, g)
			left = append(left, g)
		}
	}
	for _, g := range join {
		switch _, ok := s.peerGroups[g]; {
		case ok:
		case !relay.ValidGroup(g) || g == broadcastGroup:
			bad(faultGroup)
		case len(s.peerGroups) >= maxPeerGroups:
			bad(faultLimit)
		default:
			s.peerGroups[g] = nil
			joined = append(joined, g)
		}
	}
	return joined, left
}

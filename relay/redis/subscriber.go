package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/internal/resp"
	"github.com/edgerelay/edgerelay/relay"
)

// subscriber is the connection to one host of a pub/sub layer: one subscription for each group. Join and leave only say what is wanted;
// one goroutine writes, all that has gathered meanwhile in one go, and one reads.
type subscriber struct {
	layer *PubSub
	host  int
	sink  relay.Sink
	kick  chan struct{}

	mu      sync.Mutex
	conn    *resp.Conn               // nil while there is none
	groups  map[string]*subscription // by pub/sub channel: wanted, or not ended yet
	dirty   []*subscription          // to be looked at by the writer
	missing int                      // groups that were subscribed when the connection broke, and are not again
	heard   time.Time                // when the host last answered
	closing bool
	events  []relay.Event // of the reading goroutine
}

// subscription is one group. Commands for it are answered in their order.
type subscription struct {
	group, channel string
	wanted         bool
	asked          bool      // the last command sent was to subscribe
	pending        int       // commands not answered yet
	since          time.Time // when the last command was sent
	placed         bool      // subscribed, and Redis has said so
	missing        bool      // it was, before the connection broke
	waiting        []chan struct{}
}

func newSubscriber(p *PubSub, host int) *subscriber {
	return &subscriber{layer: p, host: host, kick: make(chan struct{}, 1), groups: map[string]*subscription{}}
}

func (s *subscriber) join(groups []string) (waiting []<-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		channel := s.layer.channel(g)
		sub := s.groups[channel]
		if sub == nil {
			sub = &subscription{group: g, channel: channel}
			s.groups[channel] = sub
		}
		sub.wanted = true
		if !sub.placed || !sub.asked {
			done := make(chan struct{})
			sub.waiting = append(sub.waiting, done)
			waiting = append(waiting, done)
			s.dirty = append(s.dirty, sub)
		}
	}
	s.wake()
	return waiting
}

func (s *subscriber) leave(groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		if sub := s.groups[s.layer.channel(g)]; sub != nil {
			s.unwant(sub)
		}
	}
	s.wake()
}

// unwant ends a subscription. s.mu is held.
func (s *subscriber) unwant(sub *subscription) {
	sub.wanted = false
	s.found(sub)
	if s.conn == nil {
		s.forget(sub)
		return
	}
	s.dirty = append(s.dirty, sub)
}

// leaveAll ends all subscriptions, and waits until Redis has said so: what was sent before has been delivered then.
func (s *subscriber) leaveAll(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for _, sub := range s.groups {
		s.unwant(sub)
	}
	s.mu.Unlock()
	s.wake()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		left := len(s.groups)
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *subscriber) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// cut ends the connection; run makes another.
func (s *subscriber) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

// run keeps the connection up until ctx ends.
func (s *subscriber) run(ctx context.Context) {
	wait := retryFirst
	for ctx.Err() == nil {
		began := time.Now()
		route := s.layer.hosts.route(s.host)
		err := s.session(ctx, route)
		if ctx.Err() != nil {
			return
		}
		if route != s.layer.hosts.route(s.host) {
			s.layer.health.replaced(s.host)
			wait = retryFirst
			continue
		}
		s.layer.health.lost(s.host, err)
		if time.Since(began) > time.Second {
			wait = retryFirst
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		}
		wait = min(2*wait, retryMost)
	}
}

// session connects, subscribes to what is wanted, and reads until the connection breaks.
func (s *subscriber) session(ctx context.Context, route *route) error {
	nc, err := route.dial(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	defer func() { _ = nc.Close() }()
	conn := resp.New(nc, func(string, [][]byte) {})
	conn.Answered = s.layer.hosts.trips.add
	if err := auth(conn, route.options); err != nil {
		return err
	}
	s.mu.Lock()
	s.conn = conn
	s.dirty = s.dirty[:0]
	for _, sub := range s.groups {
		s.dirty = append(s.dirty, sub)
	}
	s.mu.Unlock()
	s.layer.health.found(s.host)
	s.wake()

	ctx, cancel := context.WithCancel(ctx)
	wrote := make(chan error, 1)
	go func() {
		wrote <- s.write(ctx, conn)
		_ = nc.Close()
	}()
	err = s.read(conn)
	cancel()
	_ = nc.Close()
	if e := <-wrote; e != nil && errors.Is(err, net.ErrClosed) { // it is why reading ended
		err = e
	}
	s.broken()
	return err
}

// broken notes that the connection is gone: who was subscribed misses what is sent from now on.
func (s *subscriber) broken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.dirty = nil, nil
	for _, sub := range s.groups {
		if !sub.wanted {
			s.forget(sub)
			continue
		}
		if sub.placed && !sub.missing {
			sub.missing = true
			s.missing++
		}
		sub.asked, sub.placed, sub.pending = false, false, 0
	}
}

// write sends what is wanted until ctx ends, and a question where nothing is, so that a host that says nothing is noticed.
func (s *subscriber) write(ctx context.Context, conn *resp.Conn) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if former(conn.Conn) {
				return errFormer
			}
			s.layer.health.asked(s.host)
			if err := conn.Send(replyWait, []string{"PING"}); err != nil {
				return err
			}
		case <-s.kick:
			for {
				commands := s.commands()
				if len(commands) == 0 {
					break
				}
				if err := conn.Send(replyWait, commands...); err != nil {
					return err
				}
			}
		}
	}
}

// commands are the next that bring Redis in line, for pipelineSize groups.
func (s *subscriber) commands() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.dirty), pipelineSize)
	subscribe, unsubscribe := []string{"SUBSCRIBE"}, []string{"UNSUBSCRIBE"}
	for _, sub := range s.dirty[:n] {
		switch {
		case sub.wanted && !sub.asked:
			subscribe = append(subscribe, sub.channel)
		case !sub.wanted && sub.asked:
			unsubscribe = append(unsubscribe, sub.channel)
		default:
			s.settled(sub)
			continue
		}
		sub.asked = sub.wanted
		sub.pending++
		sub.since = time.Now()
	}
	s.dirty = s.dirty[n:]
	var list [][]string
	for _, c := range [][]string{unsubscribe, subscribe} {
		if len(c) > 1 {
			list = append(list, c)
		}
	}
	if list == nil && len(s.dirty) > 0 {
		s.wake()
	}
	return list
}

// settled tells who waits, or forgets a subscription that has ended. s.mu is held.
func (s *subscriber) settled(sub *subscription) {
	if sub.pending > 0 || sub.asked != sub.wanted || sub.placed != sub.asked {
		return
	}
	if !sub.wanted {
		s.forget(sub)
		return
	}
	sub.answer()
}

// forget ends a subscription for good. s.mu is held.
func (s *subscriber) forget(sub *subscription) {
	delete(s.groups, sub.channel)
	sub.answer()
}

// answer lets go who waits.
func (sub *subscription) answer() {
	for _, done := range sub.waiting {
		close(done)
	}
	sub.waiting = nil
}

// overdue is how many groups Redis has not answered for.
func (s *subscriber) overdue() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return 0 // that is told already
	}
	n := 0
	for _, sub := range s.groups {
		if sub.pending > 0 && time.Since(sub.since) > answerWait {
			n++
		}
	}
	return n
}

// found takes a subscription off those that are missing. s.mu is held.
func (s *subscriber) found(sub *subscription) {
	if sub.missing {
		sub.missing = false
		s.missing--
	}
}

// read takes what Redis sends until the connection breaks.
func (s *subscriber) read(conn *resp.Conn) error {
	gap := s.openGap()
	for {
		if err := conn.SetReadDeadline(time.Now().Add(replyWait)); err != nil {
			return err
		}
		value, err := conn.Reply()
		if err != nil {
			var refused resp.Error
			if errors.As(err, &refused) {
				err = fmt.Errorf("%w (the user needs the channels %s__group__*)", err, s.layer.place.Prefix)
			}
			return err
		}
		switch kind := string(value[0]); {
		case kind == "message" && len(value) == 3:
			s.message(value[1], value[2])
		case (kind == "subscribe" || kind == "unsubscribe") && len(value) == 3:
			if s.confirmed(value[1], gap) {
				s.alive(gap)
			}
		default: // an answer to PING
			s.layer.health.answered(s.host)
			s.alive(gap)
		}
		if len(s.events) > 0 && (len(s.events) >= drainMost || !conn.Complete()) {
			s.sink.Deliver(s.events)
			clear(s.events)
			s.events = s.events[:0]
		}
	}
}

// message makes an event of what was published.
func (s *subscriber) message(channel, raw []byte) {
	s.mu.Lock()
	sub := s.groups[string(channel)]
	ours := sub != nil && (sub.wanted || s.closing)
	s.mu.Unlock()
	if !ours {
		return
	}
	m, err := s.layer.settings.Load().codec.decode(raw)
	if err != nil {
		s.layer.health.notUnderstood(s.layer.log, err)
		return
	}
	ev, ok := m.event()
	if !ok {
		s.layer.health.ignored.Add(1)
		return
	}
	ev.Group = sub.group
	s.events = append(s.events, ev)
}

// confirmed takes the answer to a command and reports whether it changed anything.
func (s *subscriber) confirmed(channel []byte, gap *gap) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.groups[string(channel)]
	if sub == nil || sub.pending == 0 {
		return false
	}
	if sub.pending--; sub.pending == 0 {
		sub.placed = sub.asked
	}
	if sub.placed && sub.missing {
		s.found(sub)
		gap.groups = append(gap.groups, sub.group)
	}
	s.settled(sub)
	return true
}

// alive notes a sign of life, and closes the gap once all its groups are subscribed again. Until then the gap stays open, should this
// connection break, too.
func (s *subscriber) alive(gap *gap) {
	s.mu.Lock()
	over := s.missing == 0
	if over {
		s.heard = time.Now()
	}
	s.mu.Unlock()
	if over && len(gap.groups) > 0 {
		s.closeGap(gap)
	}
}

// gap is a time in which events may have been missed.
type gap struct {
	from   time.Time
	groups []string
}

// openGap begins with the last sign of life on the connection before this one.
func (s *subscriber) openGap() *gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &gap{from: s.heard}
}

// closeGap makes a gap known, now that all its groups are subscribed again.
func (s *subscriber) closeGap(g *gap) {
	length := time.Since(g.from).Round(time.Millisecond)
	s.layer.health.missed(fmt.Sprintf("events of %d groups may have been missed in the %v before %s", len(g.groups), length, time.Now().UTC().Format(time.RFC3339)))
	s.layer.log.Warn("events may have been missed while the connection to redis was broken; pub/sub keeps nothing", "host", s.layer.hosts.route(s.host).addr(), "groups", len(g.groups), "gap", length)
	if text := s.layer.settings.Load().Resync; text != "" {
		if r, ok := s.sink.(relay.Resyncer); ok {
			r.Resync(g.groups, []byte(text))
		}
	}
	g.groups = nil
}

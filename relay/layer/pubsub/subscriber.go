package pubsub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

const (
	// deliverMost is how many events are handed over at once.
	deliverMost = 512
	// commandSize is how many groups one command names.
	commandSize = 500
)

// subscriber is the connection to one host of a pub/sub layer: one subscription for each group. Join and leave only say what is wanted;
// one goroutine writes, all that has gathered meanwhile in one go, and one reads.
type subscriber struct {
	layer *Broker
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

func newSubscriber(b *Broker, host int) *subscriber {
	return &subscriber{layer: b, host: host, kick: make(chan struct{}, 1), groups: map[string]*subscription{}}
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
	wait := redisnet.RetryFirst
	for ctx.Err() == nil {
		began := time.Now()
		route := s.layer.hosts.Route(s.host)
		err := s.session(ctx, route)
		if ctx.Err() != nil {
			return
		}
		if route != s.layer.hosts.Route(s.host) {
			s.layer.health.Replaced(s.host)
			wait = redisnet.RetryFirst
			continue
		}
		s.layer.health.Lost(s.host, err)
		if time.Since(began) > time.Second {
			wait = redisnet.RetryFirst
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		}
		wait = min(2*wait, redisnet.RetryMost)
	}
}

// session connects, subscribes to what is wanted, and reads until the connection breaks.
func (s *subscriber) session(ctx context.Context, route *redisnet.Route) error {
	nc, err := route.Dial(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	defer func() { _ = nc.Close() }()
	conn := resp.New(nc, func(string, [][]byte) {})
	conn.Answered = s.layer.hosts.Trips.Add
	if err := redisnet.Auth(conn, route.Options); err != nil {
		return err
	}
	s.mu.Lock()
	s.conn = conn
	s.dirty = s.dirty[:0]
	for _, sub := range s.groups {
		s.dirty = append(s.dirty, sub)
	}
	s.mu.Unlock()
	s.layer.health.Found(s.host)
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
	tick := time.NewTicker(redisnet.ProbeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if redisnet.Former(conn.Conn) {
				return redisnet.ErrFormer
			}
			s.layer.health.Asked(s.host)
			if err := conn.Send(redisnet.ReplyWait, []string{"PING"}); err != nil {
				return err
			}
		case <-s.kick:
			for {
				commands := s.commands()
				if len(commands) == 0 {
					break
				}
				if err := conn.Send(redisnet.ReplyWait, commands...); err != nil {
					return err
				}
			}
		}
	}
}

// read takes what Redis sends until the connection breaks.
func (s *subscriber) read(conn *resp.Conn) error {
	gap := s.openGap()
	for {
		if err := conn.SetReadDeadline(time.Now().Add(redisnet.ReplyWait)); err != nil {
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
		if len(value) == 0 {
			return resp.ErrProtocol
		}
		switch kind := string(value[0]); {
		case kind == "message" && len(value) == 3:
			s.message(value[1], value[2])
		case (kind == "subscribe" || kind == "unsubscribe") && len(value) == 3:
			if s.confirmed(value[1], gap) {
				s.alive(gap)
			}
		default: // an answer to PING
			s.layer.health.Answered(s.host)
			s.alive(gap)
		}
		if len(s.events) > 0 && (len(s.events) >= deliverMost || !conn.Complete()) {
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
	m, err := s.layer.settings.Load().codec.Decode(raw)
	if err != nil {
		s.layer.skipped.NotUnderstood(s.layer.log, err)
		return
	}
	ev, ok := m.Event()
	if !ok {
		s.layer.skipped.Ignore(s.layer.log, m.Type)
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
	if sub.placed && sub.late {
		sub.late = false
		if sub.wanted {
			s.layer.health.Missed(s.sink, relay.Loss{Cause: relay.LossLateJoin, Groups: []string{sub.group}})
		}
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
	s.layer.health.Missed(s.sink, relay.Loss{Cause: relay.LossInterrupted, Groups: g.groups})
	s.layer.log.Warn("events may have been missed while the connection to redis was broken; pub/sub keeps nothing", "host", s.layer.hosts.Route(s.host).Addr(), "groups", len(g.groups), "gap", length)
	g.groups = nil
}

package pubsub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

const (
	// deliverMax is the maximum number of events that are handed over at once.
	deliverMax = 512
	// commandMax is the maximum number of groups in one command.
	commandMax = 500
)

type subscribed struct {
	group string
	since time.Time // when the last command was sent
}

// subscriber is the connection to a host, with a subscription per group. Join and Leave record the wanted groups. A
// goroutine sends the commands that have gathered, and another goroutine reads.
// See docs/decisions/layers.md#why-does-the-pubsub-layer-wait-for-every-subscribe
type subscriber struct {
	layer *Broker
	host  int
	sink  relay.Sink
	kick  chan struct{}

	// Guarded by Broker.mu:
	conn  *resp.Conn // nil while there is none
	subs  reconcile.Set[subscribed]
	heard time.Time // when the host last answered while no group was missing

	events []relay.Event // of the reading goroutine
}

func newSubscriber(b *Broker, host int) *subscriber {
	return &subscriber{layer: b, host: host, kick: make(chan struct{}, 1)}
}

func (s *subscriber) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// cut ends the connection; run makes another.
func (s *subscriber) cut() {
	s.layer.mu.Lock()
	conn := s.conn
	s.layer.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // may wait for a host that hangs
	}
}

// run keeps the connection up until ctx ends.
func (s *subscriber) run(ctx context.Context) {
	s.layer.health.KeepConnected(ctx, s.host, func(ctx context.Context) error {
		route := s.layer.hosts.Route(s.host)
		err := s.session(ctx, route)
		if s.moved(route) {
			return redisnet.ErrReplaced
		}
		return err
	})
}

// moved reports whether there is a new route to the host.
func (s *subscriber) moved(from *redisnet.Route) bool { return from != s.layer.hosts.Route(s.host) }

// session connects, subscribes to the wanted groups, and reads until the connection breaks.
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
	if !s.setConn(conn, route) {
		return redisnet.ErrReplaced
	}
	s.layer.health.Connected(s.host)
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
	if e := <-wrote; e != nil && errors.Is(err, net.ErrClosed) { // The writer closed the connection under the reader.
		err = e
	}
	s.layer.mu.Lock()
	defer s.layer.mu.Unlock()
	s.conn = nil
	s.subs.LoseAll()
	return err
}

// setConn makes a connection known to cut, and returns false if Apply was earlier.
func (s *subscriber) setConn(conn *resp.Conn, route *redisnet.Route) bool {
	s.layer.mu.Lock()
	defer s.layer.mu.Unlock()
	if s.moved(route) {
		return false
	}
	s.conn = conn
	return true
}

// write sends commands until ctx ends, and pings in quiet times, so that a host that hangs is noticed.
func (s *subscriber) write(ctx context.Context, conn *resp.Conn) error {
	tick := time.NewTicker(redisnet.ProbeInterval)
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
			if err := conn.Send(redisnet.ReplyTimeout, []string{"PING"}); err != nil {
				return err
			}
		case <-s.kick:
			for {
				commands := s.commands()
				if len(commands) == 0 {
					break
				}
				if err := conn.Send(redisnet.ReplyTimeout, commands...); err != nil {
					return err
				}
			}
		}
	}
}

// commands returns the next commands that the subscriptions need.
func (s *subscriber) commands() (list [][]string) {
	subscribe, unsubscribe := []string{"SUBSCRIBE"}, []string{"UNSUBSCRIBE"}
	s.layer.mu.Lock()
	for _, t := range s.subs.Next(commandMax) {
		t.Entry.Value.since = time.Now()
		if t.Action == reconcile.Remove {
			unsubscribe = append(unsubscribe, t.Entry.Key)
		} else {
			subscribe = append(subscribe, t.Entry.Key)
		}
	}
	s.layer.mu.Unlock()
	for _, c := range [][]string{unsubscribe, subscribe} {
		if len(c) > 1 {
			list = append(list, c)
		}
	}
	return list
}

// read receives from Redis until the connection breaks.
func (s *subscriber) read(conn *resp.Conn) error {
	gap := s.openGap()
	for {
		if err := conn.SetReadDeadline(time.Now().Add(redisnet.ReplyTimeout)); err != nil {
			return err
		}
		value, err := conn.Reply()
		if err != nil {
			if errors.As(err, new(resp.Error)) {
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
		case kind == "subscribe" && len(value) == 3:
			s.confirmed(string(value[1]), reconcile.Placing, gap)
		case kind == "unsubscribe" && len(value) == 3:
			s.confirmed(string(value[1]), reconcile.Removing, gap)
		default: // the reply to PING
			s.layer.health.Answered(s.host)
			s.alive(gap)
		}
		if len(s.events) > 0 && (len(s.events) >= deliverMax || !conn.Complete()) {
			s.sink.Deliver(s.events)
			clear(s.events)
			s.events = s.events[:0]
		}
	}
}

// message makes an event of a published message.
func (s *subscriber) message(channel, raw []byte) {
	b := s.layer
	b.mu.Lock()
	sub := s.subs.Get(string(channel))
	ours := sub != nil && (sub.Wanted() || b.closing)
	b.mu.Unlock()
	if !ours {
		return
	}
	m, err := b.settings.Load().codec.Decode(raw, b.messages.Load())
	if err != nil {
		b.skipped.Undecoded(b.log, err)
		if errors.Is(err, asgi.ErrObject) {
			relay.ReportLoss(s.sink, relay.Loss{
				Cause: relay.LossUndecodable, Groups: []string{sub.Value.group}, Events: 1,
			})
		}
		return
	}
	ev, ok := m.Event()
	if !ok {
		b.skipped.Ignore(b.log, m.Type)
		return
	}
	ev.Group = sub.Value.group
	s.events = append(s.events, ev)
}

// confirmed takes the reply to the command of a phase.
func (s *subscriber) confirmed(channel string, phase reconcile.Phase, gap *gap) {
	b := s.layer
	b.mu.Lock()
	sub := s.subs.Get(channel)
	if sub == nil || sub.Phase() != phase {
		b.mu.Unlock()
		return
	}
	recovery := s.subs.EndEntry(sub, reconcile.Done, time.Now())
	changes := s.subs.Unsettled() > 0
	b.mu.Unlock()
	switch recovery {
	case reconcile.AfterLapse:
		gap.groups = append(gap.groups, sub.Value.group)
	case reconcile.AfterLateJoin:
		b.health.ReportLoss(s.sink, relay.Loss{Cause: relay.LossLateJoin, Groups: []string{sub.Value.group}})
	}
	if changes {
		s.wake()
	}
	s.alive(gap)
}

// alive notes a sign of life, and closes the gap once all of the gap's groups are subscribed again. Until then the
// gap stays
// open, even if this connection breaks as well.
func (s *subscriber) alive(gap *gap) {
	s.layer.mu.Lock()
	over := s.subs.LapsedCount() == 0
	if over {
		s.heard = time.Now()
	}
	s.layer.mu.Unlock()
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
	s.layer.mu.Lock()
	defer s.layer.mu.Unlock()
	return &gap{from: s.heard}
}

// closeGap reports a gap, now that all of the groups are subscribed again.
func (s *subscriber) closeGap(g *gap) {
	length := time.Since(g.from).Round(time.Millisecond)
	s.layer.health.ReportLoss(s.sink, relay.Loss{Cause: relay.LossInterrupted, Groups: g.groups})
	s.layer.log.Warn("subscriptions interrupted", "host", s.layer.hosts.Route(s.host).Addr(), "count", len(g.groups),
		"duration", length)
	g.groups = nil
}

// overdue returns the number of groups that Redis has not answered for in time. Without a connection the result is 0,
// because
// health reports the connection.
func (s *subscriber) overdue() (n int) {
	s.layer.mu.Lock()
	defer s.layer.mu.Unlock()
	if s.conn == nil {
		return 0
	}
	for sub := range s.subs.All {
		if sub.Phase().InFlight() && time.Since(sub.Value.since) > redisnet.AnswerTimeout {
			n++
		}
	}
	return n
}

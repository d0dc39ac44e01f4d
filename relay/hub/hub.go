package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

// Hub is the engine of a node. A hub outlives configurations: limits, authorizer, interceptor, channel layer and
// backplane can be replaced while sessions stay. Methods may be called concurrently.
type Hub struct {
	log    *slog.Logger
	sender string // begins the Sender of each session, and of no other hub's
	shards []*shard
	next   atomic.Uint64 // number of the last session; selects its shard, round robin

	limits      atomic.Pointer[relay.Limits]
	authorizer  atomic.Pointer[relay.Authorizer]
	interceptor atomic.Pointer[relay.Interceptor]
	protocol    atomic.Pointer[relay.Protocol]
	envelopes   atomic.Pointer[framer] // of protocol, nil if its clients cannot get positions
	formatted   atomic.Int64           // formatAudiences
	history     atomic.Pointer[relay.History]
	compressor  atomic.Pointer[deflate.Compressor] // nil: no event is compressed

	recheck        atomic.Int64 // nanoseconds between two rechecks; 0: never
	recheckGrace   atomic.Int64 // nanoseconds that a session stays open without a certain result; below 0: for ever
	rechecks       rechecks
	reclassifySoon chan struct{} // wakes reclassifySubscriptions
	classifying    turns         // of classifyAgain
	recheckSoon    chan struct{} // wakes recheckPending
	pendingRecheck atomic.Int32  // steps of recheckPending that are left

	interest  interest
	listeners listeners // get events on arrival
	watchers  listeners // get events after the interceptor, as clients do
	admission admission
	stats     counters
	lag       lag
	tracing   atomic.Pointer[tracing]
	losses    ledger
	resumes   resumes
	// unrecorded marks the histories of groups with events that no history keeps.
	unrecorded unrecorded

	drainMu  sync.Mutex // guards drain
	drain    *drain     // nil if there is none
	draining atomic.Bool

	receiveMessages atomic.Bool // of any type

	short   atomic.Bool // memory is short, and no slow consumer is left to disconnect
	closing atomic.Bool
	stop    context.CancelFunc
	workers sync.WaitGroup
}

var _ relay.Node = (*Hub)(nil)

// New returns a running hub without a channel layer, which denies all clients until SetAuthorizer is called. log must
// not be nil. The hub has as many shards as GOMAXPROCS is now.
// See docs/decisions/hub.md#why-does-the-number-of-shards-not-follow-gomaxprocs-at-run-time
func New(log *slog.Logger) *Hub {
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hub{
		log:            log,
		stop:           cancel,
		admission:      newAdmission(),
		rechecks:       rechecks{wake: make(chan struct{}, 1)},
		recheckSoon:    make(chan struct{}, 1),
		reclassifySoon: make(chan struct{}, 1),
	}
	h.sender = rand.Text()[:12] + "."
	h.recheckGrace.Store(int64(relay.NoGrace))
	h.interest.groups = map[string]*membership{}
	h.interest.lingering.wake = make(chan struct{}, 1)
	h.losses.wake = make(chan struct{}, 1)
	h.resumes.init(h, ctx)
	limits := relay.DefaultLimits()
	h.limits.Store(&limits)
	h.SetAuthorizer(denyAll{}, 0)
	for range runtime.GOMAXPROCS(0) {
		s := newShard(h)
		s.number = len(h.shards)
		h.shards = append(h.shards, s)
		h.workers.Go(s.work)
	}
	h.workers.Go(func() { h.pingSessions(ctx) })
	h.workers.Go(func() { h.watchMemory(ctx) })
	h.workers.Go(func() { h.recheckSessions(ctx) })
	h.workers.Go(func() { h.recheckPending(ctx) })
	h.workers.Go(func() { h.reclassifySubscriptions(ctx) })
	h.workers.Go(func() { h.reportLosses(ctx) })
	h.workers.Go(func() { h.interest.endLingering(ctx) })
	return h
}

// SetLimits replaces the limits, for open sessions as well.
func (h *Hub) SetLimits(l relay.Limits) { h.limits.Store(&l) }

// Limits returns the current limits. The caller must not change them.
func (h *Hub) Limits() *relay.Limits { return h.limits.Load() }

// SetInterceptor replaces the interceptor; nil removes it.
func (h *Hub) SetInterceptor(i relay.Interceptor) {
	if i == nil {
		h.interceptor.Store(nil)
	} else {
		h.interceptor.Store(&i)
	}
	h.Reclassify()
}

// Publish sends text to a group through the channel layer, and to peers.
func (h *Hub) Publish(ctx context.Context, group string, text []byte) (relay.Receipt, error) {
	b := h.Broker()
	if b == nil {
		return relay.Receipt{}, relay.ErrClosed
	}
	receipt, err := b.Publish(ctx, group, text)
	if err == nil {
		if p := h.Backplane(); p != nil {
			err = p.Published(ctx, relay.Message{Group: group, Text: text})
		}
	}
	return receipt, err
}

// PublishMessage sends a message of any type to its group through the channel layer, and to peers.
func (h *Hub) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	if m.Type == "" && m.Sender == "" {
		return h.Publish(ctx, m.Group, m.Text)
	}
	b := h.Broker()
	if b == nil {
		return relay.Receipt{}, relay.ErrClosed
	}
	p, ok := b.(relay.MessagePublisher)
	if !ok {
		return relay.Receipt{}, errors.New("the channel layer publishes no messages with a type")
	}
	receipt, err := p.PublishMessage(ctx, m)
	if plane := h.Backplane(); err == nil && m.Type == "" && plane != nil { // Nodes of AWX get no messages with a type.
		err = plane.Published(ctx, m)
	}
	return receipt, err
}

// ReceiveMessages turns the delivery of messages of any type on or off, for this channel layer and later ones.
func (h *Hub) ReceiveMessages(on bool) {
	h.receiveMessages.Store(on)
	if r, ok := h.Broker().(relay.MessageReceiver); ok {
		r.ReceiveMessages(on)
	}
}

// publishGrace is how long the hub stays in the channel layer for sockets that take their time to close.
const publishGrace = 2 * time.Second

// Close closes every socket with 1001, or with 1012 during a drain, leaves the channel layer and stops the hub. When
// ctx ends, the remaining connections are aborted.
func (h *Hub) Close(ctx context.Context) error {
	h.closing.Store(true)
	var err error
	ended, left := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		select { // handlers may publish that their clients have gone
		case <-ended:
		case <-time.After(publishGrace):
		}
		if b, _ := h.interest.exchange(nil); b != nil {
			err = b.Close(ctx)
		}
	}()
	h.closeSessions(ctx)
	close(ended)
	<-left
	h.Undrain()
	h.stop()
	h.resumes.close()
	_ = h.SetCompression(nil)
	for _, s := range h.shards {
		h.countMissedJobs(s, s.queue.close())
	}
	h.workers.Wait()
	return err
}

// closeSessions closes every socket, in parallel, and waits until all sessions have ended.
func (h *Hub) closeSessions(ctx context.Context) {
	code, reason := h.goingAway()
	for _, s := range h.shards {
		h.workers.Go(func() {
			for _, session := range s.all() {
				session.socket.Close(code, reason)
			}
		})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for h.stats.sessions.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, session := range h.allSessions() {
				session.socket.Kill()
			}
			return
		}
	}
}

// allSessions returns the current sessions.
func (h *Hub) allSessions() (all []*Session) {
	for _, s := range h.shards {
		all = append(all, s.all()...)
	}
	return all
}

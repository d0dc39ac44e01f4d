package hub

import (
	"context"
	"log/slog"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Hub holds the sessions of one node, and carries events from the channel layer to them.
// All methods may be called concurrently. It outlives configurations: limits, authorizer
// and channel layer can be exchanged while sessions stay.
type Hub struct {
	log    *slog.Logger
	shards []*shard
	next   atomic.Uint64 // the shard of the next session, round robin

	limits      atomic.Pointer[relay.Limits]
	authorizer  atomic.Pointer[relay.Authorizer]
	interceptor atomic.Pointer[relay.Interceptor]
	recheck     atomic.Int64 // time between rechecks in nanoseconds; 0: never
	// recheckGrace is how long sessions stay open without a certain answer, in nanoseconds; below 0: for ever.
	recheckGrace  atomic.Int64
	rechecks      rechecks
	protocol      atomic.Pointer[relay.Protocol]
	strangersCame chan struct{}
	strangers     atomic.Int32 // parts of the sessions that are to be checked soon, because another kind of authorizer let them in

	interest  interest
	listeners listeners // hear events as they come
	watchers  listeners // hear them as clients get them, after the interceptor
	admission admission
	stats     counters
	lag       lag
	tracing   atomic.Pointer[tracing]
	losses    ledger

	drainMu  sync.Mutex
	drain    *drain // nil if there is none
	draining atomic.Bool

	short   atomic.Bool // of memory, with nobody left to let go
	closing atomic.Bool
	stop    context.CancelFunc
	workers sync.WaitGroup
}

// New returns a running hub without a channel layer. It logs to log, which must not be nil.
// Until SetAuthorizer is called, nobody is let in.
func New(log *slog.Logger) *Hub {
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hub{
		log:       log,
		stop:      cancel,
		admission: newAdmission(),
		rechecks:  rechecks{wake: make(chan struct{}, 1)},

		strangersCame: make(chan struct{}, 1),
	}
	h.recheckGrace.Store(int64(relay.NoGrace))
	h.interest.groups = map[string]*membership{}
	h.losses.wake = make(chan struct{}, 1)
	limits := relay.DefaultLimits()
	h.limits.Store(&limits)
	h.SetAuthorizer(closedDoor{}, 0)
	for range runtime.GOMAXPROCS(0) {
		s := newShard(h)
		h.shards = append(h.shards, s)
		h.workers.Go(s.run)
	}
	h.workers.Go(func() { h.sweep(ctx) })
	h.workers.Go(func() { h.watchMemory(ctx) })
	h.workers.Go(func() { h.recheckSessions(ctx) })
	h.workers.Go(func() { h.reportLosses(ctx) })
	h.workers.Go(func() { h.recheckStrangers(ctx) })
	return h
}

// SetLimits puts limits in force, for open sessions too.
func (h *Hub) SetLimits(l relay.Limits) { h.limits.Store(&l) }

// Limits returns the limits in force.
func (h *Hub) Limits() *relay.Limits { return h.limits.Load() }

// SetAuthorizer puts a in force. Open sessions are checked by it from now on, every recheck (0: never), and once within a second or two if
// the one before it was of another kind.
func (h *Hub) SetAuthorizer(a relay.Authorizer, recheck time.Duration) {
	if s, ok := a.(relay.Successor); ok && h.authorizer.Load() != nil {
		s.Succeed(h.Authorizer())
	}
	before := h.authorizer.Swap(&a)
	if h.recheck.Swap(int64(recheck)) == 0 && recheck > 0 {
		now := time.Now()
		for _, s := range h.everybody() {
			h.rechecks.add(s, now)
		}
	}
	h.rechecks.signal()
	if before == nil || *before == relay.Authorizer(closedDoor{}) { // which admitted no client
		return
	}
	if reflect.TypeOf(*before) != reflect.TypeOf(a) {
		h.strangers.Store(2 * sweepParts) // a part that is passed over in one round, because others leave, comes in the next
		select {
		case h.strangersCame <- struct{}{}:
		default:
		}
	}
}

// SetRecheckGrace puts in force how long a session stays open while the authorizer gives no certain answer about its
// login, since the last one: 0 closes it at the first recheck without one, [relay.NoGrace] never.
func (h *Hub) SetRecheckGrace(grace time.Duration) { h.recheckGrace.Store(int64(grace)) }

// SetProtocol sets how clients are told that a recheck has ended their login or some of their subscriptions.
func (h *Hub) SetProtocol(p relay.Protocol) { h.protocol.Store(&p) }

// endLogin closes the socket of a client whose login has ended.
func (h *Hub) endLogin(socket relay.Socket) {
	if p := h.protocol.Load(); p != nil {
		(*p).EndLogin(socket)
		return
	}
	socket.Close(relay.CloseNormal, "")
}

// Authorizer returns the authorizer in force.
func (h *Hub) Authorizer() relay.Authorizer { return *h.authorizer.Load() }

// SetInterceptor puts i in force; nil removes it.
func (h *Hub) SetInterceptor(i relay.Interceptor) {
	if i == nil {
		h.interceptor.Store(nil)
		return
	}
	h.interceptor.Store(&i)
}

// How long a change of the channel layer waits for the new one to be joined, and for the old one to be left: less if that does not
// answer anyway, which may be why it is exchanged.
const (
	moveJoinWait  = 3 * time.Second
	moveLeaveWait = 5 * time.Second
	moveDeadWait  = time.Second
)

// SetBroker starts b and moves all groups to it, without touching a session: the new layer is
// joined before the old one is left. What is not done within a few seconds, or when ctx ends, goes on by itself.
func (h *Hub) SetBroker(ctx context.Context, b relay.Broker) error {
	if err := b.Start(h); err != nil {
		return err
	}
	old, groups := h.interest.exchange(b)
	if len(groups) > 0 {
		joining, cancel := context.WithTimeout(ctx, moveJoinWait)
		if err := b.Join(joining, groups...); err != nil {
			h.log.Warn("the new channel layer is not joined yet; events arrive once it can be reached",
				"error", err, "health", b.Health().Detail)
		}
		cancel()
		h.interest.settle(b, groups)
	}
	if old == nil {
		return nil
	}
	wait := moveLeaveWait
	if !old.Health().OK {
		wait = moveDeadWait
	}
	leaving, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return old.Close(leaving)
}

// Broker returns the channel layer in force, nil if there is none.
func (h *Hub) Broker() relay.Broker { return h.interest.current() }

// Publish sends text to a group through the channel layer, and to peers.
func (h *Hub) Publish(ctx context.Context, group string, text []byte) (relay.Receipt, error) {
	b := h.Broker()
	if b == nil {
		return relay.Receipt{}, relay.ErrClosed
	}
	receipt, err := b.Publish(ctx, group, text)
	if err == nil {
		if p := h.Backplane(); p != nil {
			err = p.Published(ctx, group, text)
		}
	}
	return receipt, err
}

// Close closes every socket with 1001, or 1012 if it was being drained, leaves the channel layer and stops the hub. When
// ctx ends, what is still open is cut off.
func (h *Hub) Close(ctx context.Context) error {
	h.closing.Store(true)
	var err error
	left := make(chan struct{})
	go func() {
		defer close(left)
		if b, _ := h.interest.exchange(nil); b != nil {
			err = b.Close(ctx)
		}
	}()
	h.closeSessions(ctx)
	<-left
	h.Undrain()
	h.stop()
	for _, s := range h.shards {
		h.missJobs(s, s.queue.close())
	}
	h.workers.Wait()
	return err
}

// closeSessions tells every client goodbye, in parallel, and waits until they are gone.
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
			for _, session := range h.everybody() {
				session.socket.Kill()
			}
			return
		}
	}
}

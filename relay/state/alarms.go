package state

import (
	"container/heap"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// startWindow is how long after the request a claimed alarm may start. A request that replaces or cancels a claimed
	// alarm is answered after the window, so that the former payload does not start after the answer.
	startWindow = time.Second
	// rereadInterval is the time after which a node looks for alarms that other nodes have set.
	rereadInterval = time.Second
	// strangerPauseMin and strangerPauseMax are for how long a node leaves an alarm to the node that has set it.
	strangerPauseMin = 20 * time.Millisecond
	strangerPauseMax = 100 * time.Millisecond
	// maxHints bounds the times of own alarms that a node remembers for a plugin.
	maxHints = 10_000
	// abortTimeout bounds the wait for plugins and Redis after the context of Close has ended.
	abortTimeout = time.Second
	// retryMax bounds the pause before an alarm that has failed fires again. The first pause is a second.
	retryMax = 5 * time.Minute
)

// AlarmSettings say how alarms fire. Only Plugins and Fire are required.
type AlarmSettings struct {
	// Plugins returns the plugins whose alarms may fire on this node. It is called often and must be quick.
	Plugins func() []string
	// Fire has a plugin process an alarm. After an error, the alarm fires again later.
	Fire func(ctx context.Context, plugin, name string, payload []byte) error
	// Settle is the time from Schedule on in which the node claims alarms only when one is due that it has set since.
	// Such a claim takes due alarms of others along. A node that has just started may not reach the receivers of a
	// message yet.
	Settle time.Duration
	// Lease replaces that of the store's limits.
	Lease time.Duration
	// Concurrent is the number of alarms of a plugin that fire at the same time on a node. Default: 16.
	Concurrent int
	// Attempts is the number of times that an alarm fires if it fails. Default: 12, with pauses of about 18
	// minutes in all.
	Attempts int
	Log      *slog.Logger
}

// Alarms fires the alarms of a store on this node.
type Alarms struct {
	store    *Store
	settings AlarmSettings
	settled  time.Time       // from when on this node claims alarms that others have set
	ctx      context.Context // of functions that process alarms
	abort    context.CancelFunc
	stopping chan struct{}
	closing  sync.Once
	wake     chan struct{}
	running  sync.WaitGroup

	mu    sync.Mutex // guards the fields below, and lines
	lines map[string]*line
}

// line is the alarms of a plugin as this node knows them.
type line struct {
	next     time.Time // of the next claim
	claiming bool
	firing   int
	own      hints
	ownAt    time.Time // when the last own alarm was due
}

// hints is a heap of times, the earliest first.
type hints []time.Time

func (h hints) Len() int           { return len(h) }
func (h hints) Less(i, j int) bool { return h[i].Before(h[j]) }
func (h hints) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *hints) Push(x any)        { *h = append(*h, x.(time.Time)) }
func (h *hints) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// Schedule fires alarms from now on. A store has one schedule, which ends before the store does.
func Schedule(s *Store, settings AlarmSettings) *Alarms {
	if settings.Concurrent == 0 {
		settings.Concurrent = 16
	}
	if settings.Attempts == 0 {
		settings.Attempts = 12
	}
	if settings.Log == nil {
		settings.Log = slog.Default()
	}
	a := &Alarms{
		store: s, settings: settings, lines: map[string]*line{}, wake: make(chan struct{}, 1),
		stopping: make(chan struct{}), settled: time.Now().Add(settings.Settle),
	}
	a.ctx, a.abort = context.WithCancel(context.Background())
	hint := a.hint
	s.alarmSet.Store(&hint)
	a.running.Go(a.run)
	return a
}

// lease returns the current lease.
func (a *Alarms) lease() time.Duration {
	if a.settings.Lease != 0 {
		return a.settings.Lease
	}
	return a.store.limits.Load().Lease
}

// run claims alarms until Close.
func (a *Alarms) run() {
	for {
		timer := time.NewTimer(a.step())
		select {
		case <-timer.C:
		case <-a.wake:
		case <-a.stopping:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

func (a *Alarms) kick() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// hint tells that this node has set an alarm.
func (a *Alarms) hint(plugin string, due time.Time) {
	due = due.Add(time.Millisecond) // Redis has the time in whole milliseconds.
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lines[plugin]
	if l == nil || len(l.own) >= maxHints {
		return
	}
	heap.Push(&l.own, due)
	if due.Before(l.next) {
		l.next = due
		a.kick()
	}
}

// step claims for the plugins whose turn it is, and returns the time until the next turn.
func (a *Alarms) step() time.Duration {
	plugins := a.settings.Plugins()
	now := time.Now()
	wait := rereadInterval
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := make(map[string]*line, len(plugins))
	for _, plugin := range plugins {
		l := a.lines[plugin]
		if l == nil {
			l = &line{next: a.settled}
		}
		kept[plugin] = l
		switch {
		case l.claiming || l.firing >= a.settings.Concurrent: // The end of a call wakes the loop.
		case now.Before(l.next):
			wait = min(wait, l.next.Sub(now))
		default:
			a.claim(plugin, l, now)
		}
	}
	a.lines = kept
	return wait
}

// claim claims alarms of a plugin that are due. The caller holds a.mu.
func (a *Alarms) claim(plugin string, l *line, now time.Time) {
	l.claiming = true
	limit, lease := a.settings.Concurrent-l.firing, a.lease()
	r := &Request{
		Plugin: plugin, Op: opClaim, Limit: limit, Delta: lease.Milliseconds(), token: newToken(),
	}
	a.running.Add(1)
	a.store.place.start(r, func(res Response) {
		defer a.running.Done()
		a.mu.Lock()
		defer a.mu.Unlock()
		l.claiming = false
		l.firing += len(res.claims)
		l.plan(&res, now, a.settled, limit)
		for _, c := range res.claims {
			a.running.Go(func() { a.fire(l, &firing{a, plugin, c, r.token, lease}, now) })
		}
		a.kick()
	})
}

// plan sets the time of the next claim, after one of up to limit alarms that was sent at a time. Until settled, only
// own alarms are a reason to claim.
func (l *line) plan(res *Response, sent, settled time.Time, limit int) {
	now := time.Now()
	more := len(res.claims) == limit
	for n := 0; len(l.own) > 0 && !l.own[0].After(sent); n++ {
		if more && n == limit { // The claim cannot have taken this one.
			break
		}
		l.ownAt = heap.Pop(&l.own).(time.Time)
	}
	l.next = now
	if !more {
		l.next = now.Add(rereadInterval - rand.N(rereadInterval/10))
	}
	if l.next.Before(settled) {
		l.next = settled
	}
	if len(l.own) > 0 && l.own[0].Before(l.next) {
		l.next = l.own[0]
	}
	if more || res.Status != OK || res.next < 0 {
		return
	}
	due := now.Add(max(res.next, time.Millisecond))
	// The clock of Redis may be a little behind: an alarm that is due soon after an own one is still the node's.
	own := due.Sub(l.ownAt) < strangerPauseMax || len(l.own) > 0 && l.own[0].Sub(due).Abs() < strangerPauseMin
	if !own {
		due = due.Add(strangerPauseMin + rand.N(strangerPauseMax-strangerPauseMin))
	}
	if due.Before(l.next) && (own || !due.Before(settled)) {
		l.next = due
	}
}

// Close ends the firing of alarms, and waits for those that are being processed until ctx ends. Alarms that are not
// processed by then fire on another node.
func (a *Alarms) Close(ctx context.Context) {
	a.store.alarmSet.Store(nil)
	a.closing.Do(func() { close(a.stopping) })
	done := make(chan struct{})
	go func() {
		a.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	a.abort()
	select {
	case <-done:
	case <-time.After(abortTimeout):
	}
}

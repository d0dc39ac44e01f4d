package hub

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// resumeTimeout bounds a read of the history, and the processing of its events by plugins.
	resumeTimeout = 10 * time.Second
	// maxReads is the greatest number of concurrent reads, each of up to maxReadGroups groups.
	maxReads, maxReadGroups = 4, 64
	// maxWaves bounds the waves that are processed at once.
	maxWaves = 16
	// maxReplayBytes bounds the memory of all replays, as far as the limits of the groups' histories tell.
	maxReplayBytes = 256 << 20
	// maxResumeTries is the number of times that a client's replay is made again because its class has changed.
	maxResumeTries = 5
	// retryDelay is the pause before a replay is made for a class that is being decided.
	retryDelay = 100 * time.Millisecond
)

// resumes brings clients that get positions to the live stream, with what they missed. All clients that wait for the
// same group share a read: a wave. The next wave of the group begins after that.
// See docs/decisions/history.md#why-do-resumes-of-a-group-come-in-waves
type resumes struct {
	hub     *Hub
	ctx     context.Context // of the hub
	clients atomic.Int64    // sessions that get positions
	slots   chan struct{}   // of waves that are processed
	stats   resumeCounters

	mu       sync.Mutex // guards all below
	courses  map[string]*course
	queue    []*course // with clients that wait for a read
	readers  int       // goroutines that read
	reserved int       // bytes of replays in memory
	pacing   bool      // a goroutine serves paced
	paced    map[*positionAudience]*shard
	retained int // bytes of the replays of paced clients
	// retainable is the greatest value of retained, maxPacedBytes outside tests.
	retainable int
	closed     bool
}

func (r *resumes) init(h *Hub, ctx context.Context) {
	r.hub, r.ctx = h, ctx
	r.courses, r.slots = map[string]*course{}, make(chan struct{}, maxWaves)
	r.paced, r.retainable = map[*positionAudience]*shard{}, maxPacedBytes
}

// close stops new goroutines. The hub's context has ended.
func (r *resumes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// spawn runs fn in a goroutine of the hub, unless the hub is closed. r.mu is held.
func (r *resumes) spawn(fn func()) bool {
	if !r.closed {
		r.hub.workers.Go(fn)
	}
	return !r.closed
}

// beginning returns the beginning of a subscription that needs no read of the history, and true if there is none to
// read. The round of the client's shard is held.
func (r *resumes) beginning(p *pending) (b relay.Resumed, known bool) {
	h, group := r.hub, p.sub.group
	b = relay.Resumed{Group: group, Asked: p.asks()}
	limits, ok := h.historyLimits(group)
	switch {
	case !ok:
		b.Reason = relay.NotRecoveredOff
	case p.late:
		b.Reason = relay.NotRecoveredUnavailable
	case p.asks() || p.latest() > 0:
		return b, false
	default:
		b.Position, known = p.course().currentHead(limits.Age)
		return b, known
	}
	if !b.Asked {
		b.Reason = nil
	}
	return b, true
}

// course returns the course of the subscription's group. The shard's round is held.
func (p *pending) course() *course { return p.shard.audienceOf(p.sub).course }

// enqueue has subscriptions wait for the next wave of their groups.
func (r *resumes) enqueue(ps []*pending) {
	if len(ps) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range ps {
		c := r.courses[p.sub.group]
		if c == nil { // the client has left
			continue
		}
		c.next = append(c.next, p)
		if !c.busy {
			r.queueWave(c)
		}
	}
	r.read()
}

// queueWave has a wave of a group read, when it is due. r.mu is held.
func (r *resumes) queueWave(c *course) {
	c.busy = true
	wait := c.pause(time.Now())
	if wait == 0 {
		r.queue = append(r.queue, c)
		return
	}
	time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.queue = append(r.queue, c)
		r.read()
	})
}

// read begins to read the history for the queue, if there is room. r.mu is held.
func (r *resumes) read() {
	if len(r.queue) > 0 && r.readers < maxReads && r.spawn(r.readQueue) {
		r.readers++
	}
}

// readQueue reads until the queue is empty, or the memory full.
func (r *resumes) readQueue() {
	for {
		waves := r.take()
		if waves == nil {
			return
		}
		r.readWaves(waves)
	}
}

// take returns the next waves to read, and reserves the memory; nil ends the reader.
func (r *resumes) take() (waves []*wave) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) > 0 && len(waves) < maxReadGroups && !r.closed {
		c := r.queue[0]
		limits, _ := r.hub.historyLimits(c.group)
		size := 2 * limits.Bytes // the events, and their frames
		if r.reserved > 0 && r.reserved+size > maxReplayBytes {
			break
		}
		r.reserved += size
		r.queue[0] = nil
		r.queue = r.queue[1:]
		waves = append(waves, &wave{hub: r.hub, course: c, clients: c.next, reserved: size})
		c.next = nil
	}
	if waves == nil {
		r.readers--
	}
	return waves
}

// end ends a wave.
func (r *resumes) end(w *wave) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved -= w.reserved
	if w.course.busy = false; len(w.course.next) > 0 {
		r.queueWave(w.course)
	}
	r.read()
}

// readWaves reads the history once for several groups.
func (r *resumes) readWaves(waves []*wave) {
	h := r.hub
	ctx, cancel := context.WithTimeout(r.ctx, resumeTimeout)
	defer cancel()
	began := time.Now()
	queries := make([]relay.HistoryQuery, 0, len(waves))
	reading := waves[:0]
	for _, w := range waves {
		if w.record(); len(w.clients) == 0 {
			r.end(w)
			continue
		}
		w.incomplete = h.incomplete(w.course.group)
		queries, reading = append(queries, w.query()), append(reading, w)
	}
	if len(reading) == 0 {
		return
	}
	var pages []relay.HistoryPage
	if history := h.History(); history != nil {
		pages = history.Read(ctx, queries)
	}
	r.stats.reads.Add(uint64(len(queries)))
	for i, w := range reading {
		w.page.Err = relay.NotRecoveredUnavailable
		if i < len(pages) {
			w.page = pages[i]
		}
		if w.page.Err == nil && !w.page.Head.IsZero() {
			w.course.setFirstHead(w.page.Head, began)
		}
		w.incomplete = w.incomplete || h.incomplete(w.course.group)
		r.process(w)
	}
}

// process answers a wave in a goroutine of its own, so that slow plugins of a group delay no other group.
func (r *resumes) process(w *wave) {
	select {
	case r.slots <- struct{}{}:
	case <-r.ctx.Done():
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spawn(func() {
		defer func() {
			<-r.slots
			r.end(w)
		}()
		w.answer(r.ctx)
	})
}

// incomplete reports whether events of a group from peers may be missing.
func (h *Hub) incomplete(group string) bool {
	k, ok := h.Backplane().(relay.GapKnower)
	return ok && k.Incomplete(group)
}

// reasonOf returns the reason of an error from a history.
func reasonOf(err error) relay.NotRecovered {
	var reason relay.NotRecovered
	if errors.As(err, &reason) && reason != relay.ErrNotRecovered {
		return reason
	}
	return relay.NotRecoveredUnavailable
}

package lanes

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// Results of plugins leave in batches of forwardBatch events, and after forwardDelay at the latest.
const (
	forwardBatch = 64
	forwardDelay = time.Millisecond
)

// worker is the goroutine of a lane, with its scratch space.
type worker struct {
	lane *lane
	// The shard's lock guards items, the slice, and left. The worker alone changes them, and reads them without the
	// lock.
	items []item // taken from the lane
	left  int    // the first item that has not left

	spare   []item        // for the lane's next items
	next    int           // the first item whose turn has not come
	age     time.Duration // how long an event may wait
	outputs []plugins.Output
	out     []relay.Event
}

var workers = sync.Pool{New: func() any { return new(worker) }}

// maxScratch bounds the scratch space that outlives a lane, in elements of a slice.
const maxScratch = 256

// run takes the events of the worker's lane through their plugins and forwards the results. It returns when the lane
// is empty.
func (w *worker) run() {
	for w.take() {
		w.processBatch()
		w.forward()
	}
	if w.left < len(w.items) || max(cap(w.items), cap(w.spare), cap(w.outputs), cap(w.out)) > maxScratch {
		return
	}
	clear(w.outputs[:cap(w.outputs)])
	*w = worker{items: w.items[:0], spare: w.spare[:0], outputs: w.outputs[:0], out: w.out[:0]}
	workers.Put(w)
}

// take gives up the events that have left, and takes the queued events if all taken ones have had their turn. It
// reports false and removes the lane if no event is queued, or if the shard is closed.
func (w *worker) take() bool {
	l := w.lane
	s := l.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	w.giveUp(time.Now())
	if s.phase == shardClosed || w.next == len(w.items) && len(l.items) == 0 {
		l.remove()
		return false
	}
	if w.next == len(w.items) {
		w.items, l.items = l.items, w.items[:0]
		w.next, w.left = 0, 0
	}
	if l.chain != nil {
		w.age = l.chain.QueueAge()
	}
	return true
}

// giveUp takes the events that have left off the books. The caller holds the shard's lock.
func (w *worker) giveUp(now time.Time) {
	if w.left == w.next {
		return
	}
	for w.left < w.next {
		g, events := w.items[w.left].group, 0
		for ; w.left < w.next && w.items[w.left].group == g; w.left++ {
			w.lane.grow(-w.items[w.left].size())
			w.items[w.left] = item{}
			events++
		}
		w.lane.shard.left(g, events, now)
	}
	w.lane.shard.room.Broadcast()
}

// processBatch takes events through their plugins until the results make a batch.
func (w *worker) processBatch() {
	began := time.Now()
	for now := began; w.next < len(w.items) && len(w.out) < forwardBatch && now.Sub(began) <= forwardDelay; {
		it := &w.items[w.next]
		switch ls := w.lane.shard.lanes; {
		case ls.unsettled.Load() != 0 && w.lane.shard.move(w.lane, it, now):
			w.next++
		case w.expired(it, now):
			w.dropExpired(now)
		default:
			w.next++
			w.outputs, w.out = ls.process(w.lane, it, w.outputs, w.out)
		}
		now = time.Now()
	}
}

// expired reports whether an event has waited too long for its plugins.
func (w *worker) expired(it *item, now time.Time) bool {
	return w.lane.key != "" && !isResumption(&it.ev) && w.lane.fanOut.age(now, it.at) > w.age
}

// dropExpired drops a run of expired events of a group.
func (w *worker) dropExpired(now time.Time) {
	first := w.next
	for g := w.items[first].group; w.next < len(w.items) && w.next-first < forwardBatch; w.next++ {
		it := &w.items[w.next]
		if it.group != g || !w.expired(it, now) {
			break
		}
		it.ev.Discard("plugin_slow")
	}
	s := w.lane.shard
	s.mu.Lock()
	blamed := w.lane.blamed()
	s.mu.Unlock()
	dropped := w.items[first:w.next]
	s.lanes.countSlow(blamed, dropped[0].ev.Group, len(dropped), func(i int) relay.Position {
		return dropped[i].ev.Position
	})
}

// forward hands the results to the fan-out.
func (w *worker) forward() {
	if len(w.out) == 0 {
		return
	}
	l := w.lane
	l.shard.mu.Lock()
	l.fanOut.start(time.Now())
	l.shard.mu.Unlock()
	l.shard.lanes.forward(w.out)
	l.shard.mu.Lock()
	l.fanOut.stop(time.Now())
	l.shard.mu.Unlock()
	clear(w.out)
	w.out = w.out[:0]
}

package lanes

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// passingCapacity is how many bytes of events of groups without plugins wait behind earlier ones.
const passingCapacity = 8 << 20

// lane is a queue of events that wait for the same plugins, and the goroutine that takes them through. A lane exists
// while it holds events: the worker ends with the last one. The shard's lock guards the fields.
type lane struct {
	shard  *shard
	key    string
	chain  *plugins.Chain // the latest with the key; nil for groups without plugins
	hash   uint64         // of the group that came last
	load   *load
	items  []item // queued, without those that the worker has taken
	worker *worker
	bytes  int         // of all events
	fanOut fanOutClock // only the worker changes it, and the functions that it calls
}

// hasRoom reports whether the lane takes another run of events. A lane may use the chain's whole memory, and each lane
// of the chain has a share of its own, so that a group cannot keep out those of other shards.
func (l *lane) hasRoom() bool {
	if l.chain == nil {
		return l.bytes < passingCapacity
	}
	limit := l.chain.QueueBytes()
	return l.load.bytes.Load() < int64(limit) || l.bytes < limit/(2*len(l.shard.lanes.shards))
}

// blocks reports whether the caller of push has to wait for room, rather than lose events: plugins are not to blame.
func (l *lane) blocks(now time.Time) bool { return l.chain == nil || l.fanOut.toBlame(now) }

// add queues events of a group.
func (l *lane) add(g *group, run []relay.Event, onward *plugins.Onward, now time.Time) {
	at := l.fanOut.pluginTime(now)
	l.items = slices.Grow(l.items, len(run))
	for i := range run {
		l.append(item{ev: run[i], onward: onward, group: g, at: at})
	}
}

func (l *lane) append(it item) {
	l.items = append(l.items, it)
	it.group.events++
	l.grow(it.size())
}

func (l *lane) grow(bytes int) {
	l.bytes += bytes
	l.load.bytes.Add(int64(bytes))
}

// pauseFanOut notes that the worker leaves the fan-out for a plugin, which renders a view there, and reports whether
// the worker was in the fan-out. The lane may be nil.
func (l *lane) pauseFanOut() (paused bool) {
	if l == nil {
		return false
	}
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.fanOut.since.IsZero() {
		return false
	}
	l.fanOut.stop(time.Now())
	return true
}

// resumeFanOut ends a pause.
func (l *lane) resumeFanOut(paused bool) {
	if !paused {
		return
	}
	l.shard.mu.Lock()
	l.fanOut.start(time.Now())
	l.shard.mu.Unlock()
}

// blamed returns the plugin for which the lane waits, "" if there is none.
func (l *lane) blamed() string {
	if l.chain == nil {
		return ""
	}
	return l.chain.Slowest(l.hash)
}

// remove ends the lane.
func (l *lane) remove() {
	l.load.bytes.Add(-int64(l.bytes))
	l.worker.spare, l.items = l.items[:0], nil
	delete(l.shard.byChain, l.key)
	l.shard.lanes.loads.release(l.key)
}

// state returns the number of events in the lane, and how long the first of them has waited.
func (l *lane) state(now time.Time) (events int, oldest time.Duration) {
	w := l.worker
	events = len(w.items) - w.left + len(l.items)
	switch {
	case w.left < len(w.items):
		oldest = l.fanOut.age(now, w.items[w.left].at)
	case len(l.items) > 0:
		oldest = l.fanOut.age(now, l.items[0].at)
	}
	return events, oldest
}

// load is the bytes of events in the lanes of a chain.
type load struct {
	bytes atomic.Int64
	lanes int // guarded by the lock of loads
}

// loads holds the loads of the chains that have lanes, by key. Methods are safe for concurrent use.
type loads struct {
	mu    sync.Mutex // guards byKey
	byKey map[string]*load
}

// acquire returns the load of a chain for another lane.
func (ls *loads) acquire(key string) *load {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.byKey[key]
	if l == nil {
		l = &load{}
		ls.byKey[key] = l
	}
	l.lanes++
	return l
}

// release gives up the load of a lane.
func (ls *loads) release(key string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.byKey[key]
	if l.lanes--; l.lanes == 0 {
		delete(ls.byKey, key)
	}
}

package lanes

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// eventOverhead is the size of an event in addition to the text, in bytes.
	eventOverhead = 256
	// blamePoll is how often a blocked push looks whether the fan-out is still to blame.
	blamePoll = 100 * time.Millisecond
	// maxSpareGroups bounds the groups that a shard keeps for reuse.
	maxSpareGroups = 1024
)

// item is an event in a lane.
type item struct {
	ev     relay.Event
	onward *plugins.Onward // of an event that another group's plugin has emitted, else nil
	group  *group
	// at is the lane's plugin time when the event was queued, see fanOutClock; for a parked event, the time.
	at time.Time
}

func (it *item) size() int { return eventOverhead + len(it.ev.Text) }

// group is a group with events in a shard.
type group struct {
	name   string
	lane   *lane
	events int    // in the lane, queued or with the worker
	change uint64 // of the shard, when the group came or was last found in the lane of its plugins

	// The group's plugins have changed: these events wait until the lane has no event of the group any more. The
	// events in moved have been in the lane and come first.
	moved, parked []item
	parkedBytes   int
}

// parks reports whether events of the group have to wait for a change of the lane.
func (g *group) parks() bool { return len(g.moved)+len(g.parked) > 0 }

// shardPhase is the phase of a shard.
type shardPhase uint8

const (
	shardOpen   shardPhase = iota
	shardClosed            // events are dropped
)

// shard holds the groups whose hash selects it, as it selects the instance in their plugins, and their lanes.
type shard struct {
	lanes *Lanes

	mu         sync.Mutex // guards the fields below, and the lanes
	room       sync.Cond  // push waits for the fan-out
	phase      shardPhase
	groups     map[string]*group // with events in a lane, or parked
	byChain    map[string]*lane  // by the key of the chain; each holds events
	spare      []*group
	replays    map[string]*replayTurn // in progress or waiting, by the key of the chain
	settlement settlement
	change     uint64 // counts the changes of the pipeline
}

func newShard(ls *Lanes) *shard {
	s := &shard{lanes: ls, groups: map[string]*group{}, byChain: map[string]*lane{}, replays: map[string]*replayTurn{}}
	s.room.L = &s.mu
	return s
}

// push queues a run of events of a group if the group has plugins, or if earlier events of the group are in the shard,
// and reports whether that is the case. If the lane is full, the events are dropped; but while the fan-out is the
// reason, push blocks, as the fan-out would. onward is set for an event that has been handed over; push does not block
// then, since two workers would wait for each other.
func (s *shard) push(run []relay.Event, onward *plugins.Onward, mayBlock bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wake *time.Timer
	for {
		// Checked again after each wait: the pipeline may have changed meanwhile. With a stale answer, a later event of
		// the group could overtake this run.
		name := run[0].Group
		chain, hash := s.lanes.pipeline.Chain(name)
		g := s.groups[name]
		if chain == nil && g == nil {
			return false
		}
		if s.phase == shardClosed {
			return true
		}
		now := time.Now()
		switch {
		case g != nil && (g.parks() || g.lane.key != keyOf(chain)):
			s.park(g, chain, run, onward, now)
			return true
		case g == nil:
			g = s.newGroup(name, s.laneOf(chain, now))
		case chain != nil:
			s.settleGroup(g)
		}
		l := g.lane
		l.chain, l.hash = chain, hash
		if l.hasRoom() || isResumption(&run[0]) {
			l.add(g, run, onward, now)
			return true
		}
		s.release(g)
		if !mayBlock || !l.blocks(now) {
			s.lanes.dropSlow(l.blamed(), run)
			return true
		}
		if wake == nil {
			wake = time.AfterFunc(blamePoll, s.room.Broadcast)
			defer wake.Stop()
		} else {
			wake.Reset(blamePoll)
		}
		s.room.Wait()
	}
}

// keyOf returns the key of a chain; "" is for the events of groups without plugins that follow earlier events.
func keyOf(c *plugins.Chain) string {
	if c == nil {
		return ""
	}
	return c.Key()
}

// newGroup adds a group without events.
func (s *shard) newGroup(name string, l *lane) *group {
	g := &group{}
	if n := len(s.spare); n > 0 {
		g, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	g.name, g.lane, g.change = name, l, s.change
	s.groups[name] = g
	return g
}

// release forgets a group without events.
func (s *shard) release(g *group) {
	if g.events > 0 || g.parks() {
		return
	}
	s.settleGroup(g)
	delete(s.groups, g.name)
	*g = group{}
	if len(s.spare) < maxSpareGroups {
		s.spare = append(s.spare, g)
	}
}

// laneOf returns the lane of a chain. It starts the lane's worker if the chain has no lane.
func (s *shard) laneOf(chain *plugins.Chain, now time.Time) *lane {
	key := keyOf(chain)
	l := s.byChain[key]
	if l == nil {
		w := workers.Get().(*worker)
		l = &lane{
			shard: s, key: key, chain: chain, load: s.lanes.loads.acquire(key), worker: w, fanOut: newFanOutClock(now),
		}
		w.lane, l.items, w.spare = l, w.spare, nil
		s.byChain[key] = l
		s.lanes.workers.Go(w.run)
	}
	return l
}

// park keeps events of a group whose plugins have changed until the earlier events have left the lane of the plugins
// before.
func (s *shard) park(
	g *group, chain *plugins.Chain, run []relay.Event, onward *plugins.Onward, now time.Time,
) {
	if chain != nil && g.parkedBytes >= chain.QueueBytes() && !isResumption(&run[0]) {
		s.lanes.dropSlow(g.lane.blamed(), run)
		return
	}
	for i := range run {
		it := item{ev: run[i], onward: onward, group: g, at: now}
		g.parked = append(g.parked, it)
		g.parkedBytes += it.size()
	}
}

// move parks an event whose turn has come if the group's plugins are not the lane's any more, and reports whether that
// is the case.
func (s *shard) move(l *lane, it *item, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := it.group
	chain, _ := s.lanes.pipeline.Chain(g.name)
	if len(g.moved) == 0 && keyOf(chain) == l.key {
		return false
	}
	g.moved = append(g.moved, item{ev: it.ev, onward: it.onward, group: g, at: now.Add(-l.fanOut.age(now, it.at))})
	g.parkedBytes += it.size()
	return true
}

// left notes that events of a group have left the lane, to the fan-out or for good. The last one makes the group
// change to the lane of its current plugins.
func (s *shard) left(g *group, events int, now time.Time) {
	if g.events -= events; g.events > 0 {
		return
	}
	if !g.parks() {
		s.release(g)
		return
	}
	chain, hash := s.lanes.pipeline.Chain(g.name)
	g.lane = s.laneOf(chain, now)
	g.lane.hash = hash
	if chain != nil {
		s.settleGroup(g)
	}
	for _, items := range [][]item{g.moved, g.parked} {
		for i := range items {
			items[i].at = g.lane.fanOut.pluginTime(now).Add(-now.Sub(items[i].at))
			g.lane.append(items[i])
		}
	}
	g.moved, g.parked, g.parkedBytes = nil, nil, 0
}

// eachLane calls f with each lane, under the shard's lock.
func (s *shard) eachLane(f func(*lane)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.byChain {
		f(l)
	}
}

// close drops the queued events and ends the workers.
func (s *shard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = shardClosed
	s.room.Broadcast()
}

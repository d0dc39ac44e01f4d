package sortedset

import (
	"cmp"
	"context"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Commands appends the commands that store events: one for each group, in the order of the groups' first events. All
// events belong to one host; events without a position, and those of groups without history, are left out. The order of
// the events, and of the calls, is the order in which clients get the events.
func (s *Store) Commands(dst [][]string, events []relay.Event) [][]string {
	batches := s.batches(events)
	if len(batches) == 0 {
		return dst
	}
	keys := s.settings.Load().keys
	h := s.host(batches[0].group)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range batches {
		args := make([]string, 2, 4+2*len(b.events))
		args[0], args[1] = "ZADD", s.groupKey(b.group)
		g := h.group(b.group)
		first := b.events[0].Position.Entry()
		last := first
		for _, ev := range b.events {
			at := ev.Position.Entry()
			args = append(args, score(at.Micros), keys.member(ev))
			if at.Compare(first) < 0 {
				first = at
			}
			if at.Compare(last) > 0 {
				last = at
			}
		}
		if g != nil {
			if l, ok := g.sawLate(first); ok {
				args = append(args, strconv.FormatInt(-l.to, 10), l.member())
			}
			g.added(s, b.events)
			g.saw(last)
		}
		dst = append(dst, args)
	}
	return dst
}

// batch is the events of a group.
type batch struct {
	group  string
	events []*relay.Event
}

// batches groups events by their groups, in the order of the groups' first events.
func (s *Store) batches(events []relay.Event) (list []batch) {
	index := map[string]int{}
	for i := range events {
		ev := &events[i]
		if ev.Position.IsZero() || ev.Control != nil {
			continue
		}
		at, ok := index[ev.Group]
		if !ok {
			if _, has := s.Limits(ev.Group); !has {
				continue
			}
			at = len(list)
			index[ev.Group] = at
			list = append(list, batch{group: ev.Group})
		}
		list[at].events = append(list[at].events, ev)
	}
	return list
}

// sawLate returns the late entry to write if an event came after newer ones. The host's lock is held.
func (g *group) sawLate(at relay.Position) (l lateness, isNew bool) {
	if at.Compare(g.newest) >= 0 {
		return l, false
	}
	l = lateBetween(at.Micros, g.newest.Micros)
	if g.late.covers(l) {
		return l, false
	}
	g.late = l
	g.metas++
	return l, true
}

// saw notes a position that clients of this node have. The host's lock is held.
func (g *group) saw(at relay.Position) {
	if at.Compare(g.newest) > 0 {
		g.newest = at
	}
}

// saw notes the time of an event on the host.
func (h *host) saw(micros int64) {
	for {
		newest := h.newest.Load()
		if micros <= newest || h.newest.CompareAndSwap(newest, micros) {
			return
		}
	}
}

// added counts events that are being written. The host's lock is held.
func (g *group) added(s *Store, events []*relay.Event) {
	g.used = s.now()
	if g.ageAt.IsZero() {
		g.ageAt = g.used.Add(g.limits.Age)
	}
	if g.count == 0 { // The key may be new, and without an expiry.
		g.expireAt = time.Time{}
	}
	g.count += len(events)
	for _, ev := range events {
		g.bytes += len(ev.Text)
	}
}

// Wrote takes the replies to the commands that Commands returned for the events: nil or an error reply for each. After
// a broken connection, the same events are passed to Commands again instead. Wrote does not block.
func (s *Store) Wrote(events []relay.Event, replies []error) {
	var failed []string
	var cause error
	for i, b := range s.batches(events) {
		if i >= len(replies) {
			break
		}
		h := s.host(b.group)
		if err := replies[i]; err != nil {
			s.stats.failed.Add(1)
			failed, cause = append(failed, b.group), cmp.Or(cause, err)
			continue
		}
		s.stats.recorded.Add(uint64(len(b.events)))
		h.mu.Lock()
		if g := h.groups[b.group]; g != nil && g.expireAt.IsZero() {
			h.wakeUp() // A key without an expiry must not outlive this node.
		}
		h.mu.Unlock()
	}
	if len(failed) > 0 {
		h := s.host(failed[0])
		h.note(cause)
		s.markGap(failed)
	}
}

// Add stores events of a host outside a pipeline, such as the unread messages of another node.
func (s *Store) Add(ctx context.Context, host int, events []relay.Event) error {
	h := s.hosts[host]
	batches := s.batches(events)
	for len(batches) > 0 {
		n := min(len(batches), pipelineMax)
		err := h.add(ctx, batches[:n])
		if redisnet.WrongType(err) {
			if err = h.heal(ctx, batches[:n]); err == nil {
				err = h.add(ctx, batches[:n])
			}
		}
		if err != nil {
			h.note(err)
			return err
		}
		batches = batches[n:]
	}
	return nil
}

// pipelineMax is the number of groups in a pipeline.
const pipelineMax = 100

// add stores events of groups. Each event has a command, whose reply tells whether another node had stored it.
func (h *host) add(ctx context.Context, batches []batch) error {
	keys := h.store.settings.Load().keys
	names := make([]string, len(batches))
	for i, b := range batches {
		names[i] = b.group
	}
	pipe := h.client().Pipeline()
	newest := h.askNewest(ctx, pipe, names)
	replies := make([][]*goredis.IntCmd, len(batches))
	for i, b := range batches {
		for _, ev := range b.events {
			replies[i] = append(replies[i], pipe.ZAdd(ctx, h.store.groupKey(b.group),
				goredis.Z{Score: float64(ev.Position.Micros), Member: keys.member(ev)}))
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	return h.addLate(ctx, batches, newest, replies)
}

// heal deletes keys of another type.
func (h *host) heal(ctx context.Context, batches []batch) error {
	for _, b := range batches {
		if err := h.healGroup(ctx, b.group); err != nil {
			return err
		}
	}
	return nil
}

// healGroup deletes the key of a group if it holds another type. The group has a gap.
func (h *host) healGroup(ctx context.Context, group string) error {
	key := h.store.groupKey(group)
	kind, err := h.client().Type(ctx, key).Result()
	if err != nil || kind == "zset" || kind == "none" {
		return err
	}
	if err := h.client().Del(ctx, key).Err(); err != nil {
		return err
	}
	h.healed(key)
	h.store.markGap([]string{group})
	return nil
}

// addLate notes the events that were added behind newer ones.
func (h *host) addLate(ctx context.Context, batches []batch, newest []ends, replies [][]*goredis.IntCmd) error {
	pipe := h.client().Pipeline()
	h.mu.Lock()
	for i, b := range batches {
		var isNew []*relay.Event
		for n, reply := range replies[i] {
			if reply.Val() > 0 {
				isNew = append(isNew, b.events[n])
			}
		}
		g := h.group(b.group)
		if g == nil || len(isNew) == 0 {
			continue
		}
		h.store.stats.recorded.Add(uint64(len(isNew)))
		g.added(h.store, isNew)
		if g.expireAt.IsZero() {
			h.wakeUp()
		}
		for l := range latenesses(isNew, newest[i].newest()) {
			pipe.ZAdd(ctx, h.store.groupKey(b.group), goredis.Z{Score: float64(-l.to), Member: l.member()})
			g.metas++
		}
	}
	h.mu.Unlock()
	if pipe.Len() == 0 {
		return nil
	}
	_, err := pipe.Exec(ctx)
	return err
}

// latenesses returns the late entries for events that were added behind the newest entry. Clients of another node may
// have got any event before them, but, as long as clocks differ by less than the slack, none from long after them. For
// its own clients, a node writes the entry when the late event arrives.
func latenesses(events []*relay.Event, newest int64) map[lateness]bool {
	list := map[lateness]bool{}
	for _, ev := range events {
		if at := ev.Position.Micros; at <= newest {
			list[lateBetween(at, min(newest, at+relay.HistorySlack))] = true
		}
	}
	return list
}

// queueMax is the number of events that wait to be stored on a host.
const queueMax = 10_000

// Record implements [relay.History]: it stores the events of peers under the peers' positions. The layer stores its own
// events. An event of a peer without a position gets none, because another node would give it another one. A position
// that is no time, or from the future, is removed: all later positions of the host would stand behind it.
func (s *Store) Record(events []relay.Event) {
	latest := s.now().UnixMicro() + aheadMax
	for i := range events {
		ev := &events[i]
		if ev.Source != relay.FromPeer {
			continue
		}
		if at := ev.Position.Micros; at > latest || at <= 0 {
			ev.Position = relay.Position{}
		}
		s.later(ev)
	}
}

// Later stores events like Add, without blocking.
func (s *Store) Later(events []relay.Event) {
	for i := range events {
		s.later(&events[i])
	}
}

func (s *Store) later(ev *relay.Event) {
	if _, ok := s.Limits(ev.Group); !ok || ev.Position.IsZero() || ev.Control != nil {
		return
	}
	h := s.host(ev.Group)
	h.mu.Lock()
	full := len(h.queue) >= queueMax
	if !full {
		h.queue = append(h.queue, relay.Event{
			Group: ev.Group, Type: ev.Type, Text: ev.Text, Source: ev.Source, NeedsRelay: ev.NeedsRelay, Foreign: ev.Foreign,
			Position: ev.Position.Entry(),
		})
		if g := h.group(ev.Group); g != nil {
			at := ev.Position.Entry()
			if l, ok := g.sawLate(at); ok {
				h.lates = append(h.lates, groupLate{ev.Group, l})
			}
			g.saw(at)
		}
	}
	h.mu.Unlock()
	h.saw(ev.Position.Micros)
	if full {
		s.stats.failed.Add(1)
		s.markGap([]string{ev.Group})
	}
	h.wakeUp()
}

// flush stores the queued events of peers.
func (h *host) flush(ctx context.Context) error {
	h.adding.Lock()
	defer h.adding.Unlock()
	h.mu.Lock()
	events, lates := h.queue, h.lates
	h.queue, h.lates = nil, nil
	h.mu.Unlock()
	if len(events) == 0 {
		return nil
	}
	err := h.writeLates(ctx, lates)
	if err == nil {
		err = h.store.Add(ctx, h.index, events)
	}
	if err == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queue, h.lates = append(events, h.queue...), append(lates, h.lates...)
	return err
}

// groupLate is a late entry of a group.
type groupLate struct {
	group string
	lateness
}

// writeLates writes late entries. Their events follow: a read in between finds a gap, and not a hole.
func (h *host) writeLates(ctx context.Context, lates []groupLate) error {
	if len(lates) == 0 {
		return nil
	}
	pipe := h.client().Pipeline()
	for _, l := range lates {
		pipe.ZAdd(ctx, h.store.groupKey(l.group), goredis.Z{Score: float64(-l.to), Member: l.member()})
	}
	_, err := pipe.Exec(ctx)
	if redisnet.WrongType(err) { // Add heals the group, which then has a gap
		return nil
	}
	return err
}

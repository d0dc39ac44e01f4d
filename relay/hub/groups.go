package hub

import (
	"math"
	"strings"
	"sync/atomic"
	"time"
)

// GroupInfo is an operator's view of a group with clients on this node.
type GroupInfo struct {
	Group string
	// Subscribers is the number of clients, Tails the number of operators' tails.
	Subscribers, Tails int
	// Rate is the number of events a second between the last two calls of MeasureGroups.
	Rate float64
}

// GroupOrder is the order of a list of groups.
type GroupOrder int

// The orders. Equal groups are ordered by name.
const (
	GroupsByName GroupOrder = iota
	GroupsByRate
	GroupsBySubscribers
)

// Groups returns, in an order, the first limit groups with names that begin with prefix, and the number of all such
// groups. By name, the page begins behind the name after.
// See docs/decisions/hub.md#why-do-lists-copy-pointers
func (h *Hub) Groups(prefix string, order GroupOrder, after string, limit int) (page []GroupInfo, total int) {
	first := top[GroupInfo]{limit: limit, before: func(a, b *GroupInfo) bool {
		switch {
		case order == GroupsByRate && a.Rate != b.Rate:
			return a.Rate > b.Rate
		case order == GroupsBySubscribers && a.Subscribers != b.Subscribers:
			return a.Subscribers > b.Subscribers
		}
		return a.Group < b.Group
	}}
	h.interest.each(func(group string, clients int) {
		if !strings.HasPrefix(group, prefix) {
			return
		}
		total++
		if order == GroupsByName && group <= after {
			return
		}
		g := GroupInfo{Group: group, Subscribers: clients}
		tails, tailRate := h.tailsOf(group)
		g.Subscribers -= tails
		g.Tails, g.Rate = tails, tailRate
		if order == GroupsByRate {
			g.Rate = max(g.Rate, h.groupRate(group))
		}
		first.add(g)
	})
	if order != GroupsByRate {
		for i := range first.items {
			first.items[i].Rate = max(first.items[i].Rate, h.groupRate(first.items[i].Group))
		}
	}
	return first.items, total
}

// tailsOf returns the number of a group's tails, and the rate of events.
func (h *Hub) tailsOf(group string) (tails int, rate float64) {
	for _, ls := range []byGroup{h.listeners.load(), h.watchers.load()} {
		n, r, _ := ls.tails(group)
		tails, rate = tails+n, max(rate, r)
	}
	return tails, rate
}

// groupRate returns a group's rate, the highest of all shards: each shard with subscribers gets all events, but a new
// audience has not counted earlier events.
func (h *Hub) groupRate(group string) (rate float64) {
	for _, s := range h.shards {
		if a := s.audience(group); a != nil {
			rate = max(rate, float64(math.Float32frombits(a.rate.Load())))
		}
		for _, a := range s.formatAudiences(group) {
			if a.plain != nil {
				rate = max(rate, float64(math.Float32frombits(a.plain.rate.Load())))
			}
		}
		for _, a := range s.positionAudiences(group) {
			rate = max(rate, float64(math.Float32frombits(a.rate.Load())))
		}
	}
	return rate
}

// MeasureGroups sets the rates of groups from the events since the last call, which was elapsed ago.
// See docs/decisions/hub.md#why-is-a-groups-rate-counted-by-event-and-divided-on-demand
func (h *Hub) MeasureGroups(elapsed time.Duration) {
	measure := func(events, seen, rate *atomic.Uint32) {
		n := events.Load()
		fresh := n - seen.Swap(n)
		rate.Store(math.Float32bits(float32(float64(fresh) / elapsed.Seconds())))
	}
	for _, s := range h.shards {
		s.eachAudience(func(a *audience) { measure(&a.events, &a.seen, &a.rate) })
	}
	for _, ls := range []byGroup{h.listeners.load(), h.watchers.load()} {
		ls.eachTail(func(t *Tail) { measure(&t.events, &t.seen, &t.perSecond) })
	}
}

// unlockEvery is the number of map entries after which an iteration releases the lock for a moment.
const unlockEvery = 256

// eachAudience calls fn with every audience. Audiences that come or go during the iteration may be left out.
func (s *shard) eachAudience(fn func(*audience)) {
	n := 0
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.audiences {
		if n++; n%unlockEvery == 0 {
			s.mu.RUnlock()
			s.mu.RLock()
		}
		fn(a)
	}
	for _, a := range s.positioned {
		if n++; n%unlockEvery == 0 {
			s.mu.RUnlock()
			s.mu.RLock()
		}
		fn(&a.audience)
	}
	for _, list := range s.formatted {
		if n++; n%unlockEvery == 0 {
			s.mu.RUnlock()
			s.mu.RLock()
		}
		for _, a := range list {
			if a.plain != nil {
				fn(a.plain)
			}
			if a.positioned != nil {
				fn(&a.positioned.audience)
			}
		}
	}
}

// each calls fn with every group that has clients. Groups that come or go during the iteration may be left out.
func (i *interest) each(fn func(group string, clients int)) {
	n := 0
	i.mu.Lock()
	defer i.mu.Unlock()
	for group, m := range i.groups {
		if n++; n%unlockEvery == 0 {
			i.mu.Unlock()
			i.mu.Lock()
		}
		if m.clients > 0 {
			fn(group, int(m.clients))
		}
	}
}

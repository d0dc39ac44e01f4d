package hub

import (
	"reflect"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// minSettle is the least time, and maxSettle the greatest, in which events of a replay may still reach this node:
	// they wait in the mailbox or for plugins.
	minSettle, maxSettle = 5 * time.Second, 2 * time.Minute
)

// settlement keeps the events of a wave's replay from clients to which they come again, live.
type settlement struct {
	wave    *wave
	began   time.Time
	newest  int64 // greatest Micros
	members []member
	indexes []map[relay.Position]int // of the members' renderings
	listed  map[relay.Position]bool  // union of the members'
}

// member is a client of a settlement.
type member struct {
	sub   *subscription
	known *known
}

// settle keeps the events that a client has from it. The round is held.
func (a *positionAudience) settle(s *shard, p *pending, k *known) {
	if len(k.indexes) == 0 && len(k.listed) == 0 && len(k.page) == 0 {
		return
	}
	var st *settlement
	if n := len(a.settled); n > 0 && a.settled[n-1].wave == p.wave {
		st = a.settled[n-1]
	} else {
		st = &settlement{wave: p.wave, began: time.Now(), listed: map[relay.Position]bool{}}
		a.settled = append(a.settled, st)
	}
	st.add(p.sub, k)
	if a.sweep == nil {
		a.sweep = time.AfterFunc(maxSettle, func() { s.sweepSettled(a) })
	}
}

func (st *settlement) add(sub *subscription, k *known) {
	if n := len(st.members); n == 0 || st.members[n-1].known != k { // equal answers follow each other
		st.newest = max(st.newest, k.newest)
		for entry := range k.listed {
			st.listed[entry] = true
			st.newest = max(st.newest, entry.Micros)
		}
		st.addIndexes(k.indexes)
		st.addIndexes(k.page)
	}
	st.members = append(st.members, member{sub, k})
}

// addIndexes adds a map that other members may have, too.
func (st *settlement) addIndexes(m map[relay.Position]int) {
	if len(m) == 0 {
		return
	}
	for _, other := range st.indexes {
		if reflect.ValueOf(other).Pointer() == reflect.ValueOf(m).Pointer() {
			return
		}
	}
	st.indexes = append(st.indexes, m)
}

// concerns reports whether a member may have an event.
func (st *settlement) concerns(p relay.Position) bool {
	entry := p.Entry()
	if st.listed[entry] {
		return true
	}
	for _, m := range st.indexes {
		if _, ok := m[entry]; ok {
			return true
		}
	}
	return false
}

// over reports whether the events of the replay cannot come any more: the live stream is beyond them, or it is late.
func (st *settlement) over(now time.Time, written relay.Position) bool {
	age := now.Sub(st.began)
	return age >= maxSettle || age >= minSettle && written.Micros > st.newest+relay.HistorySlack
}

// sweepSettled removes what a quiet group has kept.
func (s *shard) sweepSettled(a *positionAudience) {
	s.round.Lock()
	defer s.round.Unlock()
	if a.prune(); len(a.settled) == 0 {
		a.sweep = nil
	} else {
		a.sweep.Reset(maxSettle)
	}
}

// prune removes the settlements that are over.
func (a *positionAudience) prune() {
	now, kept := time.Now(), a.settled[:0]
	for _, st := range a.settled {
		if !st.over(now, a.written) {
			kept = append(kept, st)
		}
	}
	clear(a.settled[len(kept):])
	a.settled = kept
}

// withoutKnown replaces jobs with events that some of their clients have by jobs without these events, for these
// clients. The round is held.
func (s *shard) withoutKnown(jobs []job) []job {
	for i := range jobs {
		if jobs[i].hasKnown() {
			changed := append([]job(nil), jobs[:i]...)
			for n := range jobs[i:] {
				changed = jobs[i+n].appendUnknown(changed)
			}
			return changed
		}
	}
	return jobs
}

// hasKnown reports whether some of the job's clients may have an event.
func (j *job) hasKnown() bool {
	if j.positioned == nil || len(j.positioned.settled) == 0 {
		return false
	}
	j.positioned.prune()
	for _, st := range j.positioned.settled {
		for _, p := range j.positioned.positions {
			if !p.IsZero() && st.concerns(p) {
				return true
			}
		}
	}
	return false
}

// appendUnknown appends jobs with the events that the clients do not have.
func (j *job) appendUnknown(dst []job) []job {
	if !j.hasKnown() {
		return append(dst, *j)
	}
	apart := map[*subscription]*known{}
	for _, st := range j.positioned.settled {
		for _, m := range st.members {
			for _, p := range j.positioned.positions {
				if m.known.has(p) {
					apart[m.sub] = m.known
					break
				}
			}
		}
	}
	all := *j
	all.audience = &audience{}
	some := map[*known]*audience{}
	for _, sub := range j.audience.subs {
		to := all.audience
		if k := apart[sub.subscription]; k != nil {
			if some[k] == nil {
				some[k] = &audience{}
			}
			to = some[k]
		}
		to.subs = append(to.subs, sub)
		to.enter(sub.classification())
	}
	dst = append(dst, all)
	for k, to := range some {
		var t tail
		if t.add(j, k); t.events == 0 {
			continue
		}
		j.journey.addJob()
		part := *j
		part.audience, part.frames, part.count, part.compressed = to, t.frames, t.events, nil
		part.positioned = &positionedJob{positionAudience: j.positioned.positionAudience}
		dst = append(dst, part)
	}
	return dst
}

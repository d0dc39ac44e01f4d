package sortedset

import (
	"cmp"
	"slices"

	"github.com/edgerelay/edgerelay/relay"
)

// view is this node's knowledge of a group's history.
type view struct {
	events []entry        // by position
	floor  relay.Position // the newest anchor; zero: no event was removed
	bases  []entry
	gaps   []entry
	lates  []lateness
	since  int64 // gaps of all groups are known since this time
}

// newView sorts the entries of a group's set.
func newView(entries []entry, since int64, gaps ...entry) *view {
	v := &view{since: since, gaps: gaps}
	for _, e := range entries {
		switch e.kind {
		case eventKind:
			v.events = append(v.events, e)
		case anchorKind:
			if e.Compare(v.floor) > 0 {
				v.floor = e.Position
			}
		case baseKind:
			v.bases = append(v.bases, e)
		case lateKind:
			v.lates = append(v.lates, lateness{e.from, e.Micros})
		default:
			v.gaps = append(v.gaps, e)
		}
	}
	slices.SortFunc(v.events, func(a, b entry) int { return a.Compare(b.Position) })
	return v
}

// judge returns nil if a client that has the event of a position gets all later ones from [relay.HistorySlack] before
// the position on.
// See docs/decisions/history.md#when-is-a-resume-complete
func (v *view) judge(at relay.Position) error {
	switch {
	case at.Compare(v.floor) < 0 || !v.has(at):
		return relay.NotRecoveredUnknown
	case at.Micros+relay.HistorySlack < v.since:
		return relay.NotRecoveredGap
	}
	seen := v.seen(at)
	for i := range v.gaps {
		if g := &v.gaps[i]; g.Position != at && g.until >= at.Micros && !slices.Contains(seen, g.Mark) {
			return relay.NotRecoveredGap
		}
	}
	for _, l := range v.lates {
		if v.lacks(l, at) {
			return relay.NotRecoveredGap
		}
	}
	if v.unsure(at) {
		return relay.NotRecoveredGap
	}
	return nil
}

// lacks reports whether a client with a position may lack a late event, and a replay does not have it.
func (v *view) lacks(l lateness, at relay.Position) bool {
	if l.from >= at.Micros || at.Micros > l.to { // The client got the event in order.
		return false
	}
	return l.from < at.Micros-relay.HistorySlack || l.from <= v.floor.Micros
}

// unsure reports whether events that came after a position, and before it by their time, may have been removed: clocks
// of emitters differ, as late entries show, and the position is close to the anchor. Another node may not have noted
// yet that such an event was late for its clients.
func (v *view) unsure(at relay.Position) bool {
	return !v.floor.IsZero() && at.Micros-relay.HistorySlack < v.floor.Micros &&
		slices.ContainsFunc(v.lates, func(l lateness) bool { return l.from <= at.Micros && l.to >= v.floor.Micros })
}

// seen returns the marks of the gaps that a base knows: they concern what came before.
func (v *view) seen(at relay.Position) []uint64 {
	for i := range v.bases {
		if v.bases[i].Position == at {
			return v.bases[i].seen
		}
	}
	return nil
}

// has reports whether an entry has the position.
func (v *view) has(at relay.Position) bool {
	return v.marks(at) || v.hasEvent(at)
}

// marks reports whether an entry that is not an event has the position.
func (v *view) marks(at relay.Position) bool {
	is := func(e entry) bool { return e.Position == at }
	return at == v.floor || slices.ContainsFunc(v.bases, is) || slices.ContainsFunc(v.gaps, is)
}

func (v *view) hasEvent(at relay.Position) bool {
	_, ok := slices.BinarySearchFunc(v.events, at, func(e entry, p relay.Position) int { return e.Compare(p) })
	return ok
}

// head returns the newest position, zero if there is none that a client could resume from.
func (v *view) head() relay.Position {
	at := v.newest()
	if at.IsZero() || v.judge(at) != nil {
		return relay.Position{}
	}
	return at
}

// newest returns the newest position.
func (v *view) newest() (at relay.Position) {
	at = v.floor
	for _, list := range [][]entry{v.events, v.bases, v.gaps} {
		for i := range list {
			if list[i].Compare(at) > 0 {
				at = list[i].Position
			}
		}
	}
	return at
}

// newBase returns an entry that makes a head: just behind everything that is known, and knowing all gaps.
func (v *view) newBase(newest int64, now int64, mark uint64) (at relay.Position, seen []uint64) {
	at = relay.Position{Micros: max(newest, v.newest().Micros) + 1, Mark: mark}
	if at.Micros == 1 {
		at.Micros = now
	}
	for i := range v.gaps {
		if v.gaps[i].until >= at.Micros {
			seen = append(seen, v.gaps[i].Mark)
		}
	}
	return at, seen
}

// page returns the events from a time on, and at least the latest. Events that were written under two keys are one.
func (v *view) page(group string, from int64, latest int) (list []relay.Event) {
	seen := make(map[string]bool, len(v.events))
	for i := len(v.events) - 1; i >= 0; i-- {
		e := &v.events[i]
		if e.Compare(v.floor) <= 0 || e.Micros < from && len(list) >= latest {
			break
		}
		if same := score(e.Micros) + e.ofType + string(e.text); !seen[same] {
			seen[same] = true
			list = append(list, relay.Event{
				Group: group, Type: e.ofType, Text: e.text, Source: relay.FromHistory,
				NeedsRelay: e.marked, Foreign: e.foreign, Sent: e.time(), Position: e.Position,
			})
		}
	}
	slices.Reverse(list)
	return list
}

// compact returns the entries without text that are superfluous: they say nothing about a position that can still be
// resumed from.
func (v *view) compact(entries []entry, floor relay.Position) (superfluous []string) {
	gaps := slices.Clone(v.gaps)
	slices.SortFunc(gaps, func(a, b entry) int { return cmp.Compare(b.until, a.until) })
	var until int64 // of the gaps that are kept
	if len(gaps) > gapsKept {
		until = gaps[gapsKept-1].until
	}
	for i := range entries {
		e := &entries[i]
		switch {
		case e.broken:
		case (e.kind == anchorKind || e.kind == baseKind) && e.Compare(floor) < 0,
			e.kind == lateKind && e.Micros < floor.Micros,
			e.kind == gapKind && e.Compare(floor) < 0 && e.until < floor.Micros,
			e.kind == gapKind && e.until < until:
			superfluous = append(superfluous, e.raw)
		}
	}
	return superfluous
}

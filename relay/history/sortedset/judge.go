package sortedset

import (
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// view is what is known about a group's history.
type view struct {
	events []entry        // by position
	floor  relay.Position // the newest anchor; zero: no event was removed
	bases  []relay.Position
	gaps   []relay.Position
	lates  []lateness
	since  int64 // gaps of all groups are known since this time
}

// newView sorts the entries of a group's set.
func newView(entries []entry, since int64, gaps ...relay.Position) *view {
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
			v.bases = append(v.bases, e.Position)
		case lateKind:
			v.lates = append(v.lates, lateness{e.from, e.Micros})
		default:
			v.gaps = append(v.gaps, e.Position)
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
	for _, g := range v.gaps {
		if g != at && g.Micros+relay.HistorySlack >= at.Micros {
			return relay.NotRecoveredGap
		}
	}
	for _, l := range v.lates {
		if l.from >= at.Micros || at.Micros > l.to { // The client got the late event in order.
			continue
		}
		if l.from < at.Micros-relay.HistorySlack || l.from <= v.floor.Micros {
			return relay.NotRecoveredGap
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
	return at == v.floor || slices.Contains(v.bases, at) || slices.Contains(v.gaps, at)
}

func (v *view) hasEvent(at relay.Position) bool {
	_, ok := slices.BinarySearchFunc(v.events, at, func(e entry, p relay.Position) int { return e.Compare(p) })
	return ok
}

// head returns the newest position, zero if there is none. A gap near the newest event counts as newer: a resume from
// that event would fail.
func (v *view) head() (at relay.Position) {
	at = v.floor
	if n := len(v.events); n > 0 && v.events[n-1].Compare(at) > 0 {
		at = v.events[n-1].Position
	}
	for _, b := range v.bases {
		if b.Compare(at) > 0 {
			at = b
		}
	}
	var newest relay.Position
	for _, g := range v.gaps {
		if g.Compare(newest) > 0 {
			newest = g
		}
	}
	if !newest.IsZero() && newest.Micros+relay.HistorySlack >= at.Micros {
		return newest
	}
	return at
}

// page returns the events from a time on, and at least the latest. Events that were written under two keys are one.
func (v *view) page(group string, from int64, latest int) (list []relay.Event) {
	seen := make(map[string]bool, len(v.events))
	for i := len(v.events) - 1; i >= 0; i-- {
		e := &v.events[i]
		if e.Compare(v.floor) <= 0 || e.Micros < from && len(list) >= latest {
			break
		}
		if same := score(e.Micros) + string(e.text); !seen[same] {
			seen[same] = true
			list = append(list, relay.Event{
				Group: group, Text: e.text, Source: relay.FromHistory, Sent: e.time(), Position: e.Position,
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
	slices.SortFunc(gaps, func(a, b relay.Position) int { return b.Compare(a) })
	for _, e := range entries {
		switch {
		case e.kind == anchorKind && e.Compare(floor) < 0,
			e.kind == baseKind && e.Compare(floor) < 0,
			e.kind == lateKind && e.Micros < floor.Micros,
			e.kind == gapKind && !e.broken && e.Micros+relay.HistorySlack < floor.Micros,
			e.kind == gapKind && !e.broken && len(gaps) > gapsKept && e.Compare(gaps[gapsKept-1]) < 0:
			superfluous = append(superfluous, strings.Clone(e.raw))
		}
	}
	return superfluous
}

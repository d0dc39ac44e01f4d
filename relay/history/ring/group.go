package ring

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/edgerelay/edgerelay/relay"
)

// group is the history of a group.
type group struct {
	name string
	used atomic.Int64 // when the history was last written or read, in Unix microseconds

	mu     sync.Mutex // guards all below
	ended  bool       // no longer in the shard
	member bool       // the node receives the group's events
	mixed  bool       // the events come from several sources, so that a client may have a later one alone
	limits relay.HistoryLimits
	// entries is a ring buffer of n entries in the order of positions, beginning at first. Its length is a power of two.
	entries  []entry
	first, n int
	events   int // among the entries
	texts    int // bytes of the events' texts
	// floor is the position of the newest removed entry: nothing behind it is missing. Zero: nothing was removed.
	floor     relay.Position
	floorKind kind
	gap       relay.Position // the newest gap, kept or removed
}

// kind tells entries apart.
type kind uint8

const (
	isEvent kind = iota
	// isGap is a place at which events may be missing.
	isGap
	// isHead is a place at which a client began without an event. Nothing that is missing before concerns this client.
	isHead
)

// entry is a place in a history.
type entry struct {
	text      []byte
	eventType string // the event's Type
	at, sent  int64  // arrival in Unix microseconds, and Sent in nanoseconds, 0 if unknown
	position  relay.Position
	kind      kind
	// needsRelay and foreign are the event's.
	needsRelay, foreign bool
}

// entrySize is the memory of an entry beside the text.
const entrySize = int(unsafe.Sizeof(entry{}))

// entry returns an entry, the oldest for 0.
func (g *group) entry(i int) *entry { return &g.entries[(g.first+i)&(len(g.entries)-1)] }

// newest returns the position of the newest entry, kept or removed.
func (g *group) newest() relay.Position {
	if g.n > 0 {
		if p := g.entry(g.n - 1).position; p.Compare(g.floor) > 0 {
			return p
		}
	}
	return g.floor
}

// search returns the index of the first entry at p or behind.
func (g *group) search(p relay.Position) int {
	if g.n == 0 || g.entry(g.n-1).position.Compare(p) < 0 {
		return g.n
	}
	return sort.Search(g.n, func(i int) bool { return g.entry(i).position.Compare(p) >= 0 })
}

// has reports whether an event at p is kept, or was the last removed one.
func (g *group) has(p relay.Position) bool {
	i := g.search(p)
	return i < g.n && g.entry(i).position == p || p == g.floor
}

// add inserts an entry, almost always at the end. g.mu is held.
func (r *Ring) add(g *group, e entry) {
	at := g.search(e.position)
	if g.n == len(g.entries) {
		g.resize(max(4, 2*g.n))
	}
	g.n++
	for i := g.n - 1; i > at; i-- {
		*g.entry(i) = *g.entry(i - 1)
	}
	*g.entry(at) = e
	if e.kind == isEvent {
		g.events++
		g.texts += len(e.text)
	}
	r.bytes.Add(int64(len(e.text) + entrySize))
}

// resize moves the entries to a buffer of another length.
func (g *group) resize(length int) {
	entries := make([]entry, length)
	if g.n > 0 {
		end := min(g.first+g.n, len(g.entries))
		copied := copy(entries, g.entries[g.first:end])
		copy(entries[copied:], g.entries[:g.n-copied])
	}
	g.entries, g.first = entries, 0
}

// shrinkAbove is the length of a buffer that stays although most of it is unused.
const shrinkAbove = 64

// trim removes the entries that exceed the limits. g.mu is held.
func (r *Ring) trim(g *group, now int64) {
	oldest, trimmed, freed := now-g.limits.Age.Microseconds(), int64(0), 0
	for g.n > 0 {
		e := g.entry(0)
		if g.events <= g.limits.Count && g.texts <= g.limits.Bytes && e.at >= oldest {
			break
		}
		if e.kind == isEvent {
			g.events--
			g.texts -= len(e.text)
			trimmed++
		}
		if e.position.Compare(g.floor) > 0 {
			g.floor, g.floorKind = e.position, e.kind
		}
		freed += len(e.text) + entrySize
		*e = entry{}
		g.first = (g.first + 1) & (len(g.entries) - 1)
		g.n--
	}
	if freed == 0 {
		return
	}
	r.trimmed.Add(trimmed)
	r.bytes.Add(-int64(freed))
	switch {
	case g.n == 0:
		g.entries, g.first = nil, 0
	case len(g.entries) > shrinkAbove && g.n < len(g.entries)/4:
		g.resize(len(g.entries) / 2)
	}
}

// markGap adds a gap. A gap at the end moves, because no client resumes from the earlier one any more. g.mu is held.
func (r *Ring) markGap(g *group, at relay.Position, now int64) {
	if at.Compare(g.gap) > 0 {
		g.gap = at
	}
	if g.n > 0 {
		if e := g.entry(g.n - 1); e.kind == isGap && e.position.Compare(at) < 0 {
			e.position, e.at = at, now
			return
		}
	}
	r.add(g, entry{kind: isGap, at: now, position: at})
}

// ensureHead makes an entry if no client could resume from the newest one. g.mu is held.
func (r *Ring) ensureHead(g *group, now int64) {
	if newest := g.newest(); newest.IsZero() || g.resumable(newest) != nil {
		r.add(g, entry{kind: isHead, at: now, position: r.next(now)})
	}
}

// resumable returns nil if nothing behind a position is missing, and the reason otherwise.
func (g *group) resumable(p relay.Position) error {
	what, known := g.floorKind, p == g.floor && !p.IsZero()
	if i := g.search(p); !known && i < g.n && p.Compare(g.floor) > 0 {
		e := g.entry(i)
		what, known = e.kind, e.position.Entry() == p
	}
	switch {
	case !known:
		return relay.NotRecoveredUnknown
	case p.Compare(g.gap) >= 0 && what != isEvent:
		return nil
	case !g.gap.IsZero() && p.Micros <= g.gap.Micros+relay.HistorySlack:
		return relay.NotRecoveredGap
	}
	return nil
}

// read answers a query. g.mu is held.
func (g *group) read(q relay.HistoryQuery) (p relay.HistoryPage) {
	first := g.n
	p.Resumable, p.First = make([]error, len(q.After)), make([]int, len(q.After))
	for i, after := range q.After {
		err := g.resumable(after)
		if err != nil && (err != relay.NotRecoveredGap || !q.AcrossGaps) {
			p.Resumable[i] = err
			continue
		}
		p.First[i] = g.behind(after)
		first = min(first, p.First[i])
	}
	for latest := q.Latest; latest > 0 && first > 0; first-- {
		if g.entry(first-1).kind == isEvent {
			latest--
		}
	}
	p.Events = g.copyEvents(first)
	if len(p.Events) == g.n-first {
		for i := range p.First {
			p.First[i] = max(0, p.First[i]-first)
		}
	} else { // There are entries of other kinds among the events.
		g.countEvents(first, p.First)
	}
	p.Head = g.newest().Entry()
	return p
}

// behind returns the index of the first entry for a client that resumes from a position. It is the position's own
// entry: a plugin may have made several texts of the event, of which the client has the first.
func (g *group) behind(after relay.Position) int {
	if g.mixed { // A client may lack events that were on their way from elsewhere.
		after = relay.Position{Micros: after.Micros - relay.HistorySlack}
	}
	return g.search(after)
}

// countEvents replaces indexes of entries by the number of events between first and the entry.
func (g *group) countEvents(first int, indexes []int) {
	events := make([]int, g.n-first+1)
	for i := first; i < g.n; i++ {
		events[i-first+1] = events[i-first]
		if g.entry(i).kind == isEvent {
			events[i-first+1]++
		}
	}
	for i := range indexes {
		indexes[i] = events[max(0, indexes[i]-first)]
	}
}

// copyEvents returns the events from an index on.
func (g *group) copyEvents(first int) []relay.Event {
	if first == g.n {
		return nil
	}
	list := make([]relay.Event, 0, min(g.n-first, g.events))
	for i := first; i < g.n; i++ {
		e := g.entry(i)
		if e.kind != isEvent {
			continue
		}
		ev := relay.Event{
			Group: g.name, Type: e.eventType, Text: e.text, Source: relay.FromHistory, Position: e.position,
			NeedsRelay: e.needsRelay, Foreign: e.foreign,
		}
		if e.sent != 0 {
			ev.Sent = time.Unix(0, e.sent)
		}
		list = append(list, ev)
	}
	return slices.Clip(list)
}

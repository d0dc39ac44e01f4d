package oracle

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// told is the time within which a client is told of a gap on a standing connection.
const told = 15 * time.Second

// hole is a run of events that a client did not get.
type hole struct {
	source
	from, to int // [from, to)
	at       time.Time
	told     bool   // the client was told of a gap
	frames   string // the client's last ones, with the event behind the hole
}

// record is a client's view of a group.
type record struct {
	name  string // of the client, for faults
	group int
	o     *Oracle

	trail func() []string           // the last frames; nil in tests of the oracle
	next  map[string]int            // by emitter: the number after the last event
	got   map[string]map[int]string // by emitter and number: the position
	holes []hole
	loose map[string]bool // by emitter: the client was told of a gap since the last event
	// told is the time, in microseconds, of the last position that the client was told to continue from. What is
	// missing up to it is no fault.
	told int64
	// alarms are the answers recovered: false, with next at that time.
	alarms []map[string]int
	// replaying: the events come from a replay.
	replaying bool
	// breaks are the numbers of next whenever the client was told of a gap.
	breaks []map[string]int
}

func newRecord(o *Oracle, name string, group int) *record {
	return &record{
		name: name, group: group, o: o, next: map[string]int{}, got: map[string]map[int]string{},
		loose: map[string]bool{},
	}
}

// notRecovered records that the client was told that it misses events.
func (r *record) notRecovered(now time.Time, position string) {
	r.alarms = append(r.alarms, maps.Clone(r.next))
	r.broken(now, position)
}

// event records an event that the client took.
func (r *record) event(emitter string, n int, position string, now time.Time) {
	next, known := r.next[emitter]
	if before, twice := r.got[emitter][n]; twice {
		r.o.Complain("%s: group %d: event %d of %s came twice, at %s and %s", r.name, r.group, n, emitter, before,
			position)
		return
	}
	switch {
	case !known || n >= next:
	case r.filled(emitter, n):
		r.o.count(func(t *Tally) { t.Late++ })
	default:
		r.o.Complain("%s: group %d: event %d of %s came after %d%s", r.name, r.group, n, emitter, next-1,
			r.lastFrames())
	}
	if known && n > next {
		h := hole{source: source{emitter, r.group}, from: next, to: n, at: now, told: r.loose[emitter]}
		if !h.told {
			h.frames = r.lastFrames()
		}
		r.holes = append(r.holes, h)
	}
	if r.got[emitter] == nil {
		r.got[emitter] = map[int]string{}
	}
	r.got[emitter][n] = position
	r.next[emitter] = max(next, n+1)
	if micros(position) > r.told {
		delete(r.loose, emitter)
	}
}

// micros returns the time in a position, 0 without one.
func micros(position string) int64 {
	p, err := relay.ParsePosition(position)
	if err != nil {
		return 0
	}
	return p.Micros
}

// filled reports whether an event fills a hole. A replay begins two seconds before the client's position. It may have
// events that the client's node had not, and was about to tell or has told the client of.
func (r *record) filled(emitter string, n int) bool {
	for _, next := range r.breaks {
		if next[emitter] <= n {
			return true
		}
	}
	return r.replaying && slices.ContainsFunc(r.holes, func(h hole) bool {
		return h.emitter == emitter && h.from <= n && n < h.to
	})
}

// broken records that the client was told of a gap, and to continue from a position: the next event of each emitter may
// have any number.
func (r *record) broken(now time.Time, position string) {
	r.told = micros(position)
	r.breaks = append(r.breaks, maps.Clone(r.next))
	for emitter := range r.next {
		r.loose[emitter] = true
	}
	for i := range r.holes {
		if now.Sub(r.holes[i].at) < told {
			r.holes[i].told, r.holes[i].frames = true, ""
		}
	}
}

// judge finds the holes that the client was not told of. Events that were sent before the client's first subscription
// are none of its business: for an emitter without any event, the client is judged by its first one.
func (r *record) judge() {
	o := r.o
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range r.holes {
		list := o.missing(h.source, h.from, h.to)
		list = slices.DeleteFunc(list, func(n int) bool { _, ok := r.got[h.emitter][n]; return ok })
		if len(list) > 0 && !h.told {
			r.complainAbout(h.source, list, h.at, h.frames)
		}
	}
	for _, at := range r.alarms {
		if len(at) > 0 && !r.lacks(at) {
			o.total.FalseAlarms++
		}
	}
	for emitter, next := range r.next {
		s := source{emitter, r.group}
		if list := o.missing(s, next, len(o.events[s])); len(list) > 0 && !r.loose[emitter] {
			r.complainAbout(s, list, time.Now(), r.lastFrames())
		}
	}
}

// lacks reports whether an event that follows the given ones was certainly sent, and never came. o.mu is held.
func (r *record) lacks(next map[string]int) bool {
	for emitter, n := range next {
		for _, m := range r.o.missing(source{emitter, r.group}, n, r.next[emitter]) {
			if _, ok := r.got[emitter][m]; !ok {
				return true
			}
		}
	}
	return false
}

// complainAbout records missing events. o.mu is held.
func (r *record) complainAbout(s source, list []int, at time.Time, frames string) {
	r.o.fault(at, "%s: group %d: %d events of %s are missing without a word, from %d to %d%s", r.name, s.group, len(list),
		s.emitter, list[0], list[len(list)-1], frames)
}

// maxFrames is the number of frames in a fault.
const maxFrames = 60

// lastFrames is the client's last frames.
func (r *record) lastFrames() string {
	if r.trail == nil {
		return ""
	}
	frames := r.trail()
	return "\n\t" + strings.Join(frames[max(0, len(frames)-maxFrames):], "\n\t")
}

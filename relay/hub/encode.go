package hub

import (
	"bytes"
	"math/bits"
	"sync"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

// joinSize is the number of bytes of frames that are joined into a single write. A larger buffer saves hardly any
// system calls, and does not fit into the send buffer of a fresh socket.
const joinSize = 64 << 10

// encoder encodes events into shared buffers of frames. Each run of events for the same group and classes becomes a job
// for every shard that has subscribers of the group. Encoders are reused, so that an event allocates nothing but a
// share of a buffer.
type encoder struct {
	audiences map[string][]*audience // by group: the audience on each shard; nil for a shard without subscribers
	slots     []*audience            // memory for the slices in audiences
	jobs      [][]job                // by shard
	bytes     []int                  // of the frames in jobs, by shard

	selected  []uint64  // by event: the classes that get a text of the event
	variants  []variant // of events that are rendered by class, in the order of events
	remaining int       // bytes of frames still to be encoded

	run run
}

// variant is the text of an event for subscribers of some classes.
type variant struct {
	event   int // index
	text    []byte
	classes uint64
}

// run is a sequence of events that becomes a single job: buf[start:] are count frames.
type run struct {
	buf          []byte
	start, count int
	group        string
	classes      uint64
	generation   uint64   // of classes
	sent         int64    // of the first event, as in job
	journey      *journey // of the only event, if it is sampled
}

var encoders = sync.Pool{New: func() any { return &encoder{audiences: map[string][]*audience{}} }}

// encode queues events on the shards.
func (e *encoder) encode(h *Hub, events []relay.Event) {
	if len(e.jobs) < len(h.shards) {
		e.jobs, e.bytes = make([][]job, len(h.shards)), make([]int, len(h.shards))
	}
	traced := h.tracing.Load() != nil
	if traced {
		recordFanOut(events)
	}
	e.selectClasses(h, events)
	variants := e.variants
	for i := range events {
		switch ev := &events[i]; {
		case e.selected[i] == 0:
		case ev.Redaction == nil || ev.Redaction.Render == nil:
			e.add(ev, e.selected[i], ev.Text)
		default:
			for ; len(variants) > 0 && variants[0].event == i; variants = variants[1:] {
				e.add(ev, variants[0].classes, variants[0].text)
			}
		}
	}
	e.endRun()
	for i, s := range h.shards {
		if len(e.jobs[i]) > 0 && !s.queue.push(e.jobs[i], e.bytes[i]) {
			h.countMissedJobs(s, e.jobs[i])
		}
	}
	if traced {
		for i := range events {
			journeyOf(&events[i]).endQueueing()
		}
	}
}

// selectClasses selects the classes that get a text of each event.
func (e *encoder) selectClasses(h *Hub, events []relay.Event) {
	fanned := uint64(0)
	for i := range events {
		classes := e.selectFor(h, i, &events[i])
		if classes != 0 {
			fanned++
		}
		e.selected = append(e.selected, classes)
	}
	h.stats.fanned.Add(fanned)
}

// selectFor returns the classes that get a text of an event. If there are none, the reason is counted.
func (e *encoder) selectFor(h *Hub, index int, ev *relay.Event) (classes uint64) {
	if ev.Control != nil {
		h.stats.control.Add(1)
		return 0
	}
	as := e.audiencesOf(h, ev.Group)
	switch {
	case as == nil:
		h.countUnheard(ev)
		return 0
	case ev.Redaction != nil:
		classes = e.redact(index, ev, presentIn(as))
	case e.reserve(ev.Text):
		return allClasses
	default:
		h.stats.invalid.Add(1)
		h.Lost(relay.Loss{Cause: relay.LossNotUTF8, Groups: []string{ev.Group}, Events: 1})
		journeyOf(ev).setOutcome("not_utf8")
		return 0
	}
	if classes == 0 {
		h.stats.hidden.Add(1)
		journeyOf(ev).setOutcome("hidden")
	}
	return classes
}

// redact renders the variants of an event with a redaction, and returns the classes that get a text; present are the
// classes of the subscribers.
func (e *encoder) redact(index int, ev *relay.Event, present uint64) (selected uint64) {
	classes := ev.Redaction.Classes & present
	if ev.Redaction.Render == nil {
		if classes == 0 || !e.reserve(ev.Text) {
			return 0
		}
		return ev.Redaction.Classes
	}
	first := len(e.variants)
	for ; classes != 0; classes &= classes - 1 {
		class := uint8(bits.TrailingZeros64(classes))
		if text, ok := ev.Redaction.Render(class); ok {
			e.addVariant(first, variant{index, text, 1 << class})
		}
	}
	for _, v := range e.variants[first:] {
		selected |= v.classes
	}
	return selected
}

// addVariant adds a variant of an event; the event's variants begin at first. Equal texts share a variant.
func (e *encoder) addVariant(first int, added variant) {
	for i := first; i < len(e.variants); i++ {
		if v := &e.variants[i]; bytes.Equal(v.text, added.text) {
			v.classes |= added.classes
			return
		}
	}
	if e.reserve(added.text) {
		e.variants = append(e.variants, added)
	}
}

// reserve counts the bytes of a text's frame. A text that is not UTF-8 returns false: a browser would close the whole
// connection.
func (e *encoder) reserve(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	e.remaining += relay.FrameSize(len(text))
	return true
}

// add appends a text to the current run, or begins the next run.
func (e *encoder) add(ev *relay.Event, classes uint64, text []byte) {
	r, size, journey, generation := &e.run, relay.FrameSize(len(text)), journeyOf(ev), uint64(0)
	if ev.Redaction != nil {
		generation = ev.Redaction.Generation
	}
	full := len(r.buf)+size > cap(r.buf)
	if full || ev.Group != r.group || classes != r.classes || generation != r.generation || journey != r.journey {
		e.endRun()
		r.group, r.classes, r.generation, r.journey = ev.Group, classes, generation, journey
	}
	if r.count == 0 {
		r.sent = stamp(ev.Sent)
	}
	if full {
		r.buf, r.start = make([]byte, 0, max(size, min(e.remaining, joinSize))), 0
	}
	r.buf = relay.AppendFrame(r.buf, text)
	r.count++
	e.remaining -= size
}

// endRun makes the current run a job for each shard with subscribers.
func (e *encoder) endRun() {
	r := &e.run
	if r.count == 0 {
		return
	}
	frames := r.buf[r.start:len(r.buf):len(r.buf)]
	for i, a := range e.audiences[r.group] {
		if a != nil {
			a.events.Add(uint32(r.count))
			e.jobs[i] = append(e.jobs[i], job{a, frames, r.count, r.classes, r.generation, r.sent, r.journey})
			e.bytes[i] += len(frames)
			r.journey.addJob()
		}
	}
	r.start, r.count = len(r.buf), 0
}

// audiencesOf returns the audiences of a group by shard, nil if no shard has subscribers.
func (e *encoder) audiencesOf(h *Hub, group string) []*audience {
	if as, ok := e.audiences[group]; ok {
		return as
	}
	from, found := len(e.slots), false
	for _, s := range h.shards {
		a := s.audience(group)
		found = found || a != nil
		e.slots = append(e.slots, a)
	}
	var as []*audience
	if found {
		as = e.slots[from:len(e.slots):len(e.slots)]
	}
	e.audiences[group] = as
	return as
}

// reset forgets everything but the memory.
func (e *encoder) reset() {
	clear(e.audiences)
	clear(e.slots)
	for i := range e.jobs {
		clear(e.jobs[i])
		e.jobs[i], e.bytes[i] = e.jobs[i][:0], 0
	}
	clear(e.variants)
	e.slots, e.selected, e.variants, e.remaining = e.slots[:0], e.selected[:0], e.variants[:0], 0
	e.run = run{}
}

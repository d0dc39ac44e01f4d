package hub

import (
	"bytes"
	"math/bits"
	"sync"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

// joinSize is the number of bytes of frames that are joined into a single write. A larger buffer saves hardly any
// system calls, and does not fit into the send buffer of a fresh socket.
const joinSize = 64 << 10

// encoder encodes events into shared buffers of frames. Each run of events for the same group and classes becomes a job
// for every shard that has subscribers of the group. Encoders are reused, so that an event allocates nothing but a
// share of a buffer.
type encoder struct {
	hub        *Hub
	reaches    map[string]reach // by group
	slots      []*audience      // memory for the slices in reaches
	positioned []*positionAudience
	jobs       [][]job // by shard
	bytes      []int   // of the frames in jobs, by shard

	formats   []relay.Format // of the batch
	payload   []byte         // of the last frame for a format
	selected  []selection    // by event
	variants  []variant      // of events that are rendered by class, in the order of events
	remaining int            // bytes of frames still to be encoded

	run  run
	wrap wrap

	compressor *deflate.Compressor // nil: no event is compressed
	minSize    int                 // of the compressor; beyond all texts without one
}

// reach is the audiences of a group by shard, with nil for a shard without subscribers. A slice is nil if no shard has
// any.
type reach struct {
	plain      []*audience
	positioned []*positionAudience // of clients that have opted in to positions
	formats    []formatReach
	// deflates is set if a plain client has agreed on compression, positionedDeflates if one with positions has.
	deflates, positionedDeflates bool
}

// present returns the set of the classes of the subscribers.
func (r *reach) present() uint64 {
	classes := presentIn(r.plain)
	for _, a := range r.positioned {
		if a != nil {
			classes |= a.present.Load() | a.resuming.Load()
		}
	}
	for i := range r.formats {
		classes |= r.formats[i].present()
	}
	return classes
}

// selection is the classes that get a text of an event, and the kinds of their audiences.
type selection struct {
	classes           uint64
	plain, positioned bool
	formats           bool
}

// variant is the text of an event for subscribers of some classes.
type variant struct {
	event   int // index
	text    []byte
	classes uint64
	decided uint64 // as in job; all classes, except in the first variant of an event
}

// run is a sequence of events that becomes a single job: buf[start:] are count frames.
type run struct {
	buf          []byte
	start, count int
	group        string
	classes      uint64
	generation   uint64           // of classes
	decided      uint64           // as in job
	sent         int64            // of the first event, as in job
	journey      *journey         // of the only event, if it is sampled
	positions    []relay.Position // of the frames; nil for plain clients
	except       uint32           // as in job
	format       relay.Format     // nil: the hub's protocol
	deflatable   deflatable
	compressed   *deflate.Buffer // as in job, while the run is ended
}

var encoders = sync.Pool{New: func() any { return &encoder{reaches: map[string]reach{}} }}

// encode queues events on the shards.
func (e *encoder) encode(h *Hub, events []relay.Event) {
	if len(e.jobs) < len(h.shards) {
		e.jobs, e.bytes = make([][]job, len(h.shards)), make([]int, len(h.shards))
	}
	e.hub = h
	e.useCompressor(h.compressor.Load())
	traced := h.tracing.Load() != nil
	if traced {
		recordFanOut(events)
	}
	e.selectClasses(h, events)
	variants := e.variants
	for i := range events {
		switch ev := &events[i]; {
		case !e.selected[i].plain:
		case ev.Redaction == nil || ev.Redaction.Render == nil:
			e.add(ev, e.selected[i].classes, allClasses, ev.Text)
		default:
			for ; len(variants) > 0 && variants[0].event <= i; variants = variants[1:] {
				if variants[0].event == i {
					e.add(ev, variants[0].classes, variants[0].decided, variants[0].text)
				}
			}
		}
	}
	e.endRun()
	if len(e.positioned) > 0 {
		e.encodePositioned(h, events)
	}
	if len(e.formats) > 0 {
		e.encodeFormats(h, events)
	}
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
		selected := e.selectFor(h, i, &events[i])
		if selected.classes != 0 {
			fanned++
		}
		e.selected = append(e.selected, selected)
	}
	h.stats.fanned.Add(fanned)
}

// selectFor returns the classes that get a text of an event. If there are none, the reason is counted.
func (e *encoder) selectFor(h *Hub, index int, ev *relay.Event) (s selection) {
	if ev.Control != nil {
		h.stats.control.Add(1)
		return s
	}
	r := e.reachOf(h, ev.Group)
	plain, positioned, formats := r.plain != nil, r.positioned != nil, r.formats != nil
	if ev.Type != "" { // only for clients with a format
		plain, positioned = false, false
	}
	var classes uint64
	switch {
	case !plain && !positioned && !formats:
		h.countUnheard(ev)
		return s
	case ev.Redaction != nil:
		classes = e.redact(index, ev, r.present(), plain)
	case e.reserve(ev.Text, plain):
		classes = allClasses
	default:
		h.stats.invalid.Add(1)
		h.Lost(relay.Loss{
			Cause: relay.LossNotUTF8, Groups: []string{ev.Group}, Events: 1, Position: ev.Position,
		})
		journeyOf(ev).setOutcome("not_utf8")
		return s
	}
	if classes == 0 {
		h.stats.hidden.Add(1)
		journeyOf(ev).setOutcome("hidden")
		return s
	}
	return selection{classes, plain, positioned, formats}
}

// redact renders the variants of an event with a redaction, and returns the classes that get a text; present are the
// classes of the subscribers, and plain is set if there are plain ones.
func (e *encoder) redact(index int, ev *relay.Event, present uint64, plain bool) (selected uint64) {
	classes := ev.Redaction.Classes & present
	if ev.Redaction.Render == nil {
		if classes == 0 || !e.reserve(ev.Text, plain) {
			return 0
		}
		return ev.Redaction.Classes
	}
	first := len(e.variants)
	for ; classes != 0; classes &= classes - 1 {
		class := uint8(bits.TrailingZeros64(classes))
		if text, ok := ev.Redaction.Render(class); ok {
			e.addVariant(first, variant{index, text, 1 << class, allClasses}, plain)
		}
	}
	for _, v := range e.variants[first:] {
		selected |= v.classes
	}
	if len(e.variants) > first {
		e.variants[first].decided = present | ^ev.Redaction.Classes
	}
	return selected
}

// addVariant adds a variant of an event; the event's variants begin at first. Equal texts share a variant.
func (e *encoder) addVariant(first int, added variant, plain bool) {
	for i := first; i < len(e.variants); i++ {
		if v := &e.variants[i]; bytes.Equal(v.text, added.text) {
			v.classes |= added.classes
			return
		}
	}
	if e.reserve(added.text, plain) {
		e.variants = append(e.variants, added)
	}
}

// reserve counts the bytes of a text's frame for plain clients, if there are any. A text that is not UTF-8 returns
// false: a browser would close the whole connection.
func (e *encoder) reserve(text []byte, plain bool) bool {
	if !utf8.Valid(text) {
		return false
	}
	if plain {
		e.remaining += relay.FrameSize(len(text))
	}
	return true
}

// add appends a text to the current run, or begins the next run.
func (e *encoder) add(ev *relay.Event, classes, decided uint64, text []byte) {
	r, size, journey, generation, except := &e.run, relay.FrameSize(len(text)), journeyOf(ev), uint64(0), uint32(0)
	if ev.Redaction != nil {
		generation = ev.Redaction.Generation
	}
	if ev.Sender != "" {
		except = e.hub.sessionOf(ev.Sender)
	}
	full := len(r.buf)+size > cap(r.buf)
	if full || ev.Group != r.group || classes != r.classes || decided != r.decided || generation != r.generation ||
		journey != r.journey || except != r.except {
		e.endRun()
		r.group, r.classes, r.decided, r.generation, r.journey = ev.Group, classes, decided, generation, journey
		r.except = except
	}
	if r.count == 0 {
		r.sent = stamp(ev.Published())
	}
	if full {
		r.buf, r.start = make([]byte, 0, max(size, min(e.remaining, joinSize))), 0
	}
	r.buf = relay.AppendFrame(r.buf, text)
	r.count++
	e.remaining -= size
	if len(text) >= e.minSize {
		r.deflatable.add(len(text), len(r.buf))
	}
}

// endRun makes the current run a job for each shard with subscribers.
func (e *encoder) endRun() {
	r := &e.run
	if r.count == 0 {
		return
	}
	frames := r.buf[r.start:len(r.buf):len(r.buf)]
	to := e.reaches[r.group]
	if r.deflatable.count > 0 {
		r.compressed = e.compress(&to, frames)
	}
	switch f := to.formatOf(r.format); {
	case f != nil:
		e.endPlain(frames, f.plain)
		if f.positioned != nil {
			e.endPositioned(frames, f.positioned)
		}
	case r.positions != nil:
		e.endPositioned(frames, to.positioned)
	default:
		e.endPlain(frames, to.plain)
	}
	r.start, r.count, r.deflatable, r.compressed = len(r.buf), 0, deflatable{}, nil
}

// endPlain makes the current run a job for each shard with subscribers without positions.
func (e *encoder) endPlain(frames []byte, to []*audience) {
	r := &e.run
	for i, a := range to {
		if a != nil {
			e.addJob(i, job{
				audience: a, frames: frames, count: r.count, classes: r.classes, generation: r.generation,
				decided: r.decided, sent: r.sent, journey: r.journey, except: r.except, compressed: r.compressed,
			})
		}
	}
}

// addJob adds a job for a shard.
func (e *encoder) addJob(shard int, j job) {
	j.audience.events.Add(uint32(j.count))
	e.jobs[shard] = append(e.jobs[shard], j)
	e.bytes[shard] += len(j.frames)
	j.journey.addJob()
}

// reachOf returns the audiences of a group.
func (e *encoder) reachOf(h *Hub, group string) reach {
	if r, ok := e.reaches[group]; ok {
		return r
	}
	var r reach
	from, found := len(e.slots), false
	for _, s := range h.shards {
		a, deflates := s.audienceAndForms(group)
		found, r.deflates = found || a != nil, r.deflates || deflates
		e.slots = append(e.slots, a)
	}
	if found {
		r.plain = e.slots[from:len(e.slots):len(e.slots)]
	}
	if h.resumes.clients.Load() > 0 {
		r.positioned, r.positionedDeflates = e.positionedOf(h, group)
	}
	if h.formatted.Load() > 0 {
		r.formats = e.formatsOf(h, group)
	}
	e.reaches[group] = r
	return r
}

// reset forgets everything but the memory.
func (e *encoder) reset() {
	clear(e.reaches)
	clear(e.slots)
	for i := range e.jobs {
		clear(e.jobs[i])
		e.jobs[i], e.bytes[i] = e.jobs[i][:0], 0
	}
	clear(e.variants)
	e.slots, e.selected, e.variants, e.remaining = e.slots[:0], e.selected[:0], e.variants[:0], 0
	e.run = run{}
	if len(e.positioned) > 0 {
		e.resetPositioned()
	}
	e.hub, e.compressor = nil, nil
	clear(e.formats)
	e.formats = e.formats[:0]
	if cap(e.payload) > maxWrapKept {
		e.payload = nil
	}
}

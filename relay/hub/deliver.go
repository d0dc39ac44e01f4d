package hub

import (
	"sync"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

// joinSize is how many bytes of frames are joined into one write. A larger buffer saves no more
// system calls worth counting, and does not fit into a fresh socket's send buffer.
const joinSize = 64 << 10

// Deliver hands events to the clients of their groups, in the order of each group. It blocks
// while a shard has more waiting than it should. It may change the slice, which the caller has back afterwards; the texts stay in use.
func (h *Hub) Deliver(events []relay.Event) {
	for i := range events {
		h.stats.events[events[i].Source].Add(1)
	}
	if t := h.tracing.Load(); t != nil {
		t.sample(events)
	}
	if ls := h.listeners.load(); ls != nil {
		ls.hear(events)
	}
	if i := h.interceptor.Load(); i != nil {
		events = (*i).Intercept(events)
	}
	h.Forward(events)
}

// Forward writes events to the clients of their groups, past listeners and the interceptor. It is how an [relay.Interceptor] delivers
// what it has kept back. As with Deliver, the caller has the slice back afterwards.
func (h *Hub) Forward(events []relay.Event) {
	if len(events) == 0 {
		return
	}
	if ls := h.watchers.load(); ls != nil {
		ls.hear(events)
	}
	b := batches.Get().(*batch)
	b.fill(h, events)
	b.reset()
	batches.Put(b)
}

// batch encodes events into shared buffers, and makes of each run of events for one group a job for every shard that has
// clients of it.
type batch struct {
	heard map[string][]*audience // by group: its audience on each shard, nil where there is none
	slots []*audience            // memory for these
	jobs  [][]job                // by shard
	bytes []int

	classes  []uint64  // by event: the classes that get something of it
	variants []variant // of events that are rendered by class, in order
	wanted   int       // bytes of frames still to come
}

var batches = sync.Pool{New: func() any { return &batch{heard: map[string][]*audience{}} }}

func (b *batch) fill(h *Hub, events []relay.Event) {
	if len(b.jobs) < len(h.shards) {
		b.jobs, b.bytes = make([][]job, len(h.shards)), make([]int, len(h.shards))
	}
	if h.tracing.Load() != nil {
		begin(events)
	}
	fanned := uint64(0)
	for i := range events {
		classes := b.judge(h, i, &events[i])
		if classes != 0 {
			fanned++
		}
		b.classes = append(b.classes, classes)
	}
	h.stats.fanned.Add(fanned)

	var buf []byte // buf[start:] are count frames for classes of group
	var group string
	var classes uint64
	var sent int64
	var traced *journey
	start, count := 0, 0
	end := func() {
		if count == 0 {
			return
		}
		frames := buf[start:len(buf):len(buf)]
		for i, a := range b.heard[group] {
			if a != nil {
				a.events.Add(uint32(count))
				b.jobs[i] = append(b.jobs[i], job{a, frames, count, classes, sent, traced})
				b.bytes[i] += len(frames)
				traced.queue()
			}
		}
		start, count = len(buf), 0
	}
	put := func(ev *relay.Event, of uint64, text []byte) {
		size := relay.FrameSize(len(text))
		trace := journeyOf(ev)
		if ev.Group != group || of != classes || trace != traced || len(buf)+size > cap(buf) {
			end()
			group, classes, traced = ev.Group, of, trace
		}
		if count == 0 {
			sent = stamp(ev.Sent)
		}
		if len(buf)+size > cap(buf) {
			buf, start = make([]byte, 0, max(size, min(b.wanted, joinSize))), 0
		}
		buf = relay.AppendFrame(buf, text)
		count++
		b.wanted -= size
	}
	variants := b.variants
	for i := range events {
		switch ev := &events[i]; {
		case b.classes[i] == 0:
		case ev.Redaction == nil || ev.Redaction.Render == nil:
			put(ev, b.classes[i], ev.Text)
		default:
			for ; len(variants) > 0 && variants[0].event == i; variants = variants[1:] {
				put(ev, variants[0].classes, variants[0].text)
			}
		}
	}
	end()
	for i, s := range h.shards {
		if len(b.jobs[i]) > 0 {
			if !s.queue.push(b.jobs[i], b.bytes[i]) {
				h.missJobs(s, b.jobs[i])
			}
		}
	}
	if h.tracing.Load() != nil {
		for i := range events {
			journeyOf(&events[i]).settle()
		}
	}
}

// judge returns the classes that get something of an event, 0 if nobody does; why not is counted.
func (b *batch) judge(h *Hub, i int, ev *relay.Event) (classes uint64) {
	if ev.Control != nil {
		h.stats.control.Add(1)
		return 0
	}
	as := b.audiences(h, ev.Group)
	switch {
	case as == nil:
		h.passOver(ev)
		return 0
	case ev.Redaction != nil:
		classes = b.redact(i, ev, presentIn(as))
	case b.take(ev.Text):
		return everybody
	default:
		h.stats.invalid.Add(1)
		h.Lost(relay.Loss{Cause: relay.LossNotUTF8, Groups: []string{ev.Group}, Events: 1})
		journeyOf(ev).fail("not_utf8")
		return 0
	}
	if classes == 0 {
		h.stats.hidden.Add(1)
		journeyOf(ev).fail("hidden")
	}
	return classes
}

// passOver counts an event that no client wants, by its other listeners.
func (h *Hub) passOver(ev *relay.Event) {
	raw, _, node := h.listeners.load().tails(ev.Group)
	switch {
	case node: // for other nodes only
		h.stats.control.Add(1)
		journeyOf(ev).fail("node_message")
	case raw > 0 || h.watchers.load()[ev.Group] != nil:
		h.stats.tailed.Add(1)
		journeyOf(ev).fail("tail")
	default:
		h.stats.unheard.Add(1)
		journeyOf(ev).fail("no_client")
	}
}

// take makes room for a text, if it can be sent: a browser would fail the whole connection over one that is not UTF-8.
func (b *batch) take(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	b.wanted += relay.FrameSize(len(text))
	return true
}

// audiences returns the audiences of a group by shard, nil if it has no clients here.
func (b *batch) audiences(h *Hub, group string) []*audience {
	if as, ok := b.heard[group]; ok {
		return as
	}
	from := len(b.slots)
	any := false
	for _, s := range h.shards {
		a := s.audience(group)
		any = any || a != nil
		b.slots = append(b.slots, a)
	}
	var as []*audience
	if any {
		as = b.slots[from:len(b.slots):len(b.slots)]
	}
	b.heard[group] = as
	return as
}

func (b *batch) reset() {
	clear(b.heard)
	clear(b.slots)
	for i := range b.jobs {
		clear(b.jobs[i])
		b.jobs[i], b.bytes[i] = b.jobs[i][:0], 0
	}
	clear(b.variants)
	b.slots, b.classes, b.variants, b.wanted = b.slots[:0], b.classes[:0], b.variants[:0], 0
}

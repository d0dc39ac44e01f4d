package relay

import (
	"sync"
	"unicode/utf8"
)

// joinSize is how many bytes of frames are joined into one write. A larger buffer saves no more
// system calls worth counting, and does not fit into a fresh socket's send buffer.
const joinSize = 64 << 10

// Deliver hands events to the clients of their groups, in the order of each group. It blocks
// while a shard has more waiting than it should. It may change the slice, which the caller has back afterwards; the texts stay in use.
func (h *Hub) Deliver(events []Event) {
	for i := range events {
		h.stats.events[events[i].Source].Add(1)
	}
	if ls := h.listeners.load(); ls != nil {
		for i := range events {
			for _, l := range ls[events[i].Group] {
				l.fn(events[i])
			}
		}
	}
	if i := h.interceptor.Load(); i != nil {
		events = (*i).Intercept(events)
	}
	b := batches.Get().(*batch)
	b.fill(h, events)
	b.reset()
	batches.Put(b)
}

// batch sorts events by group and encodes each group's into shared buffers.
type batch struct {
	index     map[string]int
	runs      []run
	audiences []*audience // one per run and shard
}

// run is what a batch holds for one group.
type run struct {
	wanted int // bytes of frames still to come
	buf    []byte
	count  int
	heard  bool // some shard has clients of the group
}

var batches = sync.Pool{New: func() any { return &batch{index: map[string]int{}} }}

func (b *batch) fill(h *Hub, events []Event) {
	sound := events[:0]
	for _, ev := range events {
		if ev.Control != nil {
			continue
		}
		if !utf8.Valid(ev.Text) { // a browser would fail the whole connection
			h.stats.invalid.Add(1)
			continue
		}
		b.run(h, ev.Group).wanted += frameSize(len(ev.Text))
		sound = append(sound, ev)
	}
	for i := range sound {
		ev := &sound[i]
		at := b.index[ev.Group]
		r := &b.runs[at]
		if !r.heard {
			h.stats.unheard.Add(1)
			continue
		}
		size := frameSize(len(ev.Text))
		if r.buf != nil && len(r.buf)+size > cap(r.buf) {
			b.flush(h, at)
		}
		if r.buf == nil {
			r.buf = make([]byte, 0, max(size, min(r.wanted, joinSize)))
		}
		r.buf = AppendFrame(r.buf, ev.Text)
		r.count++
		r.wanted -= size
	}
	for at := range b.runs {
		b.flush(h, at)
	}
}

// run finds the run of a group, or begins it.
func (b *batch) run(h *Hub, group string) *run {
	if at, ok := b.index[group]; ok {
		return &b.runs[at]
	}
	b.index[group] = len(b.runs)
	r := run{}
	for _, s := range h.shards {
		a := s.audience(group)
		r.heard = r.heard || a != nil
		b.audiences = append(b.audiences, a)
	}
	b.runs = append(b.runs, r)
	return &b.runs[len(b.runs)-1]
}

// flush queues what run at has encoded so far on every shard that has clients of it.
func (b *batch) flush(h *Hub, at int) {
	r := &b.runs[at]
	if len(r.buf) == 0 {
		return
	}
	for i, s := range h.shards {
		if a := b.audiences[at*len(h.shards)+i]; a != nil {
			s.queue.push(job{audience: a, frames: r.buf, count: r.count})
		}
	}
	r.buf, r.count = nil, 0
}

func (b *batch) reset() {
	clear(b.index)
	clear(b.runs)
	clear(b.audiences)
	b.runs, b.audiences = b.runs[:0], b.audiences[:0]
}

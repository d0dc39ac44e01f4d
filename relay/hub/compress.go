package hub

import (
	"bytes"
	"math"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

// This file decides which frames are compressed, and for which clients. Without a compressor, or without a client in
// the audience that has agreed, an event costs two comparisons more.
// See docs/decisions/transport.md#why-is-an-event-compressed-for-everybody-at-once

// SetCompression replaces the settings of the compression, for open sessions as well; nil turns it off. Clients that
// have agreed on compression decode plain frames, too. Calls must not overlap.
func (h *Hub) SetCompression(s *deflate.Settings) error {
	var next *deflate.Compressor
	if s != nil {
		if err := s.Validate(); err != nil {
			return err
		}
		if now := h.compressor.Load(); now != nil && now.Has(s) { // keep the messages that it remembers
			return nil
		}
		next = deflate.New(*s)
	}
	if before := h.compressor.Swap(next); before != nil {
		before.Close()
	}
	return nil
}

// Compresses reports whether compression is on: new clients are to be offered it.
func (h *Hub) Compresses() bool { return h.compressor.Load() != nil }

// MayCompress reports whether the events of a group may be compressed, be it by another program on their way.
func (h *Hub) MayCompress(group string) bool {
	c := h.compressor.Load()
	return c != nil && !c.Excludes(group)
}

// deflatable is the messages of a run that are long enough to be compressed.
type deflatable struct {
	count, total, longest int
	from, to              int // of the last one, in the run's buffer
}

// add adds a message of n bytes that ends at an index of the run's buffer.
func (d *deflatable) add(n, to int) {
	d.count, d.total, d.longest = d.count+1, d.total+n, max(d.longest, n)
	d.from, d.to = to-n, to
}

// useCompressor prepares the encoder for a batch.
func (e *encoder) useCompressor(c *deflate.Compressor) {
	e.compressor, e.minSize = c, math.MaxInt
	if c != nil {
		e.minSize = c.MinSize()
	}
}

// compress makes the current run's frames available in the forms for clients that agreed on compression. The result is
// nil if no client has, or the group is excluded.
func (e *encoder) compress(to *reach, frames []byte) *deflate.Buffer {
	r := &e.run
	key := deflate.Key{Group: r.group, Classes: r.classes, Generation: r.generation, Format: r.format}
	deflates := to.deflates
	if f := to.formatOf(r.format); f != nil {
		deflates = f.deflates
	} else if r.positions != nil {
		deflates, key.Positioned = to.positionedDeflates, true
	}
	if !deflates || e.compressor.Excludes(r.group) {
		return nil
	}
	d := &r.deflatable
	last := r.buf[d.from:d.to:d.to]
	if cap(r.buf) > 2*len(last) { // the next event of the group would keep the whole buffer in memory
		last = bytes.Clone(last)
	}
	return e.compressor.Buffer(key, deflate.Frames{
		Bytes: frames, Count: d.count, Total: d.total, Longest: d.longest, Last: last,
	})
}

// markDeflating records that an audience has a subscriber who has agreed on compression. The shard's round is held.
func (s *shard) markDeflating(a *audience, session *Session) {
	if session.wire.deflates() && !a.deflates {
		s.mu.Lock()
		defer s.mu.Unlock()
		a.deflates = true
	}
}

// positionAudienceAndForms returns the audience of a group's clients with positions, nil if there are none, and whether
// one has agreed on compression.
func (s *shard) positionAudienceAndForms(group string) (a *positionAudience, deflates bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a = s.positioned[group]; a == nil {
		return nil, false
	}
	return a, a.deflates
}

// choose returns the form of a job's frames for a subscriber. The shard's round is held, and the frames are sent in the
// order of the calls.
func (j *job) choose(socket relay.Socket) relay.Form {
	if j.compressed != nil {
		if d, ok := socket.(relay.Deflater); ok {
			return d.Choose(&j.compressed.Compressed)
		}
	}
	return relay.Plain
}

// framesAs returns the job's frames in a form.
func (j *job) framesAs(f relay.Form) []byte {
	if f == relay.Plain {
		return j.frames
	}
	return j.compressed.Frames(f)
}

// chosen counts the choices of a job's subscribers.
type chosen [relay.FormCount]int

// countForms counts the deliveries of a job by form, and returns the bytes of all frames.
func (h *Hub) countForms(j *job, n *chosen) (total int) {
	total = n[relay.Plain] * len(j.frames)
	if j.compressed == nil {
		return total
	}
	for f, times := range n {
		if times == 0 {
			continue
		}
		size := times * len(j.framesAs(relay.Form(f)))
		h.stats.forms[f].count(times*j.count, times*len(j.frames), size)
		if f != int(relay.Plain) {
			total += size
		}
	}
	return total
}

// formCounters are the counters behind FormStats.
type formCounters struct{ deliveries, before, after atomic.Uint64 }

func (c *formCounters) count(deliveries, before, after int) {
	c.deliveries.Add(uint64(deliveries))
	c.before.Add(uint64(before))
	c.after.Add(uint64(after))
}

// FormStats are the deliveries in a form, of events that have been compressed.
type FormStats struct {
	// Deliveries counts events handed to sockets.
	Deliveries uint64
	// Before is the length in bytes of their frames without compression, After their length as sent.
	Before, After uint64
}

// CompressionStats are the counters of the compression since New. Events that are too short, of excluded groups, or
// without a client that has agreed on compression are not counted.
type CompressionStats struct {
	// Forms are the deliveries by [relay.Form].
	Forms [relay.FormCount]FormStats
	// Sessions is the number of open sessions whose clients have agreed on compression.
	Sessions int
	// Remembered is the number of messages that are kept because the next message of their group may refer to them, and
	// Memory the bytes that they take.
	Remembered, Memory int
}

// CompressionStats returns a snapshot.
func (h *Hub) CompressionStats() (s CompressionStats) {
	for f := range h.stats.forms {
		c := &h.stats.forms[f]
		s.Forms[f] = FormStats{c.deliveries.Load(), c.before.Load(), c.after.Load()}
	}
	s.Sessions = int(h.stats.deflating.Load())
	if c := h.compressor.Load(); c != nil {
		s.Remembered, s.Memory = c.Remembered()
	}
	return s
}

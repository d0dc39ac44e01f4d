package sse

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Form is what connections of one kind have in common. Connections with the same Form share the bytes that are made of
// a buffer of frames. A Form must not be copied or changed after its first use.
type Form struct {
	// Payload appends what clients get for a frame with a payload to dst. Text tells text frames from binary ones. It is
	// called once for all clients with the Form. If nil, clients get the payload itself.
	Payload func(dst []byte, text bool, payload []byte) []byte
	// Heartbeat are the bytes that leave after each Interval without others, such as a comment. Empty: none.
	Heartbeat []byte
	// Interval is the time between heartbeats, in whole seconds up to 1 h.
	Interval time.Duration
	// End returns the last bytes of a response that the relay ends with a close code and a reason; nil: none. It must not
	// block.
	End func(code int, reason string) []byte

	made cache
}

const (
	// cacheTime is the time after which kept bytes leave memory.
	cacheTime = time.Second
	// maxCached bounds the buffers whose bytes are kept. In a burst, each worker of the engine writes a sequence of
	// buffers of up to 64 KiB to one client after another, and all workers' sequences must fit.
	maxCached = 1024
)

// cache keeps the bytes that were made of buffers lately. A buffer is identified by its place in memory, which is its
// own while the cache refers to it.
type cache struct {
	buffers  sync.Map // *byte → *made
	count    atomic.Int32
	sweeping atomic.Bool
}

// made are the bytes that were made of a buffer.
type made struct {
	size  int // of the buffer
	bytes []byte
}

// shared returns the bytes for a buffer of whole frames, which is shared and does not change.
func (f *Form) shared(frames []byte) []byte {
	if len(frames) == 0 {
		return nil
	}
	if f.Payload == nil {
		if payload, _, rest := relay.CutFrame(frames); len(rest) == 0 {
			return payload
		}
	}
	if v, ok := f.made.buffers.Load(&frames[0]); ok {
		if m := v.(*made); m.size == len(frames) {
			return m.bytes
		}
	}
	m := &made{len(frames), f.appendAll(make([]byte, 0, len(frames)+len(frames)/4), frames)}
	f.made.put(&frames[0], m)
	return m.bytes
}

// put keeps bytes.
func (c *cache) put(from *byte, m *made) {
	if c.count.Add(1) > maxCached {
		c.clear()
	}
	c.buffers.Store(from, m)
	if !c.sweeping.Load() && c.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(cacheTime, func() {
			c.sweeping.Store(false)
			c.clear()
		})
	}
}

// clear forgets all buffers.
func (c *cache) clear() {
	c.count.Store(0)
	c.buffers.Clear()
}

// appendAll appends the bytes for a buffer of whole frames.
func (f *Form) appendAll(dst, frames []byte) []byte {
	for len(frames) > 0 {
		payload, kind, rest := relay.CutFrame(frames)
		if f.Payload == nil {
			dst = append(dst, payload...)
		} else {
			dst = f.Payload(dst, kind == relay.TextFrame, payload)
		}
		frames = rest
	}
	return dst
}

package plugins

import (
	"context"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

// linearMemory is the memory of a guest. The capacity doubles, where wazero's own grows by a quarter. A guest that
// grows page by page then costs a third of the time, during which nothing else runs on its thread.
// See docs/decisions/plugins.md#why-does-guest-memory-grow-by-doubling
type linearMemory struct {
	bytes    []byte
	maxBytes uint64
	total    *atomic.Int64 // the capacities of the plugin's instances together
}

// copyChunk is the most bytes that are copied in one piece.
const copyChunk = 256 << 10

// withMemory makes wazero take m as the memory of the next instance.
func withMemory(ctx context.Context, m *linearMemory) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(
		func(_, maxBytes uint64) experimental.LinearMemory {
			m.maxBytes = maxBytes
			return m
		}))
}

// Reallocate returns the memory with a new, larger size. The content is kept and the rest is zero. The result is nil if
// the size is beyond the maximum.
func (l *linearMemory) Reallocate(size uint64) []byte {
	switch {
	case size > l.maxBytes:
		return nil
	case size > uint64(cap(l.bytes)):
		grown := make([]byte, size, max(size, min(l.maxBytes, 2*uint64(cap(l.bytes)))))
		for at := 0; at < len(l.bytes); at += copyChunk { // Go cannot interrupt a copy, but the loop
			copy(grown[at:], l.bytes[at:min(at+copyChunk, len(l.bytes))])
		}
		l.total.Add(int64(cap(grown)) - int64(cap(l.bytes)))
		l.bytes = grown
	default:
		l.bytes = l.bytes[:size]
	}
	return l.bytes
}

// Free releases the memory to the garbage collector. Further calls have no effect.
func (l *linearMemory) Free() {
	l.total.Add(-int64(cap(l.bytes)))
	l.bytes = nil
}

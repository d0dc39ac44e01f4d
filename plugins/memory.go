package plugins

import (
	"context"

	"github.com/tetratelabs/wazero/experimental"
)

// linearMemory is a guest's memory. It doubles where wazero's own grows by a quarter: a guest that grows page by page then costs a
// third of the time, all of which no one else on its thread has.
type linearMemory struct {
	bytes []byte
	most  uint64
}

// withMemory lets wazero take the memory of the next instance from us.
func withMemory(ctx context.Context) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, most uint64) experimental.LinearMemory {
		return &linearMemory{most: most}
	}))
}

// Reallocate returns the memory with a new, larger size, its content kept and the rest zero; nil if that is too much.
func (l *linearMemory) Reallocate(size uint64) []byte {
	switch {
	case size > l.most:
		return nil
	case size > uint64(cap(l.bytes)):
		grown := make([]byte, size, max(size, min(l.most, 2*uint64(cap(l.bytes)))))
		copy(grown, l.bytes)
		l.bytes = grown
	default:
		l.bytes = l.bytes[:size]
	}
	return l.bytes
}

// Free gives the memory back to the garbage collector.
func (l *linearMemory) Free() { l.bytes = nil }

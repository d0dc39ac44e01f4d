package backplane

import (
	"encoding/binary"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	// compressMin is the smallest batch that is compressed, in bytes.
	compressMin = 1 << 10
	// compressWait is the wait of a batch's first event from which a slow link gets compressed batches, and
	// compressAge the wait from which every link does.
	compressWait, compressAge = 50 * time.Millisecond, time.Second
	// slowFlush is the shortest duration of a write by which a link counts as slow.
	slowFlush = 10 * time.Millisecond
	// plainAfterWaste is the number of batches that stay plain after one that compression hardly shrank.
	plainAfterWaste = 16
	// compressWindow bounds the distance at which repetitions are found. It bounds the memory of the encoder.
	compressWindow = 128 << 10
)

// codec compresses and decompresses batches. Its memory belongs to no link: it is used by one batch at a time, on as
// many processors as there are, at most four.
// See docs/decisions/backplane.md#when-are-events-compressed-between-relays
var codec = sync.OnceValue(func() (c struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
},
) {
	most := min(runtime.GOMAXPROCS(0), 4)
	c.enc, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(most),
		zstd.WithWindowSize(compressWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true))
	c.dec, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(most), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true))
	return c
})

// plainBatches holds buffers for batches that are about to be compressed.
var plainBatches = sync.Pool{New: func() any { return new([]byte) }}

// compresses reports whether to compress a batch of about size bytes, whose first event has waited. On a fast link
// without a backlog nothing waits, and compression would only cost.
func (l *link) compresses(waited time.Duration, size int) bool {
	if waited < compressWait || size < compressMin || waited < compressAge && l.flushTook < slowFlush {
		return false
	}
	if l.plainBatches > 0 {
		l.plainBatches--
		return false
	}
	return true
}

// compressBatch returns a compressed batch, or nil if compression does not pay.
func (l *link) compressBatch(head timedHead, number uint64, events []*event, size int) []byte {
	buffer := plainBatches.Get().(*[]byte)
	plain := (*buffer)[:0]
	for _, e := range events {
		plain = appendNumbered(plain, e, l.types)
	}
	batch := appendTimedHead(make([]byte, 0, size/2), formatZstd, head)
	batch = appendNumberedHead(batch, number, len(events))
	batch = binary.AppendUvarint(batch, uint64(len(plain)))
	batch = codec().enc.EncodeAll(plain, batch)
	wasted := len(batch) > len(plain)-len(plain)/8
	if cap(plain) <= maxPooledBytes {
		*buffer = plain
		plainBatches.Put(buffer)
	}
	if wasted {
		l.plainBatches = plainAfterWaste
		return nil
	}
	return batch
}

// decompress returns the events of a batch, which are size bytes by the sender's account. It allocates no more than
// that, and nothing beyond limit.
func decompress(b []byte, size uint64, limit int) (events []byte, why fault) {
	if size > uint64(limit) {
		return nil, faultTooLarge
	}
	events, err := codec().dec.DecodeAll(b, make([]byte, 0, size))
	if err != nil || uint64(len(events)) != size {
		return nil, faultBroken
	}
	return events, ""
}

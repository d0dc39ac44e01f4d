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
	// A link is slow if a batch's first event has waited for slowWait while the last write took slowFlush, or if an event
	// has waited, or is not acknowledged, for slowAge.
	slowWait, slowFlush, slowAge = 50 * time.Millisecond, 10 * time.Millisecond, time.Second
	// slowMin is the time for which a slow link gets compressed batches. It doubles up to slowMax while the link is slow
	// again within slowAgain after that: on a line that is too slow without compression, each trial fills its queues.
	slowMin, slowMax, slowAgain = 10 * time.Second, 5 * time.Minute, 30 * time.Second
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

// slowness decides when the batches of a link are compressed. The writing goroutine owns it.
type slowness struct {
	flushTook time.Duration // of the last write
	until     time.Time     // end of the time in which batches are compressed
	hold      time.Duration // length of that time
	plain     int           // batches that stay plain, because compression hardly shrank the last one
}

// compresses reports whether to compress a batch of about size bytes, whose first event has waited. unacknowledged is
// the age of the oldest event that the peer has not acknowledged. On a fast link without a backlog nothing waits, and
// compression would only cost.
func (s *slowness) compresses(now time.Time, waited, unacknowledged time.Duration, size int) bool {
	if waited >= slowWait && s.flushTook >= slowFlush || max(waited, unacknowledged) >= slowAge {
		switch {
		case now.After(s.until.Add(slowAgain)):
			s.hold = slowMin
		case now.After(s.until):
			s.hold = min(2*s.hold, slowMax)
		}
		s.until = now.Add(s.hold)
	}
	if size < compressMin || !now.Before(s.until) {
		return false
	}
	if s.plain > 0 {
		s.plain--
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
		l.slowness.plain = plainAfterWaste
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

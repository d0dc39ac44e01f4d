package wire

import (
	"math/rand/v2"
	"time"
)

// Rule says what happens to the frames of one direction. The zero Rule delivers every frame at once.
type Rule struct {
	// Down drops every frame.
	Down bool
	// Delay holds each frame for the time, give or take Jitter, evenly distributed. Frames keep their order.
	Delay, Jitter time.Duration
	// Loss, Duplicate and Reorder are the shares of frames, 0 to 1, that are dropped, delivered twice, or held for
	// another 10 ms while others overtake them.
	Loss, Duplicate, Reorder float64
	// MTU is the length in bytes of the longest IP packet that is delivered; longer ones are dropped without a message
	// to the sender. 0: any.
	MTU int
	// Rate is the limit in bits a second; 0: none. Queue is the number of bytes that may wait for their turn; 0: 64 KiB.
	// Further frames are dropped.
	Rate, Queue int
}

const (
	reorderHold  = 10 * time.Millisecond
	defaultQueue = 64 << 10
	headerLength = 14 // of Ethernet
)

// direction is a rule with its state.
type direction struct {
	rule Rule
	// free is when the rate limit lets the next frame begin; last is the latest delivery so far.
	free, last time.Time
}

// pass returns the times at which a frame of some length that arrives at a time is delivered: none, one or two. random
// decides.
func (d *direction) pass(at time.Time, length int, random *rand.Rand) []time.Time {
	r := &d.rule
	switch {
	case r.Down, r.MTU > 0 && length-headerLength > r.MTU, r.Loss > 0 && random.Float64() < r.Loss:
		return nil
	}
	if r.Rate > 0 {
		queue := r.Queue
		if queue == 0 {
			queue = defaultQueue
		}
		if d.free.Before(at) {
			d.free = at
		}
		if d.free.Sub(at) > transmission(queue, r.Rate) {
			return nil
		}
		d.free = d.free.Add(transmission(length, r.Rate))
		at = d.free
	}
	at = at.Add(r.Delay)
	if r.Jitter > 0 {
		at = at.Add(time.Duration((2*random.Float64() - 1) * float64(r.Jitter)))
	}
	if at.Before(d.last) {
		at = d.last
	}
	if r.Reorder > 0 && random.Float64() < r.Reorder {
		at = at.Add(reorderHold)
	} else {
		d.last = at
	}
	if r.Duplicate > 0 && random.Float64() < r.Duplicate {
		return []time.Time{at, at}
	}
	return []time.Time{at}
}

// transmission is the time that a number of bytes takes at a rate in bits a second.
func transmission(bytes, rate int) time.Duration {
	return time.Duration(float64(bytes) * 8 / float64(rate) * float64(time.Second))
}

// resolvesAddresses reports whether a frame belongs to ARP or to IPv6's neighbor discovery.
func resolvesAddresses(frame []byte) bool {
	if len(frame) < headerLength {
		return false
	}
	switch kind := uint16(frame[12])<<8 | uint16(frame[13]); kind {
	case 0x0806:
		return true
	case 0x86dd:
		const next, icmp, first, last = headerLength + 6, 58, 133, 137
		const message = headerLength + 40
		return len(frame) > message && frame[next] == icmp && frame[message] >= first && frame[message] <= last
	}
	return false
}

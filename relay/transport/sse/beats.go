package sse

import (
	"sync"
	"sync/atomic"
	"time"
)

// beatSlots is the number of slots of the clock. A connection whose heartbeat is due later than that waits for another
// turn of the clock.
const beatSlots = 64

// noSlot is the slot of a connection that has none.
const noSlot = -1

// beats sends the heartbeats of all connections, with one goroutine and without a timer for each. The goroutine runs
// while there are connections.
type beats struct {
	now atomic.Uint32 // seconds

	mu      sync.Mutex // guards the fields below, and those of connections
	slots   [beatSlots][]*Conn
	conns   int
	running bool
}

// add adds a connection to the clock.
func (b *beats) add(c *Conn) {
	if len(c.form.Heartbeat) == 0 || c.form.Interval < time.Second {
		c.slot = noSlot
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c.sent.Store(b.now.Load())
	b.conns++
	b.put(c, seconds(c.form.Interval))
	if !b.running {
		b.running = true
		go b.run()
	}
}

func seconds(d time.Duration) uint32 { return uint32(min(d, time.Hour) / time.Second) }

// put puts a connection into the slot of a time from now. b.mu is held.
func (b *beats) put(c *Conn, in uint32) {
	c.slot = int32((b.now.Load() + min(in, beatSlots-1)) % beatSlots)
	c.at = int32(len(b.slots[c.slot]))
	b.slots[c.slot] = append(b.slots[c.slot], c)
}

// remove removes a connection that has ended.
func (b *beats) remove(c *Conn) {
	if len(c.form.Heartbeat) == 0 || c.form.Interval < time.Second {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns--
	if c.slot == noSlot { // being served; not put back
		c.at = noSlot
		return
	}
	list := b.slots[c.slot]
	last := len(list) - 1
	list[c.at] = list[last]
	list[c.at].at = c.at
	list[last] = nil
	b.slots[c.slot] = list[:last]
	c.slot, c.at = noSlot, noSlot
}

// run is the clock.
func (b *beats) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range tick.C {
		if !b.turn() {
			return
		}
	}
}

// turn serves the connections of the next second. It reports whether there are connections.
func (b *beats) turn() bool {
	b.mu.Lock()
	now := b.now.Add(1)
	slot := now % beatSlots
	due := b.slots[slot]
	b.slots[slot] = nil
	for _, c := range due {
		c.slot = noSlot
	}
	b.mu.Unlock()
	wait := make([]uint32, 0, len(due))
	for _, c := range due {
		interval := seconds(c.form.Interval)
		quiet := now - c.sent.Load()
		if quiet >= interval {
			c.beat()
			c.sent.Store(now)
			quiet = 0
		}
		wait = append(wait, interval-quiet)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, c := range due {
		if c.at != noSlot {
			b.put(c, max(wait[i], 1))
		}
	}
	b.running = b.conns > 0
	return b.running
}

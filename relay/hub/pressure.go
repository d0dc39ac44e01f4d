package hub

import (
	"cmp"
	"context"
	"errors"
	"math"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Bytes queued for slow consumers are memory, and a node has many slow consumers at once when the clients' network is
// in trouble. The slowest are disconnected before the process meets its memory limit (GOMEMLIMIT, which Caddy sets from
// the container's): there, the garbage collector takes all processor time, and then the kernel ends the process.
// Buffers are shared between sockets, so that the sum of all queues can be a thousand times their memory. Only the
// memory in use shows a shortage, and nothing is counted while events are written.

const (
	// pressureInterval is the time between two measurements.
	pressureInterval = 250 * time.Millisecond
	// memoryHigh and memoryGoal are the parts of the memory limit at which clients are disconnected, and down to which.
	memoryHigh, memoryGoal = 0.85, 0.70
	// queueGoal is the part of QueueTotal down to which clients are disconnected.
	queueGoal = 0.75
	// pressureLogInterval is the time between two log lines.
	pressureLogInterval = 10 * time.Second
)

// ErrNoMemory rejects connections while memory is short and no slow consumer is left to disconnect.
var ErrNoMemory = errors.New("the relay is short of memory")

// memory is a measurement of the process.
type memory struct {
	floor  float64 // bytes that a garbage collection would not free
	limit  float64 // bytes, +Inf if there is none
	cycles uint64  // number of garbage collections
}

// memoryReader reads the runtime's metrics.
type memoryReader struct{ samples []metrics.Sample }

func newMemoryReader() *memoryReader {
	r := &memoryReader{}
	for _, name := range []string{
		"/gc/gomemlimit:bytes", "/gc/heap/live:bytes", "/gc/cycles/total:gc-cycles", "/memory/classes/total:bytes",
		"/memory/classes/heap/released:bytes", "/memory/classes/heap/objects:bytes", "/memory/classes/heap/free:bytes",
	} {
		r.samples = append(r.samples, metrics.Sample{Name: name})
	}
	return r
}

func (r *memoryReader) read() memory {
	metrics.Read(r.samples)
	v := func(i int) uint64 { return r.samples[i].Value.Uint64() }
	m := memory{limit: float64(v(0)), cycles: v(2)}
	if v(0) == math.MaxInt64 {
		m.limit = math.Inf(1)
	}
	// The limit counts all memory that was not returned to the system. Of the heap, the live part after the last
	// garbage collection counts, not the garbage since.
	m.floor = float64(v(1)) + float64(v(3)) - float64(v(4)) - float64(v(5)) - float64(v(6))
	return m
}

// pressure disconnects slow consumers when memory is short.
type pressure struct {
	hub      *Hub
	read     func() memory
	evicted  map[*Session]bool // sessions that were closed, but hold queued bytes
	cycles   uint64            // number of garbage collections at the last eviction
	logged   time.Time
	unlogged struct{ clients, bytes int } // since then
}

// watchMemory runs until ctx ends.
// See docs/decisions/hub.md#why-is-memory-pressure-read-from-the-runtime
func (h *Hub) watchMemory(ctx context.Context) {
	p := &pressure{hub: h, read: newMemoryReader().read, evicted: map[*Session]bool{}}
	tick := time.NewTicker(pressureInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.relieve()
		case <-ctx.Done():
			return
		}
	}
}

// relieve disconnects slow consumers if necessary.
func (p *pressure) relieve() {
	if total := p.hub.Limits().QueueTotal; total > 0 {
		if slow, bytes := p.slowConsumers(); bytes > total {
			p.evict(slow, bytes-int(queueGoal*float64(total)), "queue_total")
		}
	}
	m := p.read()
	high := m.floor > memoryHigh*m.limit
	if !high {
		p.hub.short.Store(false)
		for s := range p.evicted {
			if n, _ := s.socket.Waiting(); n == 0 {
				delete(p.evicted, s)
			}
		}
		return
	}
	if m.cycles < p.cycles+2 && p.cycles > 0 { // the last eviction may not have been collected yet
		return
	}
	p.cycles = m.cycles
	slow, bytes := p.slowConsumers()
	if bytes == 0 {
		if !p.hub.short.Swap(true) {
			p.hub.log.Error("memory is short, new connections rejected", "in_use", int(m.floor), "limit", int(m.limit),
				"remedy", "raise GOMEMLIMIT or the container's limit, or lower limits connections")
		}
		return
	}
	p.evict(slow, int(m.floor-memoryGoal*m.limit), "memory")
}

// slowConsumer is a session with queued bytes.
type slowConsumer struct {
	session *Session
	bytes   int
}

// slowConsumers returns the sessions with queued bytes, and the total of queued bytes.
func (p *pressure) slowConsumers() (slow []slowConsumer, bytes int) {
	for _, s := range p.hub.allSessions() {
		if n, _ := s.socket.Waiting(); n > 0 {
			slow = append(slow, slowConsumer{s, n})
			bytes += n
		}
	}
	return slow, bytes
}

// evict disconnects the slowest consumers, until their queues add up to so many bytes.
func (p *pressure) evict(slow []slowConsumer, bytes int, reason string) {
	slices.SortFunc(slow, func(a, b slowConsumer) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, c := range slow {
		if bytes <= 0 {
			break
		}
		bytes -= c.bytes
		p.unlogged.bytes += c.bytes
		if p.evicted[c.session] { // closed before, but the queue is still there
			c.session.socket.Kill()
			continue
		}
		p.evicted[c.session] = true
		p.unlogged.clients++
		p.hub.stats.evictedForMemory.Add(1)
		p.hub.losses.count(relay.LossMemory, 0)
		c.session.socket.Close(relay.ClosePolicy, "slow reader: the relay is short of memory")
	}
	if time.Since(p.logged) < pressureLogInterval {
		return
	}
	p.logged = time.Now()
	p.hub.log.Warn("memory is short, slow consumers disconnected", "reason", reason, "count", p.unlogged.clients,
		"queued_bytes", p.unlogged.bytes)
	p.unlogged.clients, p.unlogged.bytes = 0, 0
}

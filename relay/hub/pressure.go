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

// What waits for slow readers is memory, and a node has many of them at once when its clients' network is in trouble. Before the process
// meets its memory limit (GOMEMLIMIT, which Caddy sets from the container's), where the garbage collector takes all of the processor and
// the kernel ends the process next, the slowest readers are let go. Buffers are shared between sockets, so that what they have waiting together can be
// a thousand times what it takes: only memory itself tells when it is short, and nothing is counted as events are written.

const (
	// pressureEvery is how often memory is looked at.
	pressureEvery = 250 * time.Millisecond
	// memoryHigh and memoryGoal are the parts of the memory limit at which readers are let go, and down to which.
	memoryHigh, memoryGoal = 0.85, 0.70
	// queueGoal is the part of QueueTotal down to which readers are let go.
	queueGoal = 0.75
	// pressureLog is how often it is told again.
	pressureLog = 10 * time.Second
)

// ErrNoMemory refuses a new connection while memory is short and no slow reader is left to let go.
var ErrNoMemory = errors.New("the relay is short of memory")

// memory is what the process uses.
type memory struct {
	floor  float64 // bytes that a collection would not free
	limit  float64 // bytes, +Inf if there is none
	cycles uint64  // collections so far
}

// memoryReader reads the runtime's figures.
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
	// The limit counts all but what was given back. Of the heap the last collection's outcome counts, not the garbage since.
	m.floor = float64(v(1)) + float64(v(3)) - float64(v(4)) - float64(v(5)) - float64(v(6))
	return m
}

// pressure lets slow readers go where memory is short.
type pressure struct {
	hub    *Hub
	read   func() memory
	let    map[*Session]bool // told already, and not gone
	looked uint64            // collections when readers were let go last
	told   time.Time         // when it was logged
	unsaid struct{ readers, bytes int }
}

// watchMemory runs until ctx ends.
// See docs/decisions/hub.md#why-is-memory-pressure-read-from-the-runtime
func (h *Hub) watchMemory(ctx context.Context) {
	p := &pressure{hub: h, read: newMemoryReader().read, let: map[*Session]bool{}}
	tick := time.NewTicker(pressureEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.look()
		case <-ctx.Done():
			return
		}
	}
}

// look lets go of readers if it has to.
func (p *pressure) look() {
	if total := p.hub.Limits().QueueTotal; total > 0 {
		if waiting, bytes := p.waiting(); bytes > total {
			p.shed(waiting, bytes-int(queueGoal*float64(total)), "queue_total")
		}
	}
	m := p.read()
	high := m.floor > memoryHigh*m.limit
	if !high {
		p.hub.short.Store(false)
		for s := range p.let {
			if n, _ := s.socket.Waiting(); n == 0 {
				delete(p.let, s)
			}
		}
		return
	}
	if m.cycles < p.looked+2 && p.looked > 0 { // what was let go last may not have been collected yet
		return
	}
	p.looked = m.cycles
	waiting, bytes := p.waiting()
	if bytes == 0 {
		if !p.hub.short.Swap(true) {
			p.hub.log.Error("memory is short, and no slow reader is the reason; new connections are refused until it is not (raise GOMEMLIMIT or the container's limit, or lower limits connections)",
				"in_use", int(m.floor), "limit", int(m.limit))
		}
		return
	}
	p.shed(waiting, int(m.floor-memoryGoal*m.limit), "memory")
}

// slowReader is a session for which bytes wait.
type slowReader struct {
	session *Session
	bytes   int
}

// waiting returns the sessions for which something waits, and how much.
func (p *pressure) waiting() (readers []slowReader, bytes int) {
	for _, s := range p.hub.everybody() {
		if n, _ := s.socket.Waiting(); n > 0 {
			readers = append(readers, slowReader{s, n})
			bytes += n
		}
	}
	return readers, bytes
}

// shed lets go of the readers with the most, until they have had at least so many bytes.
func (p *pressure) shed(readers []slowReader, bytes int, why string) {
	slices.SortFunc(readers, func(a, b slowReader) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, r := range readers {
		if bytes <= 0 {
			break
		}
		bytes -= r.bytes
		p.unsaid.bytes += r.bytes
		if p.let[r.session] { // it has been told, and what it was being sent is still there
			r.session.socket.Kill()
			continue
		}
		p.let[r.session] = true
		p.unsaid.readers++
		p.hub.stats.shed.Add(1)
		p.hub.losses.count(relay.LossMemory, 0)
		r.session.socket.Close(relay.ClosePolicy, "slow reader: the relay is short of memory")
	}
	if time.Since(p.told) < pressureLog {
		return
	}
	p.told = time.Now()
	p.hub.log.Warn("memory is short; the slowest readers are closed", "reason", why, "readers", p.unsaid.readers, "queued_bytes", p.unsaid.bytes)
	p.unsaid.readers, p.unsaid.bytes = 0, 0
}

package netpoll

import (
	"runtime"
	"sync"
	"time"
)

// Flusher has queued bytes.
type Flusher interface {
	// FlushQueue writes the queue, and blocks while the client does not accept bytes.
	FlushQueue()
}

const (
	// flushersPerProcessor is the number of queues that are written at the same time, for each processor.
	flushersPerProcessor = 8
	// flushersStall is the time without progress after which further goroutines write queues: the clients of the others
	// accept nothing.
	flushersStall = 2 * time.Millisecond
)

// flushers writes the queues of connections that cannot be written without blocking, with few goroutines. An event for
// a thousand streams would otherwise need a thousand, and the memory of their stacks would stay with the process for
// minutes. The zero value is ready for use.
type flushers struct {
	mu       sync.Mutex
	queue    []Flusher // queue[head:] waits
	head     int
	active   int    // goroutines of this epoch
	epoch    uint64 // ends when the goroutines stall
	taken    uint64 // of queue
	stalls   int    // in a row
	seen     uint64 // taken at the last look of watch
	watching bool
}

// FlushSoon has a goroutine call f.FlushQueue soon. A connection that blocks in writes shares its goroutines with
// others; one that does not seldom has a queue, and gets its own.
func (c *Conn) FlushSoon(f Flusher) {
	if c.fd != noFD || c.writer != nil || c.poller == nil {
		go f.FlushQueue()
		return
	}
	c.poller.flushers.add(f)
}

func (p *flushers) add(f Flusher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, f)
	if p.active < flushersPerProcessor*runtime.GOMAXPROCS(0) {
		p.active++
		go p.work(p.epoch)
		return
	}
	if !p.watching {
		p.watching, p.seen, p.stalls = true, p.taken, 0
		time.AfterFunc(flushersStall, p.watch)
	}
}

// work writes queues until there are none left, or until its epoch has ended.
func (p *flushers) work(epoch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for epoch == p.epoch && p.head < len(p.queue) {
		f := p.queue[p.head]
		p.queue[p.head] = nil
		p.head++
		p.taken++
		p.mu.Unlock()
		f.FlushQueue()
		p.mu.Lock()
	}
	if epoch == p.epoch {
		p.active--
	}
	if p.head == len(p.queue) {
		p.queue, p.head = p.queue[:0], 0
	}
}

// watch replaces goroutines that wait for their clients, while there are queues.
func (p *flushers) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := len(p.queue) - p.head
	if waiting == 0 {
		p.watching = false
		return
	}
	if p.taken != p.seen {
		p.stalls = 0
	} else {
		p.epoch++
		// Many clients that accept nothing must not delay the others for long.
		p.active = min(flushersPerProcessor*runtime.GOMAXPROCS(0)<<min(p.stalls, 20), waiting)
		p.stalls++
		for range p.active {
			go p.work(p.epoch)
		}
	}
	p.seen = p.taken
	time.AfterFunc(flushersStall, p.watch)
}

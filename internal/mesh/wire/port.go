package wire

import (
	"container/heap"
	"io"
	"sync"
	"time"
)

// maxQueued is the number of frames that wait for one port at most; further ones are dropped.
const maxQueued = 20_000

// port is a device of the switch, with the frames that wait for it.
type port struct {
	name   string
	device io.ReadWriteCloser
	// changed has a token when the earliest frame may be another one.
	changed chan struct{}
	done    chan struct{}
	once    sync.Once

	mu      sync.Mutex // guards the fields below
	waiting frames
	seq     uint64
}

func newPort(name string, device io.ReadWriteCloser) *port {
	return &port{name: name, device: device, changed: make(chan struct{}, 1), done: make(chan struct{})}
}

// close ends read and write.
func (p *port) close() {
	p.once.Do(func() {
		close(p.done)
		_ = p.device.Close() // nothing depends on it
	})
}

// queue adds a frame to be delivered at a time, and reports whether there is room.
func (p *port) queue(frame []byte, at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= maxQueued {
		return false
	}
	p.seq++
	heap.Push(&p.waiting, waitingFrame{at, p.seq, frame})
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return true
}

// due removes and returns the earliest frame if its time has come, or else the time until then; 0: no frame waits.
func (p *port) due(now time.Time) (frame []byte, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return nil, 0
	}
	if wait := p.waiting[0].at.Sub(now); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&p.waiting).(waitingFrame).bytes, 0
}

// write delivers frames until the port is closed.
func (p *port) write() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		frame, wait := p.due(time.Now())
		if frame != nil {
			// A device that is down, or whose queue is full, refuses the frame: it is lost, as on a wire.
			_, _ = p.device.Write(frame)
			continue
		}
		if wait == 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-p.done:
			return
		case <-p.changed:
		case <-timer.C:
		}
	}
}

// waitingFrame is a frame with the time of its delivery; seq keeps the order of frames with the same time.
type waitingFrame struct {
	at    time.Time
	seq   uint64
	bytes []byte
}

// frames is a heap with the earliest frame first.
type frames []waitingFrame

func (f frames) Len() int { return len(f) }
func (f frames) Less(i, j int) bool {
	if !f[i].at.Equal(f[j].at) {
		return f[i].at.Before(f[j].at)
	}
	return f[i].seq < f[j].seq
}
func (f frames) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *frames) Push(x any)   { *f = append(*f, x.(waitingFrame)) }
func (f *frames) Pop() any {
	old := *f
	last := old[len(old)-1]
	old[len(old)-1] = waitingFrame{}
	*f = old[:len(old)-1]
	return last
}

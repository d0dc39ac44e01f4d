package hub

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Bounds on what may wait in a tail that is not read.
const (
	tailEvents = 512
	tailBytes  = 4 << 20
)

// TailOptions say what a [Tail] shows.
type TailOptions struct {
	// Raw shows events as they came in, before the [relay.Interceptor]; else they are as clients get them.
	Raw bool
	// Class is that of the client, 0 to 63, whose view is shown; see [relay.Redaction]. Ignored if Raw.
	Class uint8
}

// Tail shows the events of one group to an operator. It never holds anything up: what does not fit into its buffer is counted
// and left out.
// See docs/decisions/hub.md#why-does-a-tail-observe-events-behind-the-plugins
type Tail struct {
	options TailOptions
	stop    func()

	mu      sync.Mutex
	waiting []TailEvent
	bytes   int
	dropped int
	more    chan struct{} // holds one token while something may wait

	events, seen atomic.Uint32 // as those of an audience
	perSecond    atomic.Uint32 // bits of a float32
}

func (t *Tail) rate() float64 { return float64(math.Float32frombits(t.perSecond.Load())) }

// TailEvent is one event in a [Tail].
type TailEvent struct {
	// At is when this node got to it, Sent when the emitter published it, zero if that is unknown.
	At, Sent time.Time
	// Source says how it reached this node.
	Source relay.Source
	// Text is the payload. It must not be changed.
	Text []byte
}

// Tail begins to collect the events of a group, as if a client had subscribed to it: the group is joined, and peers send
// it. If ctx ends before the layer has taken the membership, the tail stands all the same. Close it after use.
func (h *Hub) Tail(ctx context.Context, group string, o TailOptions) (*Tail, error) {
	if err := relay.CheckClass(o.Class); err != nil {
		return nil, err
	}
	t := &Tail{options: o, more: make(chan struct{}, 1)}
	among := &h.watchers
	if o.Raw {
		among = &h.listeners
	}
	t.stop = h.listen(ctx, among, group, t, t.hear)
	return t, nil
}

// hear takes an event from the goroutine that delivers it.
func (t *Tail) hear(ev relay.Event) {
	text := ev.Text
	switch r := ev.Redaction; {
	case ev.Control != nil:
		return
	case r == nil || t.options.Raw:
	case r.Classes&(1<<t.options.Class) == 0:
		return
	case r.Render != nil:
		var ok bool
		if text, ok = r.Render(t.options.Class); !ok {
			return
		}
	}
	t.events.Add(1)
	t.mu.Lock()
	if len(t.waiting) < tailEvents && (t.bytes+len(text) <= tailBytes || len(t.waiting) == 0) {
		t.waiting = append(t.waiting, TailEvent{At: time.Now(), Sent: ev.Sent, Source: ev.Source, Text: text})
		t.bytes += len(text)
	} else {
		t.dropped++
	}
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// Next waits for events and returns all there are, in order, and how many were left out behind them. The error is ctx's.
func (t *Tail) Next(ctx context.Context) (events []TailEvent, dropped int, err error) {
	for {
		if events, dropped = t.Take(); len(events) > 0 || dropped > 0 {
			return events, dropped, nil
		}
		select {
		case <-t.more:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// Take is Next without waiting.
func (t *Tail) Take() (events []TailEvent, dropped int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	events, dropped = t.waiting, t.dropped
	t.waiting, t.bytes, t.dropped = nil, 0, 0
	return events, dropped
}

// Close ends the tail.
func (t *Tail) Close() { t.stop() }

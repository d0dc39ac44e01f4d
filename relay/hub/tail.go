package hub

import (
	"context"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Bounds of the queue of a tail that is not read.
const (
	tailEvents = 512
	tailBytes  = 4 << 20
)

// TailOptions select the events of a [Tail].
type TailOptions struct {
	// Raw selects events on arrival, before the [relay.Interceptor]; otherwise, the tail sees the events for clients.
	Raw bool
	// Class selects the view of an audience class, 0 to [relay.MaxClass]. Raw ignores Class.
	Class uint8
	// Generation, unless nil, is the generation of Class, and the tail gets no events for classes of another one. See
	// [Tail.Outdated].
	Generation *uint64
	// Since, unless nil, asks for events of the group's history before the live ones, as a client does that resumes. A
	// pattern of groups has no history. See [Tail.Resumed].
	Since *relay.Resume
}

// Tail is a queue of a group's events for an operator. A tail never blocks a delivery: events beyond a full queue are
// counted and dropped. Methods may be called concurrently.
// See docs/decisions/hub.md#why-does-a-tail-observe-events-behind-the-plugins
type Tail struct {
	hub     *Hub
	group   string
	options TailOptions
	stop    func()

	mu      sync.Mutex // guards the fields below
	queue   []TailEvent
	bytes   int
	dropped int
	held    []relay.Event // until the history has been read
	holds   bool
	known   known // events of the history that the tail has

	resumed relay.Resumed // set before Hub.Tail returns
	more    chan struct{} // has an element while there may be events

	events, seen atomic.Uint32 // as in audience
	perSecond    atomic.Uint32 // bits of a float32
}

func (t *Tail) rate() float64 { return float64(math.Float32frombits(t.perSecond.Load())) }

// TailEvent is an event in a [Tail].
type TailEvent struct {
	// Group is the event's group.
	Group string
	// At is when this node handled the event, Sent when the emitter published it, zero if unknown.
	At, Sent time.Time
	// Source is the way by which the event reached this node.
	Source relay.Source
	// Type is the message type, empty for internal.message.
	Type string
	// Text is the payload, which must not be changed. For an event with a Type, it is the whole message; see
	// [relay.Event.Text].
	Text []byte
	// Position is the event's place in the history, zero if there is none.
	Position relay.Position
}

// Tail collects the events of a group, as for a client: the group is joined, and peers send its events. If ctx ends
// before the layer has taken the membership, the layer keeps trying. A group with "*" is a pattern, in which "*" stands
// for any run of characters: the tail collects the events that reach this node anyway, and joins no group. Close the
// tail after use. The error is that of an invalid group, or of an audience class above [relay.MaxClass].
func (h *Hub) Tail(ctx context.Context, group string, o TailOptions) (*Tail, error) {
	if err := relay.CheckClass(o.Class); err != nil {
		return nil, err
	}
	pattern := strings.Contains(group, "*")
	if err := relay.CheckGroup(strings.ReplaceAll(group, "*", "x")); err != nil {
		return nil, err
	}
	if pattern && o.Since != nil {
		return nil, errPatternSince
	}
	t := &Tail{hub: h, group: group, options: o, more: make(chan struct{}, 1), holds: o.Since != nil}
	among := &h.watchers
	if o.Raw {
		among = &h.listeners
	}
	if pattern {
		t.stop = sync.OnceFunc(among.add(anyGroup, &listener{fn: t.add, tail: t, pattern: group}))
	} else {
		t.stop = h.listen(ctx, among, group, t, t.add)
	}
	if o.Since != nil {
		t.resume(ctx)
	}
	return t, nil
}

// add queues an event, on the delivering goroutine.
func (t *Tail) add(ev relay.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.holds && len(t.held) < tailEvents:
		t.held = append(t.held, ev)
	case t.holds:
		t.dropped++
	default:
		t.addLive(&ev)
	}
}

// textOf returns the text of an event for the tail, and false if it sees none.
func (t *Tail) textOf(ev *relay.Event) (text []byte, ok bool) {
	switch r := ev.Redaction; {
	case ev.Control != nil:
		return nil, false
	case r == nil || t.options.Raw:
		return ev.Text, true
	case r.Classes&(1<<t.options.Class) == 0:
		return nil, false
	case t.options.Generation != nil && *t.options.Generation != r.Generation:
		return nil, false
	case r.Render != nil:
		return r.Render(t.options.Class)
	}
	return ev.Text, true
}

// addLive queues a live event. t.mu is held.
func (t *Tail) addLive(ev *relay.Event) {
	text, ok := t.textOf(ev)
	if !ok || t.known.has(ev.Position) {
		return
	}
	t.events.Add(1)
	if len(t.queue) < tailEvents && (t.bytes+len(text) <= tailBytes || len(t.queue) == 0) {
		t.queueEvent(ev, text)
	} else {
		t.dropped++
	}
	t.wake()
}

// queueEvent queues an event. t.mu is held.
func (t *Tail) queueEvent(ev *relay.Event, text []byte) {
	t.queue = append(t.queue, TailEvent{
		Group: ev.Group, At: time.Now(), Sent: ev.Published(), Source: ev.Source, Type: ev.Type, Text: text, Position: ev.Position,
	})
	t.bytes += len(text)
}

func (t *Tail) wake() {
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// Next waits for events. It returns all queued events, in order, and the number of events that were dropped afterwards.
// The error is ctx's.
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
	events, dropped = t.queue, t.dropped
	t.queue, t.bytes, t.dropped = nil, 0, 0
	return events, dropped
}

// Outdated reports whether the class of a tail with a Generation must be decided again. The tail is then to be closed,
// and another one opened.
func (t *Tail) Outdated() bool {
	return t.options.Generation != nil && *t.options.Generation != t.hub.generation(t.group)
}

// Close ends the tail.
func (t *Tail) Close() { t.stop() }

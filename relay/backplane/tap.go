package backplane

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// listenWait bounds the wait for a membership on behalf of peers. The membership may still succeed later.
const listenWait = 10 * time.Second

// sink takes events for a peer: a link, or a stream that outlives its links.
type sink interface{ push(e *event) }

// tap receives events from this node's layer for peers that subscribed to their groups. It joins each group once,
// for any number of peers.
type tap struct {
	b *Backplane

	mu     sync.Mutex
	groups map[string]*tappedGroup

	broadcast atomic.Pointer[[]sink] // peers of the broadcast dialect, which receive all events
}

// tappedGroup is one group with subscribed peers.
type tappedGroup struct {
	tap   *tap
	sinks atomic.Pointer[[]sink]
	ready chan struct{} // closed when the membership is established, or after listenWait

	// tap.mu guards these fields.
	stop    func()
	removed bool
}

func (t *tap) init(b *Backplane) {
	t.b = b
	t.groups = map[string]*tappedGroup{}
	t.broadcast.Store(&[]sink{})
}

// add subscribes a peer to the groups. The returned function waits until the memberships are established.
func (t *tap) add(l sink, groups []string) (wait func(context.Context)) {
	var ready []chan struct{}
	t.mu.Lock()
	for _, name := range groups {
		g := t.groups[name]
		if g == nil {
			g = &tappedGroup{tap: t, ready: make(chan struct{})}
			g.sinks.Store(&[]sink{})
			t.groups[name] = g
			go g.listen(name)
		}
		updateSinks(&g.sinks, l, true)
		ready = append(ready, g.ready)
	}
	t.mu.Unlock()
	return func(ctx context.Context) {
		for _, r := range ready {
			select {
			case <-r:
			case <-ctx.Done():
				return
			}
		}
	}
}

// remove unsubscribes a peer from the groups.
func (t *tap) remove(l sink, groups []string) {
	var stops []func()
	t.mu.Lock()
	for _, name := range groups {
		g := t.groups[name]
		if g == nil {
			continue
		}
		if updateSinks(&g.sinks, l, false); len(*g.sinks.Load()) > 0 {
			continue
		}
		delete(t.groups, name)
		g.removed = true
		if g.stop != nil {
			stops = append(stops, g.stop)
		}
	}
	t.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

// removeAll ends all subscriptions of a link.
func (t *tap) removeAll(l *link) { t.remove(l, l.list()) }

// setBroadcast subscribes a peer to broadcast-group_send, or ends that.
func (t *tap) setBroadcast(l sink, add bool) {
	t.mu.Lock()
	updateSinks(&t.broadcast, l, add)
	t.mu.Unlock()
}

// updateSinks adds a peer to a list, or removes it, without disturbing concurrent readers. tap.mu is held.
func updateSinks(list *atomic.Pointer[[]sink], l sink, add bool) {
	var next []sink
	for _, other := range *list.Load() {
		if other != l {
			next = append(next, other)
		}
	}
	if add {
		next = append(next, l)
	}
	list.Store(&next)
}

func (g *tappedGroup) listen(name string) {
	ctx, cancel := context.WithTimeout(g.tap.b.ctx, listenWait)
	defer cancel()
	stop := g.tap.b.hub.Listen(ctx, name, g.handle)
	g.tap.mu.Lock()
	removed := g.removed
	g.stop = stop
	close(g.ready)
	g.tap.mu.Unlock()
	if removed {
		stop()
	}
}

// handle receives an event of the group. A dead node may have sent what it had taken to all peers.
func (g *tappedGroup) handle(ev relay.Event) {
	if ev.Source != relay.FromLayer || ev.Control != nil || ev.Adopted == relay.AdoptedTaken || !g.tap.b.travels(&ev) {
		return
	}
	g.forward(&ev)
}

// travels reports whether an event of this node's layer goes to peers. Events without needs_relay came from another
// node, or travel as a wrapped copy. No node of AWX sends events with a type to other nodes.
func (b *Backplane) travels(ev *relay.Event) bool {
	return ev.NeedsRelay || ev.Type != "" || b.settings.Load().AnyEvent
}

func (g *tappedGroup) forward(ev *relay.Event) {
	sinks := *g.sinks.Load()
	if len(sinks) == 0 {
		return
	}
	e := newEvent(ev)
	for _, l := range sinks {
		l.push(e)
	}
}

// listenBroadcast receives from broadcast-group_send until the backplane ends.
func (t *tap) listenBroadcast() {
	ctx, cancel := context.WithTimeout(t.b.ctx, listenWait)
	stop := t.b.hub.Listen(ctx, broadcastGroup, t.handleBroadcast)
	cancel()
	<-t.b.ctx.Done()
	stop()
}

// handleBroadcast receives a wrapped copy. Peers of the broadcast dialect get the copy itself. Other peers get the
// event in it, unless the copy is marked: then the event is in its own group as well.
func (t *tap) handleBroadcast(ev relay.Event) {
	if ev.Source != relay.FromLayer || ev.Control != nil || ev.Type != "" {
		return
	}
	if sinks := *t.broadcast.Load(); len(sinks) > 0 {
		e := &event{text: ev.Text, since: time.Now()}
		for _, l := range sinks {
			l.push(e)
		}
	}
	if ev.NeedsRelay || t.b.settings.Load().AnyEvent {
		return
	}
	if name, ok := groupOf(ev.Text); ok && t.find(name) == nil {
		return // no subscribed peer: skip decoding
	}
	of, err := decodeBroadcast(ev.Text)
	if err != nil {
		return
	}
	if g := t.find(of.Group); g != nil {
		of.Source, of.Sent = relay.FromLayer, ev.Sent
		g.forward(&of) // without the copy's position, which is another group's
	}
}

func (t *tap) find(group string) *tappedGroup {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.groups[group]
}

package hub

import "github.com/edgerelay/edgerelay/relay"

// Deliver hands events to the clients of their groups, in the order of each group. Deliver blocks while the queue of a
// shard is full, and may change the slice. After the return, the caller may reuse the slice, but not the texts.
func (h *Hub) Deliver(events []relay.Event) {
	for i := range events {
		h.stats.events[events[i].Source].Add(1)
	}
	if t := h.tracing.Load(); t != nil {
		t.sample(events)
	}
	if p := h.history.Load(); p != nil {
		(*p).Record(events)
	}
	if ls := h.listeners.load(); ls != nil {
		ls.call(events)
	}
	if i := h.interceptor.Load(); i != nil {
		events = (*i).Intercept(events)
	}
	h.Forward(events)
}

// Forward is Deliver without listeners and interceptor, for the events that an interceptor has held back.
func (h *Hub) Forward(events []relay.Event) {
	if len(events) == 0 {
		return
	}
	if p := h.history.Load(); p != nil {
		h.unrecorded.mark(*p, events)
	}
	if ls := h.watchers.load(); ls != nil {
		ls.call(events)
	}
	e := encoders.Get().(*encoder)
	e.encode(h, events)
	e.reset()
	encoders.Put(e)
}

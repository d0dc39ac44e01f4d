package lanes

import (
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// resumption marks an item in a lane that is not an event: the events that plugins have emitted to the group from
// on_tick continue at its turn, so that the group's results leave in order.
var resumption = new(relay.Control)

func isResumption(ev *relay.Event) bool { return ev.Control == resumption }

// tickHandler implements [plugins.TickHandler].
type tickHandler struct{ *Lanes }

// Resume queues an item for the group. The group of an event that a plugin has emitted has plugins; if they are removed
// meanwhile, so are the events.
func (h tickHandler) Resume(group string) {
	_, hash := h.pipeline.Chain(group)
	h.shardOf(hash).push([]relay.Event{{Group: group, Control: resumption}}, nil, false)
}

// Deliver hands events of ticks to the fan-out.
func (h tickHandler) Deliver(outputs []plugins.Output) {
	if !h.closed.Load() {
		h.forward(h.appendResults(nil, nil, outputs, &relay.Event{}, ""))
	}
}

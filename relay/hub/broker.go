package hub

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Timeouts of a change of the channel layer. Leaving an unhealthy layer gets less time: its faults may be the reason
// for the change.
const (
	joinNewTimeout        = 3 * time.Second
	leaveOldTimeout       = 5 * time.Second
	leaveUnhealthyTimeout = time.Second
)

// SetBroker starts b and moves all groups to b. Sessions stay: the node joins the new layer before leaving the old
// layer. After a few seconds, or when ctx ends, unfinished work continues in the background.
func (h *Hub) SetBroker(ctx context.Context, b relay.Broker) error {
	if r, ok := b.(relay.MessageReceiver); ok {
		r.ReceiveMessages(h.receiveMessages.Load())
	}
	if err := b.Start(h); err != nil {
		return err
	}
	old, groups := h.interest.exchange(b)
	if len(groups) > 0 {
		joining, cancel := context.WithTimeout(ctx, joinNewTimeout)
		if err := b.Join(joining, groups...); err != nil {
			h.log.Warn("new channel layer not joined yet, retrying", "error", err, "health", b.Health().Detail)
		}
		cancel()
		h.interest.leaveUnwanted(b, groups)
	}
	if old == nil {
		return nil
	}
	timeout := leaveOldTimeout
	if !old.Health().OK {
		timeout = leaveUnhealthyTimeout
	}
	leaving, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return old.Close(leaving)
}

// Broker implements [relay.Node].
func (h *Hub) Broker() relay.Broker { return h.interest.current() }

// SetBackplane implements [relay.Node].
func (h *Hub) SetBackplane(b relay.Backplane) {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	h.interest.backplane = b
	if b != nil {
		b.Interest(h.interest.announcedGroups(), nil)
	}
}

// Backplane implements [relay.Node].
func (h *Hub) Backplane() relay.Backplane {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	return h.interest.backplane
}

// Interested returns the groups that clients of this node are subscribed to.
func (h *Hub) Interested() []string {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	return h.interest.clientGroups()
}

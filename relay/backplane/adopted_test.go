package backplane_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// A node adopts the mailbox of a dead node. Relays that ask for what they lack get none of its events. Other peers get
// those that the dead node cannot have sent.
func TestAdoptedEventsOfADeadNode(t *testing.T) {
	leakCheck(t)
	x, z, plain := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	plain.plain = true
	mesh(t, []*node{x, z, plain})
	atRelay, atPlain := z.client("job-1"), plain.client("job-1")
	x.hub.Deliver([]relay.Event{
		{Group: "job-1", Text: []byte("taken"), NeedsRelay: true, Adopted: relay.AdoptedTaken},
		{Group: "job-1", Text: []byte("unread"), NeedsRelay: true, Adopted: relay.AdoptedUnread},
		{Group: "job-1", Text: []byte("live"), NeedsRelay: true},
	})
	atRelay.await(t, "live")
	atPlain.await(t, "unread", "live")
}

package redis

import (
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay/internal/asgi"
)

// rememberedMax is the number of delivered messages that are recognized after a failover.
const rememberedMax = 4096

type messageID = [asgi.RandomPrefix]byte

// replays recognizes messages that were delivered before. After a failover the new master may lack the last commands
// of the former one, such as the removal of delivered messages, which are then read again. The random bytes before a
// message identify the message.
// See docs/decisions/layers.md#why-are-the-last-4096-messages-remembered
type replays struct {
	// lingering counts readers of former masters, of which the new master may have delivered messages already.
	lingering atomic.Int32

	mu      sync.Mutex
	recent  []messageID // a ring of the last messages; next is the oldest
	next    int
	suspect map[messageID]bool // messages that may come again; nil: none
}

// begin suspects the recent messages: a new connection goes to a host that may still hold some.
func (r *replays) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.suspect == nil {
		r.suspect = make(map[messageID]bool, len(r.recent))
	}
	for _, id := range r.recent {
		r.suspect[id] = true
	}
}

// over ends the suspicion: the mailbox was read to the end. While a former master is read, messages can still come
// again.
func (r *replays) over() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lingering.Load() == 0 {
		r.suspect = nil
	}
}

// seen reports whether a message was delivered before, and remembers the message.
func (r *replays) seen(raw []byte) bool {
	if len(raw) < asgi.RandomPrefix {
		return false
	}
	id := messageID(raw)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.suspect != nil {
		if r.suspect[id] {
			return true
		}
		r.suspect[id] = true
	}
	if len(r.recent) < rememberedMax {
		r.recent = append(r.recent, id)
		return false
	}
	r.recent[r.next] = id
	r.next = (r.next + 1) % rememberedMax
	return false
}

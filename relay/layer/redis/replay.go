package redis

import (
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay/internal/asgi"
)

// remembered is how many messages a failover may take back.
const remembered = 4096

type messageID = [asgi.RandomPrefix]byte

// replays finds messages that were delivered already. A master that takes over in a failover may lack the last that the
// former one was told, such as that messages have been read: they would be read again. The random bytes before a message tell it apart.
// See docs/decisions/layers.md#why-are-the-last-4096-messages-remembered
type replays struct {
	lingering atomic.Int32 // links that read from a former master; what one of them reads can have come from the new one already

	mu      sync.Mutex
	recent  []messageID // a ring of the last ones, next being the oldest
	next    int
	suspect map[messageID]bool // what may come again; nil: nothing
}

// begin is called when a connection has been made, to a host that may show messages again.
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

// over is called when all that waited has been read: what can come again has come, but from former masters.
func (r *replays) over() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lingering.Load() == 0 {
		r.suspect = nil
	}
}

// seen tells whether a message was delivered already, and remembers it.
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
	if len(r.recent) < remembered {
		r.recent = append(r.recent, id)
		return false
	}
	r.recent[r.next] = id
	r.next = (r.next + 1) % remembered
	return false
}

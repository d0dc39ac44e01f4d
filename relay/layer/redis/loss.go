package redis

import (
	"net"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// lost makes a loss known. It does not block.
func (b *Broker) lost(l relay.Loss) { b.health.ReportLoss(b.sink, l) }

// lost makes a loss of messages known that the link's host keeps for this node.
func (r *reader) lost(cause relay.LossCause) { r.broker.lost(r.loss(cause)) }

// loss is one of messages that the link's host keeps for this node: those of the groups on that host.
func (r *reader) loss(cause relay.LossCause) relay.Loss {
	if r.broker.hosts.Size == 1 {
		return relay.Loss{Cause: cause, All: true}
	}
	return relay.Loss{Cause: cause, Groups: r.broker.members.wantedOn(r.host)}
}

// lossWatch is what a reader keeps to notice losses.
type lossWatch struct {
	looked time.Time // when Redis last answered what is in it
	took   time.Time // when the messages in flight were taken
	master string    // the address of the master, where sentinels name it
}

// looked notes that the mailbox was looked at. If the last time is too long ago, messages have expired unread.
func (r *reader) looked() {
	if r.former {
		return
	}
	now := time.Now()
	last := r.losses.looked
	r.losses.looked = now
	if !last.IsZero() && now.Sub(last) >= r.broker.settings.Load().Expiry {
		r.lost(relay.LossMailboxExpired)
	}
}

// readAll notes that all messages that were taken have been read. With gone there was none left where more had been
// expected.
func (r *reader) readAll(gone bool) {
	settings := r.broker.settings.Load()
	if gone && time.Since(r.losses.took) >= settings.Expiry {
		r.lost(relay.LossMailboxExpired)
	}
	// A mailbox never holds more than its emitters let it: beyond our capacity, theirs is another, and not known.
	switch capacity := settings.capacity(r.receiver + "0"); {
	case r.mailbox.taken == capacity:
		r.lost(relay.LossMailboxFull)
	case r.mailbox.taken > capacity && !r.broker.otherCapacity.Swap(true):
		r.broker.log.Warn("emitters have a greater capacity", "capacity", capacity, "count", r.mailbox.taken,
			"remedy", "set capacity as in CHANNEL_LAYERS, or losses at that capacity are not noticed")
	}
}

// foundMaster notes which master the link is connected to. Another one may lack what the former had confirmed.
func (r *reader) foundMaster(conn net.Conn) {
	c, ok := conn.(*redisnet.MasterConn)
	if !ok {
		return
	}
	before := r.losses.master
	r.losses.master = c.Addr
	if before != "" && before != c.Addr {
		r.lost(relay.LossFailover)
	}
}

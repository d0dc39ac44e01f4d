package redis

import (
	"net"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// lost reports a loss. It does not block.
func (b *Broker) lost(l relay.Loss) { b.health.ReportLoss(b.sink, l) }

// lost reports a loss of messages in this mailbox.
func (r *reader) lost(cause relay.LossCause) { r.broker.lost(r.loss(cause)) }

// loss returns a loss of messages in this mailbox: of the groups on its host.
func (r *reader) loss(cause relay.LossCause) relay.Loss {
	if r.broker.hosts.Size == 1 {
		return relay.Loss{Cause: cause, All: true}
	}
	return relay.Loss{Cause: cause, Groups: r.broker.members.wantedOn(r.host)}
}

// lossWatch holds the times and the address by which a reader notices losses.
type lossWatch struct {
	looked time.Time // when Redis last answered with the contents of the mailbox
	took   time.Time // when the messages in flight were taken
	master string    // the master's address, if sentinels name it
}

// looked notes an answer about the mailbox. If the previous answer is too old, messages have expired unread.
func (r *reader) looked() {
	if r.former {
		return
	}
	now := time.Now()
	last := r.losses.looked
	r.losses.looked = now
	r.lookedAt.Store(now.UnixNano())
	if !last.IsZero() && now.Sub(last) >= r.broker.settings.Load().Expiry {
		r.lost(relay.LossMailboxExpired)
	}
}

// unreadFor returns for how long the mailbox has not been looked at.
func (r *reader) unreadFor() time.Duration {
	return max(time.Since(time.Unix(0, r.lookedAt.Load())), 0)
}

// readAll notes that all messages that were taken have been read. gone: none was left although more were expected.
func (r *reader) readAll(gone bool) {
	settings := r.broker.settings.Load()
	if gone && time.Since(r.losses.took) >= settings.Expiry {
		r.lost(relay.LossMailboxExpired)
	}
	// Emitters fill a mailbox up to their capacity. With more messages, that capacity is greater than ours, and
	// unknown.
	switch capacity := settings.capacity(r.receiver + "0"); {
	case r.mailbox.taken == capacity:
		r.lost(relay.LossMailboxFull)
	case r.mailbox.taken > capacity && !r.broker.otherCapacity.Swap(true):
		r.broker.log.Warn("emitters have a greater capacity", "capacity", capacity, "count", r.mailbox.taken,
			"remedy", "set capacity as in CHANNEL_LAYERS, or losses at that capacity are not noticed")
	}
}

// foundMaster notes the master's address. A new master may lack messages that the former master had confirmed.
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

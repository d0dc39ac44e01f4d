package redis

import (
	"net"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// lost makes a loss known. It does not block.
func (b *Broker) lost(l relay.Loss) { b.health.Missed(b.sink, l) }

// lost makes a loss of messages known that the link's host keeps for this node.
func (l *link) lost(cause relay.LossCause) { l.broker.lost(l.loss(cause)) }

// loss is one of messages that the link's host keeps for this node: those of the groups on that host.
func (l *link) loss(cause relay.LossCause) relay.Loss {
	if l.broker.hosts.Size == 1 {
		return relay.Loss{Cause: cause, All: true}
	}
	return relay.Loss{Cause: cause, Groups: l.broker.members.wantedOn(l.host)}
}

// mailbox is what a link that reads this node's messages keeps to notice losses.
type mailbox struct {
	looked time.Time // when Redis last answered what is in it
	took   time.Time // when the messages in flight were taken
	master string    // the address of the master, where sentinels name it
}

// looked notes that the mailbox was looked at. If the last time is too long ago, messages have expired unread.
func (l *link) looked() {
	if l.former {
		return
	}
	now := time.Now()
	last := l.reading.looked
	l.reading.looked = now
	if !last.IsZero() && now.Sub(last) >= l.broker.settings.Load().Expiry {
		l.lost(relay.LossMailboxExpired)
	}
}

// readAll notes that all messages that were taken have been read. With gone there was none left where more had been
// expected.
func (l *link) readAll(gone bool) {
	settings := l.broker.settings.Load()
	if gone && time.Since(l.reading.took) >= settings.Expiry {
		l.lost(relay.LossMailboxExpired)
	}
	// A mailbox never holds more than its emitters let it: beyond our capacity, theirs is another, and not known.
	switch capacity := settings.capacity(l.receiver + "0"); {
	case l.waited == capacity:
		l.lost(relay.LossMailboxFull)
	case l.waited > capacity && !l.broker.otherCapacity.Swap(true):
		l.broker.log.Warn("emitters have a greater capacity", "capacity", capacity, "count", l.waited,
			"remedy", "set capacity as in CHANNEL_LAYERS, or losses at that capacity are not noticed")
	}
}

// foundMaster notes which master the link is connected to. Another one may lack what the former had confirmed.
func (l *link) foundMaster(conn net.Conn) {
	c, ok := conn.(*redisnet.MasterConn)
	if !ok {
		return
	}
	before := l.reading.master
	l.reading.master = c.Addr
	if before != "" && before != c.Addr {
		l.lost(relay.LossFailover)
	}
}

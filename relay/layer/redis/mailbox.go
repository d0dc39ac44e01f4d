package redis

import (
	"bytes"
	"strconv"
)

// Messages leave the channel key in a way that loses none: RENAME moves the whole key to this node's in-flight key,
// from which they are read in batches. No message is ever outside Redis and unread, emitters have their whole capacity
// again, and no emitter can insert below a message that has been read. Messages in flight that were delivered are
// dropped with the next batch, or replaced by the next RENAME. All are plain commands: Redis would notify the
// connection of the changes of its own script.

const (
	// batchMax is the maximum number of messages in a round trip; large messages reduce the number.
	batchMax = 512
	// batchBytesMax is the size above which the next batch is made smaller.
	batchBytesMax = 4 << 20
)

// phase is how far the reading of a mailbox is.
type phase uint8

const (
	// idle: no message is known to wait.
	idle phase = iota
	// ready: messages may wait in the channel key. The next exchange takes them.
	ready
	// partial: a whole batch was delivered, and more may be in flight behind it. The next exchange drops the batch.
	partial
	// unsure: the last commands may or may not have been executed. The next exchange looks at the messages in flight.
	unsure
	// stuck: the host rejects writes, so that nothing can be taken or dropped.
	stuck

	// taking, dropping and looking: the exchange of ready, partial and unsure is not answered yet.
	taking
	dropping
	looking
)

// happening is an event that changes the phase of a mailbox.
type happening uint8

const (
	// notified: Redis says, or a probe found, that the channel key has changed.
	notified happening = iota
	// connected: a connection was made, and no delivered message is known to be in flight.
	connected
	// connectedInFlight: a connection was made. Delivered messages were in flight, and the host may be a different one.
	connectedInFlight
	// began: the commands of the next exchange are being sent.
	began
	// foundNothing: the exchange found no message.
	foundNothing
	// foundDelivered: the messages in flight were delivered before the connection broke.
	foundDelivered
	// foundSome: the exchange found fewer messages than it asked for.
	foundSome
	// foundBatch: the exchange found as many messages as it asked for.
	foundBatch
	// writesRejected and writesAccepted: the host has answered a write.
	writesRejected
	writesAccepted
	// healed: the in-flight key held another type and was deleted.
	healed
)

// after returns the phase after something has happened.
func (p phase) after(h happening) phase {
	switch h {
	case notified:
		if p == idle {
			return ready
		}
		return p
	case connected:
		return p.afterConnecting(ready)
	case connectedInFlight:
		return p.afterConnecting(unsure)
	case writesAccepted:
		if p == stuck {
			return unsure
		}
		return p
	}
	switch p {
	case taking, dropping, looking:
		return p.afterExchange(h)
	case ready, partial, unsure:
		if h == began {
			return p.exchange()
		}
	}
	return p
}

// exchange returns the phase while the exchange of a phase is not answered.
func (p phase) exchange() phase {
	switch p {
	case ready:
		return taking
	case partial:
		return dropping
	}
	return looking
}

// afterConnecting returns the phase on a new connection: otherwise, unless a command's fate is unknown.
func (p phase) afterConnecting(otherwise phase) phase {
	switch p {
	case stuck:
		return stuck
	case partial, unsure, taking, dropping, looking:
		return unsure
	}
	return otherwise
}

// afterExchange returns the phase after the answer to an exchange.
func (p phase) afterExchange(h happening) phase {
	switch h {
	case foundNothing:
		if p == taking {
			return idle
		}
		return ready // The channel key was not looked at.
	case foundDelivered:
		return partial
	case foundSome:
		if p == looking {
			return ready
		}
		return idle
	case foundBatch:
		return partial
	case writesRejected:
		return stuck
	case healed:
		return ready
	}
	return p
}

// mailbox is the known state of this node's messages on a host. The type does no I/O.
// See docs/decisions/layout.md#why-are-phases-explicit-types
type mailbox struct {
	phase phase
	// changed: the channel key may have changed since the last RENAME.
	changed bool
	// delivered is the number of delivered messages at the head of the in-flight key, and first is the first message.
	delivered int
	first     []byte
	// batch is the number of messages to ask for.
	batch int
	// more: messages were expected behind the delivered messages.
	more bool
	// taken is the number of messages read since the channel key was last taken.
	taken int
}

// happen changes the phase.
func (m *mailbox) happen(h happening) {
	m.changed = m.changed || h == notified
	if h == connected && m.delivered > 0 {
		h = connectedInFlight
	}
	m.phase = m.phase.after(h)
	if m.phase == idle && m.changed {
		m.phase = ready
	}
}

// readable reports whether the next step is an exchange.
func (m *mailbox) readable() bool { return m.phase == ready || m.phase == partial || m.phase == unsure }

// begin returns the commands of the next exchange: change, which is nil if the exchange only looks, and read.
func (m *mailbox) begin(channelKey, inflightKey string) (change, read []string) {
	switch m.phase {
	case ready:
		m.changed = false // From here on a notification counts: the message may come after the RENAME.
		change = []string{"RENAME", channelKey, inflightKey}
	case partial:
		change = []string{"ZREMRANGEBYRANK", inflightKey, "0", strconv.Itoa(m.delivered - 1)}
	}
	m.happen(began)
	return change, []string{"ZRANGE", inflightKey, "0", strconv.Itoa(m.batch - 1), "WITHSCORES"}
}

// found is the result of an exchange.
type found struct {
	// deliver: the batch is new.
	deliver bool
	// first: the batch is the first since the RENAME.
	first bool
	// last: all messages that were taken have been read. gone: there was none left where more were expected.
	last, gone bool
	// settled: no message waits.
	settled bool
}

// end takes the answer to an exchange: whether the channel key was renamed, and pairs of message and score.
func (m *mailbox) end(renamed bool, batch [][]byte) (f found) {
	asked, n := m.phase, len(batch)/2
	switch {
	case asked == looking && n > 0 && m.delivered > 0 && bytes.Equal(batch[0], m.first):
		m.happen(foundDelivered)
		if !m.more { // All messages that were taken had been read.
			m.taken = 0
		}
		m.more, m.changed = true, true
		return found{}
	case n == 0, asked == taking && !renamed: // Without a RENAME, messages in flight were delivered before.
		f.last, f.gone, m.more = m.more, m.more, false
		m.happen(foundNothing)
		f.settled = m.phase == idle
		return f
	}
	f.deliver = true
	f.first = asked != dropping
	m.delivered, m.first = n, bytes.Clone(batch[0])
	if f.first {
		m.taken = 0
	}
	m.taken += n
	m.changed = m.changed || asked == looking
	if m.more = n == m.batch; m.more {
		m.happen(foundBatch)
	} else {
		m.happen(foundSome)
		f.last = true
	}
	f.settled = f.last && renamed
	return f
}

// resize adapts the size of the next batch to the size of the last batch in bytes.
func (m *mailbox) resize(size int) {
	if size > batchBytesMax {
		m.batch = max(1, m.batch/2)
	} else {
		m.batch = min(batchMax, 2*m.batch)
	}
}

// dropped notes that the delivered messages are no longer in flight.
func (m *mailbox) dropped() { m.delivered, m.first, m.more = 0, nil, false }

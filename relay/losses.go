package relay

import "fmt"

// LossCause is why clients did not get events that emitters had published. The names of the causes are labels of a
// metric.
type LossCause uint8

// The causes of losses that a relay can know of.
const (
	// LossMembership is a membership that had vanished from the channel layer until it was restored.
	LossMembership LossCause = iota
	// LossMailboxFull is a mailbox that held as many messages as it may: emitters drop further ones.
	LossMailboxFull
	// LossMailboxExpired is a mailbox that was not read for so long that messages expired in it.
	LossMailboxExpired
	// LossMailboxReplaced is a mailbox whose key held another type, so that emitters could not write to it.
	LossMailboxReplaced
	// LossInterrupted is a broken connection to a channel layer that keeps nothing.
	LossInterrupted
	// LossLateJoin is a subscription that was answered before the channel layer had taken the membership.
	LossLateJoin
	// LossFailover is a change of the Redis master, which can lose writes that were confirmed.
	LossFailover
	// LossDeadNode is messages that a dead node had not read.
	LossDeadNode
	// LossShutdown is messages that were unread when this node left the channel layer.
	LossShutdown
	// LossPeerQueue is events dropped from the queue for a peer: it was full, or the connection ended.
	LossPeerQueue
	// LossPeerLink is a connection over which a peer sent events, and which has ended.
	LossPeerLink
	// LossPeer is a loss that a peer tells of.
	LossPeer
	// LossPluginSlow is a full queue of events for plugins.
	LossPluginSlow
	// LossPluginWithheld is an event that a plugin could not process.
	LossPluginWithheld
	// LossNotUTF8 is a text that no browser takes.
	LossNotUTF8
	// LossSlowReader is a client that was closed because it read too slowly.
	LossSlowReader
	// LossMemory is a client that was closed because memory was short.
	LossMemory

	// LossCauseCount is how many causes there are.
	LossCauseCount
)

var lossNames = [...]string{
	LossMembership:      "membership_restored",
	LossMailboxFull:     "mailbox_full",
	LossMailboxExpired:  "mailbox_expired",
	LossMailboxReplaced: "mailbox_replaced",
	LossInterrupted:     "interrupted",
	LossLateJoin:        "late_join",
	LossFailover:        "failover",
	LossDeadNode:        "dead_node",
	LossShutdown:        "shutdown",
	LossPeerQueue:       "peer_queue",
	LossPeerLink:        "peer_link",
	LossPeer:            "peer",
	LossPluginSlow:      "plugin_slow",
	LossPluginWithheld:  "plugin_withheld",
	LossNotUTF8:         "not_utf8",
	LossSlowReader:      "slow_reader",
	LossMemory:          "memory",
}

// String is the cause's name.
func (c LossCause) String() string { return lossNames[c] }

// Loss is events that clients of this node did not get, or may not have got.
type Loss struct {
	Cause LossCause
	// Groups are those whose events are lost; with All, every group is concerned.
	Groups []string
	All    bool
	// Events is how many are lost, 0 if that is not known.
	Events int
}

// String says in one line how much is lost.
func (l Loss) String() string {
	groups := "all groups"
	switch {
	case l.All:
	case len(l.Groups) == 0:
		groups = "unknown groups"
	case len(l.Groups) == 1:
		groups = l.Groups[0]
	default:
		groups = fmt.Sprintf("%d groups", len(l.Groups))
	}
	switch l.Events {
	case 0:
		return fmt.Sprintf("events of %s may have been lost (%s)", groups, l.Cause)
	case 1:
		return fmt.Sprintf("1 event of %s was lost (%s)", groups, l.Cause)
	}
	return fmt.Sprintf("%d events of %s were lost (%s)", l.Events, groups, l.Cause)
}

// LossSink is a [Sink] that makes losses known.
type LossSink interface {
	// Lost counts a loss, logs it, and tells the clients concerned. It does not block, and keeps the groups.
	Lost(l Loss)
}

// ReportLoss makes a loss known if the sink can do that.
func ReportLoss(to Sink, l Loss) {
	if s, ok := to.(LossSink); ok {
		s.Lost(l)
	}
}

// LossTeller is a [Backplane] that passes losses on.
type LossTeller interface {
	// LayerLost hears of events that were lost before they reached this node from its channel layer.
	LayerLost(l Loss)
}

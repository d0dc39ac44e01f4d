package relay

import "fmt"

// LossCause is the reason for which clients missed events that emitters had published. The causes' names are label
// values of a metric.
type LossCause uint8

// The causes of losses that a relay can detect.
const (
	// LossMembership is a membership that had disappeared from the channel layer until it was restored.
	LossMembership LossCause = iota
	// LossMailboxFull is a full mailbox: emitters drop further messages.
	LossMailboxFull
	// LossMailboxExpired is a mailbox that was not read until messages expired.
	LossMailboxExpired
	// LossMailboxReplaced is a mailbox key that held another type, so that emitters could not write.
	LossMailboxReplaced
	// LossInterrupted is a broken connection to a channel layer that stores nothing.
	LossInterrupted
	// LossLateJoin is a subscription that was confirmed before the channel layer had taken the membership.
	LossLateJoin
	// LossFailover is a change of the Redis master, which can lose confirmed writes.
	LossFailover
	// LossDeadNode is the unread messages of a dead node.
	LossDeadNode
	// LossShutdown is the messages that were unread when this node left the channel layer.
	LossShutdown
	// LossPeerQueue is events that were dropped from a peer's queue, because the queue was full or the link ended.
	LossPeerQueue
	// LossPeerLink is the end of a link over which a peer sent events.
	LossPeerLink
	// LossPeer is a loss that a peer reports.
	LossPeer
	// LossPluginSlow is a full queue of events for plugins.
	LossPluginSlow
	// LossPluginWithheld is an event that a plugin could not process.
	LossPluginWithheld
	// LossReclassified is an event for an audience class, withheld from clients whose class was being decided again.
	LossReclassified
	// LossNotUTF8 is a text that is not UTF-8, for which browsers would close the connection.
	LossNotUTF8
	// LossUndecodable is a message of a type for routes that cannot become a JSON object.
	LossUndecodable
	// LossSlowReader is a slow consumer that was disconnected: it took too little of its queue for too long.
	LossSlowReader
	// LossMemory is a client that was disconnected because memory was short.
	LossMemory
	// LossOverrun is events that were queued for a client, and dropped because it could not take all: the client stays
	// connected.
	LossOverrun
	// LossOperator is a gap that an operator has announced.
	LossOperator

	// LossCauseCount is the number of causes.
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
	LossReclassified:    "reclassified",
	LossNotUTF8:         "not_utf8",
	LossUndecodable:     "undecodable",
	LossSlowReader:      "slow_reader",
	LossMemory:          "memory",
	LossOverrun:         "overrun",
	LossOperator:        "operator",
}

// String returns the cause's name.
func (c LossCause) String() string { return lossNames[c] }

// Loss is a set of events that clients of this node missed or may have missed.
type Loss struct {
	Cause LossCause
	// Groups are the groups of the lost events. With All set, every group is concerned.
	Groups []string
	All    bool
	// Events is the number of lost events, 0 if unknown.
	Events int
	// Position is the position of the only event that was lost, zero if unknown.
	Position Position
	// Pending is set if the events may still arrive, in order: clients are told, and the history is not marked.
	Pending bool
}

// String describes the loss in a single line.
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

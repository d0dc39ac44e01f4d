// Package backplane connects this node to others that have channel layers of their own, relays and Python nodes
// of both AWX generations alike, so that an event emitted on any node reaches the clients of every node once.
//
// # Dialects
//
// A connection speaks one of three, each in its own file:
//
//   - broadcast (broadcast.go), AWX 9 to 21: who is dialled sends every event, who dials reads.
//   - relay (taskrelay.go), AWX 22 and later: the task node dials, asks for nothing and sends the groups that the dialled
//     web node's clients want.
//   - edgerelay.v1 (v1.go), between two relays, agreed as a websocket subprotocol: both ways, batched, only wanted groups.
//
// # Exactly once
//
// Only events that this node's own emitters put into its layer travel (tap.go): those marked needs_relay, and those
// that are wrapped in the group broadcast-group_send. What a peer sent goes to local clients and no further.
// A peer on the same layer is neither sent to nor listened to: relays tell each other the identity of their layer
// (layer.go), Python nodes are found out by a probe (probe.go). Of several nodes with the same foreign layer
// a relay listens to one (layer.go).
package backplane

// Package backplane connects this node to nodes that have channel layers of their own: relays, and Python nodes of both
// AWX generations. An event emitted on any node reaches the clients of every node once.
//
// [New] returns a [Backplane], and [Backplane.Serve] accepts links from peers. A [Discovery] finds the peers to dial.
//
// # Dialects
//
// A link speaks one of three dialects, each in a file of its own:
//
//   - broadcast (broadcast.go), AWX 9 to 21: the dialed node sends every event, the dialing node reads.
//   - relay (taskrelay.go), AWX 22 and later: the task node dials, subscribes to nothing, and sends the groups that
//     clients of the dialed web node subscribe.
//   - edgerelay.v1 (v1.go), between two relays, negotiated as a WebSocket subprotocol: both directions, batched, only
//     subscribed groups.
//
// # Exactly once
//
// Only events that this node's own emitters publish travel (tap.go): events marked needs_relay, and events wrapped in
// the group broadcast-group_send. An event from a peer goes to local clients and no further.
//
// Peers on the same layer exchange no events. Relays announce the identity of their layer (layer.go); Python nodes are
// probed (probe.go). Of several nodes with the same foreign layer, one is the source (layer.go).
//
// The life of a link, from the handshake to its end, is the type phase (phase.go).
package backplane

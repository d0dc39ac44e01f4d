// Package relay is the seam of edgerelay: the types and interfaces through which the engine, in package relay/hub,
// meets everything around it. An edge node takes events from a channel layer and writes them to the clients that are
// subscribed to their groups. The package imports the standard library only, and is the one package with a stability
// promise.
//
// A channel layer implements [Broker] and delivers each [Event] to a [Sink], the engine. An [Authorizer] identifies
// clients and decides about groups. A transport provides a [Socket] per client; the client's protocol uses its
// [Session], and speaks for the engine as a [Protocol]. An [Interceptor] runs plugins, and a [Backplane] connects nodes
// through [Node]. Optional interfaces are in one file, optional.go, which explains their absence.
//
// # The path of one event
//
//  1. An emitter calls channel_layer.group_send, which puts a message into this node's channel key in Redis. The layer
//     reads and decodes it (layer/redis) and calls Deliver of the [Sink].
//  2. Deliver (hub/deliver.go) also takes the events of peers (backplane) and of other layers. It calls listeners
//     (hub/listen.go), then the [Interceptor], which takes each event through the plugins of its group, once.
//  3. The encoder (hub/encode.go) turns the batch into shared buffers of frames, once for all clients, and queues them
//     on each shard with subscribers (hub/queue.go). A full queue blocks Deliver, so that events stay in the layer.
//  4. The shard's worker (hub/shard.go) collects the jobs of each session (hub/gather.go), and hands them to its
//     [Socket] in one piece.
//  5. Send (transport/ws) writes with one system call that does not block. Bytes that a full socket does not take are
//     queued, up to a limit; beyond it, the client is a slow consumer and is disconnected (hub/misses.go).
//
// # The path of one subscription
//
//  1. The poller (transport/netpoll) wakes a connection when bytes arrive, and package transport/ws reads the message.
//  2. The protocol (protocol/awx) parses it and calls Authorize of the [Session] for each group (hub/subscribe.go): the
//     [Authorizer] decides, and the [Interceptor] selects the audience class.
//  3. Subscribe (hub/subscribe.go) joins new groups in the channel layer and announces them to peers (hub/interest.go),
//     and adds the session to its shard's audiences (hub/shard.go, hub/audience.go).
//
// # The path of one recheck
//
// The scheduler (hub/logins.go) keeps the logins of open sessions in the order of their last recheck, and begins
// rechecks at an even pace. Each recheck asks the [Authorizer] about the login and the groups of its sessions, and ends
// those that are no longer allowed (hub/recheck.go). Sessions without a certain result for too long are closed
// (hub/grace.go).
package relay

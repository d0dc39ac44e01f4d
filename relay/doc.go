// Package relay is the seam of edgerelay: the types and interfaces between the engine, in package relay/hub, and
// everything around the engine. An edge node takes events from a channel layer and writes each event to the clients
// subscribed to its group. The package imports the standard library only, and is the one package with a stability
// promise.
//
// A channel layer implements [Broker] and delivers each [Event] to a [Sink], the engine. An [Authorizer] identifies
// clients and decides about groups. A transport provides a [Socket] per client; the client's protocol uses a [Session],
// and speaks for the engine as a [Protocol]. An [Interceptor] runs plugins, and a [Backplane] connects nodes through
// [Node]. All optional interfaces are in optional.go, with the effect of their absence.
//
// # The path of one event
//
//  1. An emitter calls channel_layer.group_send, which puts a message into this node's channel key in Redis. The layer
//     reads and decodes the message (layer/redis) and calls Deliver of the [Sink].
//  2. Deliver (hub/deliver.go) also takes the events of peers (backplane) and of other layers. It calls listeners
//     (hub/listen.go), then the [Interceptor], which takes each event through the plugins of its group, once. Events
//     that a plugin emits from a timer begin here.
//  3. The encoder (hub/encode.go) turns the batch into buffers of frames that all clients share, and queues the buffers
//     on each shard with subscribers (hub/queue.go). A full queue blocks Deliver, so that events stay in the layer.
//  4. The shard's worker (hub/shard.go) collects the jobs of each session (hub/gather.go), and hands the frames to the
//     session's [Socket] in a single piece.
//  5. Send (transport/ws) writes with a single system call that does not block. Bytes that a full socket does not take
//     are queued, up to a limit. Beyond the limit, the client is a slow consumer and is disconnected (hub/misses.go).
//
// # The path of one subscription
//
//  1. The poller (transport/netpoll) wakes a connection when bytes arrive, and package transport/ws reads the message.
//  2. The protocol (protocol/awx) parses the message and calls Authorize of the [Session] for each group
//     (hub/subscribe.go): the [Authorizer] decides, and the [Interceptor] selects the audience class.
//  3. Subscribe (hub/subscribe.go) joins new groups in the channel layer and announces the groups to peers
//     (hub/interest.go), and adds the session to the shard's audiences (hub/shard.go, hub/audience.go).
//
// # The path of one recheck
//
// The scheduler (hub/logins.go) keeps the logins of open sessions in the order of their last recheck, and begins
// rechecks at an even pace. Each recheck asks the [Authorizer] about the login and the groups of its sessions. Sessions
// and subscriptions that are no longer allowed end (hub/recheck.go); the [Interceptor] classifies the others again. A
// change of its rules does the same for all subscriptions at once (hub/reclassify.go). Sessions without a certain result for too long are
// closed (hub/grace.go).
package relay

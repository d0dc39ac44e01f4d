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
//  2. Deliver (hub/deliver.go) also takes the events of peers (backplane) and of other layers. The [History] records
//     the events and gives them positions, unless the layer has done so. Deliver calls listeners
//     (hub/listen.go), then the [Interceptor], which takes each event through the plugins of its group, once. Events
//     that a plugin emits from a timer begin here.
//  3. The encoder (hub/encode.go) turns the batch into buffers of frames that all clients share, and queues the buffers
//     on each shard with subscribers (hub/queue.go). If there are any, further passes make the frames for clients that
//     get positions (hub/variants.go), and for the clients of each [Format] (hub/formatencode.go). A full queue blocks
//     Deliver, so that events stay in the layer.
//  4. The shard's worker (hub/shard.go) collects the jobs of each session (hub/gather.go), and hands the frames to the
//     session's [Socket] in a single piece.
//  5. Send (transport/outgoing) writes with a single system call that does not block. Bytes that a full socket does not
//     take are queued, up to a limit. Beyond the limit, the client loses queued events and is told (hub/overrun.go). A
//     client that stays behind is a slow consumer and is disconnected (hub/misses.go).
//
// # The path of one subscription
//
//  1. The poller (transport/netpoll) wakes a connection when bytes arrive, and package transport/ws reads the message.
//  2. The protocol (protocol/awx) parses the message and calls Authorize of the [Session] for each group
//     (hub/subscribe.go): the [Authorizer] decides, and the [Interceptor] selects the audience class.
//  3. Subscribe (hub/subscribe.go) joins new groups in the channel layer and announces the groups to peers
//     (hub/interest.go), and adds the session to the shard's audiences (hub/shard.go, hub/audience.go).
//
// # The path of one resume
//
// A client that has called OptIn of its [Session] begins after the response to its message (SendChange,
// hub/pending.go). If it resumes:
//
//  1. It waits for the next wave of its group (hub/resumes.go): all clients that wait share one Read of the [History].
//     From then on, each shard records the jobs that it writes to the group (hub/eventlog.go).
//  2. The events go through the plugins ([Replayer]), and are rendered once for each class (hub/wave.go,
//     hub/rendering.go).
//  3. Under the lock of the shard's round, the client gets its answer, the recorded events that are not in the replay,
//     and enters the audience (hub/release.go). A large replay is sent as fast as the client reads.
//  4. Events of the replay that reach the node again are kept from the client (hub/settlement.go).
//
// Losses become gaps for clients that are there, and marks in the history for those that are away (hub/gaps.go). A
// group with history stays joined for a while after its last client (hub/linger.go).
//
// # The path of one recheck
//
// The scheduler (hub/logins.go) keeps the logins of open sessions in the order of their last recheck, and begins
// rechecks at an even pace. Each recheck asks the [Authorizer] about the login and the groups of its sessions. Sessions
// and subscriptions that are no longer allowed end (hub/recheck.go); the [Interceptor] classifies the others again. A
// change of its rules does the same for all subscriptions at once (hub/reclassify.go). Sessions without a certain
// result for too long are closed (hub/grace.go).
package relay

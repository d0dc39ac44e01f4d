// Package relay is the core of edgerelay: it takes events from a channel layer
// and writes them to the websockets of the clients that subscribed to their groups.
// The package is the seam between the engine (package hub) and all that surrounds it; it uses the standard library only: everything that speaks to the outside
// (Redis, websockets, AWX's HTTP API, peers, plugins) sits behind a small interface.
//
// # The path of one event
//
//  1. A Python emitter calls channel_layer.group_send. The event lands in this node's
//     channel key in Redis. receive (layer/redis/receive.go) takes the waiting messages in one
//     round trip, in order, and decodes them (internal/asgi/message.go).
//  2. The batch goes to Hub.Deliver (hub/deliver.go), as does what comes from peers
//     (package backplane) and from the memory layer.
//  3. The [Interceptor], if any, takes each event through the plugins of its group, once (package
//     internal/lanes), and gives back what is to be delivered.
//  4. fill (hub/deliver.go) encodes the batch into shared buffers of websocket frames (frame.go), once
//     for all clients, and queues them on each shard that has clients of their groups (hub/queue.go).
//  5. The shard's worker (hub/shard.go) collects what waits for each of its sessions (hub/gather.go), and
//     hands it to the session's [Socket] in one piece.
//  6. Send (ws/conn.go) writes it with one system call that does not block. What a full
//     socket does not take waits in that session's own queue, up to a limit.
//
// # The path of one subscription
//
// ws wakes a connection when something comes (transport/netpoll, ws/read.go) and reads its frames;
// package awx understands and authorizes the message (awx/client.go), and it becomes Hub.Subscribe (hub/subscribe.go): the group is joined in the channel layer if this node was
// not yet a member, and made known to peers (hub/interest.go), then the session is added to its shard's audience (hub/shard.go).
//
// # The path of one recheck
//
// hub/logins.go keeps the logins of open sessions in the order of their last check and lets them pass at an even pace;
// hub/recheck.go asks the [Authorizer] about each, and about the groups of its sessions, and ends what the user may not
// have any more; hub/grace.go ends what could not be checked for too long. Package awx asks AWX's HTTP API, through the
// queue in internal/fairqueue (awx/queue.go).
package relay

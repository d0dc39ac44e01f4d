// Package relay is the core of edgerelay: it takes events from a channel layer
// and writes them to the websockets of the clients that subscribed to their groups.
// It uses the standard library only; everything that speaks to the outside
// (Redis, websockets, AWX's HTTP API, peers, plugins) sits behind a small interface.
//
// # The path of one event
//
//  1. A Python emitter calls channel_layer.group_send. The event lands in this node's
//     channel key in Redis. drain (redis/drain.go) pops all that waits there in one
//     round trip, in order, and decodes it (redis/message.go).
//  2. The batch goes to [Hub.Deliver] (deliver.go), as does what comes from peers
//     and from the memory layer.
//  3. The [Interceptor], if any, filters and transforms each event once (deliver.go).
//  4. Events of one group are encoded into one shared buffer of websocket frames,
//     once for all clients (frame.go), and queued on each shard that has clients of it.
//  5. Each shard's worker (shard.go) joins what waits for a group and hands the buffer
//     to every subscribed session's [Socket].
//  6. [ws.Conn.Send] (ws/conn.go) writes it with one non-blocking system call. What a full
//     socket does not take waits in that session's own queue, up to a limit.
//
// # The path of one subscription
//
// A client frame is read by ws, understood and authorized by package awx, and becomes
// [Hub.Subscribe] (subscribe.go): the group is joined in the channel layer if this node was
// not yet a member (interest.go), then the session is added to its shard's audience.
//
// [ws.Conn.Send]: https://pkg.go.dev/github.com/edgerelay/edgerelay/relay/ws#Conn.Send
package relay

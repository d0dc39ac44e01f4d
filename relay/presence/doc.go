// Package presence knows the users in a group: the users with at least one connection, on any node of a channel layer.
//
// A user with several connections, on several nodes, counts once. The first connection is announced as a join. After
// the last connection the user stays for a grace period, so that a reconnect is not noticed, and then leaves. Each node
// renews a lease; the users of a node that was killed leave when its lease has ended.
//
// # How a connection becomes an announcement
//
//  1. [Tracker.Enter] and [Tracker.Leave] change the node's own list and return (tracker.go). They never block.
//  2. The goroutine of the group's shard (shard.go) writes changes to the [Store] in batches. The store is in the
//     process ([Memory]) or beside the channel layer ([Redis]). It decides in one step what a change means for the
//     group, and puts joins and leaves into an outbox.
//  3. The node that made the change publishes the announcement as a message of the group (announce.go), and then
//     removes it from the outbox. If the node dies in between, another node publishes the announcement.
//  4. Webhooks wait in a queue of the store, from which one node at a time sends them in order (webhooks.go).
//
// Every second each node tends its shards: it renews its lease, ends grace periods, takes over announcements of dead
// nodes and releases their users.
//
// # Faults
//
// The node's own list is the truth about its connections. After a fault it is compared with the store. See
// docs/decisions/presence.md.
package presence

// Package hub is the engine of edgerelay. [New] returns a [Hub], which holds the sessions of a node and writes each
// event to the sessions subscribed to its group. The documentation of package relay follows an event, a subscription
// and a recheck through the files.
//
// Files by job:
//
//   - Fan-out: deliver, encode, queue, shard, audience, gather, resync, lag, misses, journey
//   - Sessions: admission, session, subscribe, keepalive, pressure, drain
//   - Rechecks: authority, logins, recheck, recheckpending, reclassify, grace
//   - Membership: broker, interest, listen
//   - Inspection: stats, losses, sessions, groups, tail, top
package hub

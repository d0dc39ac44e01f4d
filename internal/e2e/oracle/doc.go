// Package oracle has clients that resume by positions, and an oracle that judges whether any of them misses an event
// without being told. Tests import it that run faults against relays.
//
// Emitters publish numbered events {"emitter": "a", "group": 3, "n": 17} to groups such as job_events-3, and report
// each to the [Oracle]. A [Client] keeps its groups over all reconnects, by any [Door]: WebSockets, event streams or
// long polls. At the end, [Client.Judge] compares the client's events with the reports: each event arrives once and in
// order, or the client was told of a gap.
//
//   - oracle.go knows the published events, and counts
//   - record.go judges a client's view of a group
//   - client.go is a client, written from the documentation of the protocol
//   - doors.go has the connections of clients
package oracle

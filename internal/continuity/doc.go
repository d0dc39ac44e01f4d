// Package continuity tests that no client misses an event without being told. All of it is test code; this file
// explains the parts.
//
// Emitters of the real channels_redis, with clocks that differ, publish numbered events, and report which of them Redis
// took. Clients that opt in to positions reconnect at random, and as often as their node dies. An oracle beside the
// relays compares each client's events with the emitters' reports: each event arrives once and in order, or the client
// was told of a gap.
//
//   - continuity_test.go has the scenes
//   - site_test.go runs nodes, Redis and faults
//   - emitter_test.go runs the emitters of testdata/emitter.py
//
// Package oracle has the clients and judges.
//
// `make test` runs the scenes in short, and `make continuity` at full length.
package continuity

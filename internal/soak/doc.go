// Package soak lets a relay live through a hard time, in one command and for as long as one likes (make soak): clients come and go,
// some do not read, events flow, configurations and plugins are exchanged, Redis and neighbours end and come back. In the end
// everything is back where it was, and every event is accounted for. It is all test; this file is its explanation. Without the build tag
// soak there is but endurance_test.go, which has the benchmark program's long runs in short.
//
//   - ledger_test.go keeps account of the events
//   - traffic_test.go publishes and listens
//   - trouble_test.go makes the trouble
//   - vitals_test.go takes the relay's measures
//   - soak_test.go puts these together
package soak

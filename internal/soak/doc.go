// Package soak runs a relay under faults for as long as wanted and then accounts for everything. All of it is test
// code; this file explains the parts.
//
// Under the build tag soak, which `make soak` sets, every feature of the product is at work. Meanwhile configurations,
// modules and canaries change, two Redis servers restart, nodes stop or die and links break. Each feature is a part
// with a judge of its own, and counts its work: a part that did nothing fails the test. In between, the relay rests,
// and must hold as much as before.
//
//   - soak_test.go runs the whole; parts_test.go says what a part is, rest_test.go what a rest
//   - site_test.go starts the nodes and servers, hooks_test.go the sites that nodes call
//   - trouble_test.go injects the faults, with drain_test.go; fault_test.go checks that a failure names them
//   - plain_test.go, traffic_test.go and ledger_test.go account for the events of AWX's protocol
//   - positions_test.go has clients that resume by every door: on histories in Redis and in memory, on routes, and
//     across the backplane; publisher_test.go publishes by HTTP
//   - functions_test.go, alarms_test.go and once_test.go check the state, alarms and requests of functions
//   - talkers_test.go has routes with tokens and presence, backend_test.go a site that answers messages
//   - deploys_test.go deploys signed modules and canaries
//   - operators_test.go reads and acts as operators do
//   - vitals_test.go measures the relay
//
// Without the tag there are two endurance tests, churn_test.go and day_test.go. endurance_test.go fails them when
// memory, goroutines, files or Redis keys grow. `make test` runs them in short and `make endurance` at full length.
package soak

// Package soak runs a relay under faults for as long as wanted and then accounts for everything. All of it is test code;
// this file explains the parts.
//
// Under the build tag soak, which `make soak` sets, clients come and go, some of them read slowly, configurations and
// plugins are replaced, and Redis and neighbor nodes stop and restart. At the end the relay holds as much as before, and
// every published event is accounted for.
//
//   - soak_test.go runs the whole
//   - traffic_test.go publishes events and receives them
//   - trouble_test.go injects the faults
//   - ledger_test.go accounts for the events
//   - vitals_test.go measures the relay at rest
//
// Without the tag there are two endurance tests, churn_test.go and day_test.go. endurance_test.go fails them when memory,
// goroutines, files or Redis keys grow. `make test` runs them in short and `make endurance` at full length.
package soak

// Package mesh tests relays with a Redis each on a network that misbehaves. All of it is test code; this file explains
// the parts.
//
//   - wire joins network namespaces by a switch with rules
//   - site runs nodes, emitters and clients in them
//   - judge compares what was sent with what was received
//   - result is the outcome of a scenario, table a command that writes outcomes into the documentation
//   - the tests of this package are the scenarios
//
// `make test` runs the short scenarios where namespaces can be made, `make mesh` runs all, as root. Environment
// variables:
//
//   - MESH=full runs all scenarios, and fails where namespaces cannot be made
//   - MESH_RESULTS=file appends a row for each scenario: a line of JSON if the name ends in .json, else of a Markdown
//     table
//   - MESH_LABEL names the version under test in the rows
//   - MESH_OTHER is another Caddy with the module; nodes of both run together in the scenarios of mixed versions
//   - MESH_LOGS is a folder for the logs of the relays
package mesh

// Package site runs a mesh of real nodes for tests, on a network that misbehaves. Each node has a network namespace
// with a Redis, a relay in the real Caddy, an emitter of channels_redis and some clients, which record each event and
// each notice of a loss. Package judge evaluates the records.
//
// Everything ends with the test. The package needs root.
package site

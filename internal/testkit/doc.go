// Package testkit is the common kit of all tests for waiting, free ports, TCP proxies and log buffers. Package process
// starts programs, and package wstest has WebSocket clients.
//
// The kit imports nothing of this module, so that the tests of every package can use it.
package testkit

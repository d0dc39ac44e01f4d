// Package testkit is the tests' one kit for waiting, free ports and TCP proxies. Package process below it starts
// programs; package wstest is the WebSocket client.
//
// The kit imports nothing of this module, so that the tests of every package can use it.
package testkit

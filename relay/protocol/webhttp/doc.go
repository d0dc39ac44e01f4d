// Package webhttp implements WebSocket-over-HTTP and the WebSocket part of GRIP, the protocols of Pushpin and Fastly
// (https://pushpin.org/docs/protocols/): a backend without WebSockets answers the events of a client's WebSocket as
// HTTP requests, and publishes to channels by HTTP.
//
// [ParsePublish] and [AuthenticatePublisher] are for the endpoint at which backends publish. Items travel as messages
// of the type [ItemType] through the groups that [Group] names.
package webhttp

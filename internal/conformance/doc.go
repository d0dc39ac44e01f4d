// Package conformance tests the relay in a real Caddy against RFC 6455, over plain TCP and over TLS. The tests send
// single frames, valid and invalid, and compare each byte of the responses.
//
// The cases have numbers of our own, in the categories that the Autobahn test suite uses:
//
//	1   framing        lengths of 7, 16 and 64 bits in both directions, in pieces of any size; masks
//	2   pings, pongs   payloads, order, unasked pongs, the server's own pings, a flood
//	3   reserved bits  each of them, in every kind of frame
//	4   opcodes        all that are not defined
//	5   fragmentation  with control frames between, out of place, empty, one byte each
//	6   UTF-8          every boundary of the encoding, whole and split at every byte; failing at the first wrong byte
//	7   close          codes, reasons, what follows a close, half-closed connections
//	9   limits         the longest message, and longer ones, whole, in fragments and merely announced
//	10  handshake      the RFC's own example, frames that come with it, header forms
//	12  compression    offers and their answers; compressed messages of clients, valid and invalid (RFC 7692)
//	13  agreements     events in the forms that each agreement permits
//
// Category 9 of Autobahn (throughput) has no counterpart: bench measures throughput. The relay is no echo server. The
// response to a subscription has the name of the group, and the response to other text is an error that describes the
// text. TestAutobahn runs the suite itself, against an echo server over package ws. clients_test.go has browsers and
// libraries that decode shared compressed messages.
package conformance

// Package channels serves the clients of routes: pages of any Django Channels site. A [Route] decides which frames its
// clients get, by rules per message type (rule.go), and what becomes of their messages (client.go).
//
// A route's frames are byte for byte those of a Python consumer that calls json.dumps: members of events are copied as
// the channel layer wrote them.
package channels

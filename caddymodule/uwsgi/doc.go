// Package uwsgi is the reverse_proxy transport "uwsgi" (http.reverse_proxy.transport.uwsgi): Caddy speaks the
// uwsgi protocol to the ordinary socket of a uWSGI server, as nginx does with uwsgi_pass. [Transport] is its
// entry point.
//
// One request goes through these steps:
//
//  1. environ.go makes the CGI variables, packet.go encodes them.
//  2. request.go reads the whole request body, into memory and then into a file, before a worker is occupied.
//  3. exchange.go dials, sends variables and body, and reads the answer. From then on the request is never sent again.
//  4. head.go parses the head of the answer, body.go finds where its body ends.
//  5. spool.go takes the body from the worker as fast as it comes, and holds what the client has not taken yet.
package uwsgi

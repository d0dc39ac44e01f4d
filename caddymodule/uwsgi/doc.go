// Package uwsgi is the reverse_proxy transport "uwsgi" (http.reverse_proxy.transport.uwsgi): Caddy speaks the
// uwsgi protocol to the ordinary socket of a uWSGI server, like nginx's uwsgi_pass. The entry points are [Transport]
// for sites and [Direct] for requests of the process itself.
//
// A request goes through these steps:
//
//  1. environ.go builds the CGI variables, and packet.go encodes the variables.
//  2. request.go reads the whole request body, into memory and then into a file, before a worker is occupied.
//  3. exchange.go dials, sends the variables and the body, and reads the response. After the dial, the request is never
//     sent again.
//  4. head.go parses the head of the response, and body.go finds the end of the body.
//  5. spool.go reads the body as fast as the worker sends, and buffers the part that the client has not received yet.
package uwsgi

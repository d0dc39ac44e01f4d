package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/httpstream"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// serveConnect serves an extended CONNECT: a WebSocket over a stream of HTTP/2 (RFC 8441) or HTTP/3 (RFC 9220). The
// next handler serves other paths, and other protocols of paths that are not the relay's. Unlike ServeHTTP for
// HTTP/1.1, it returns when the WebSocket of HTTP/2 has ended.
func (h *Handler) serveConnect(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	_, peer := h.matchPeer(r)
	route, routed := h.matchRoute(r)
	routed = routed && route.route.servesSockets()
	if !peer && !routed && !h.matches(r) {
		return next.ServeHTTP(w, r)
	}
	if err := h.checkConnect(r, peer); err != nil {
		// RFC 9220 section 3 names the status for a protocol that the server does not know.
		h.reject(w, r, rejection{
			http.StatusNotImplemented, reject.ConnectRejected, request.ClientAddress(r), err.Error(), err,
		})
		return nil
	}
	if !h.awaitConfig(w, r) {
		return nil
	}
	o := httpstream.Options{
		Open: func(w http.ResponseWriter) (httpstream.Stream, error) { return openStream(w, r) },
		Set:  h.app.streams, Cut: cutOf(r),
	}
	h.tuneConnection(r)
	httpstream.Serve(w, o, func(w http.ResponseWriter) {
		if routed {
			h.upgradeRoute(w, r, route)
		} else {
			h.upgrade(w, r)
		}
	})
	return nil
}

// awaitConfig waits for a configuration. If there is none, it answers the request and returns false.
func (h *Handler) awaitConfig(w http.ResponseWriter, r *http.Request) bool {
	err := h.app.node.AwaitConfig(r.Context())
	if err != nil {
		h.reject(w, r, rejection{
			http.StatusServiceUnavailable, reject.NotReady, request.ClientAddress(r), "relay is not ready", err,
		})
	}
	return err == nil
}

// checkConnect returns an error if the relay does not serve an extended CONNECT.
func (h *Handler) checkConnect(r *http.Request, peer bool) error {
	switch protocol := ws.ConnectProtocol(r); {
	case !strings.EqualFold(protocol, "websocket"):
		return fmt.Errorf("protocol %.20q is not served here", protocol)
	case peer:
		return errors.New("nodes connect over HTTP/1.1")
	case !h.app.config.ExtendedConnect:
		return errors.New("websockets need HTTP/1.1 here")
	}
	return nil
}

// openStream takes the stream of a request, past the wrappers of Caddy and its handlers.
func openStream(w http.ResponseWriter, r *http.Request) (httpstream.Stream, error) {
	if s, ok := w.(http3.HTTPStreamer); ok {
		return quicStream{s.HTTPStream()}, nil // flushes the header
	}
	body := r.Body
	// Caddy's timeouts of reads would reset a stream at rest.
	if idle, _ := caddyhttp.IdleTimeoutsFromContext(r.Context()); idle != nil {
		body = idle.ReadCloser
	}
	control := http.NewResponseController(w)
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && s.ReadTimeout+s.WriteTimeout > 0 {
		if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil {
			return nil, err
		}
	}
	if err := control.Flush(); err != nil {
		return nil, err
	}
	return httpstream.NewHTTP2(w, body), nil
}

// quicStream is a stream of HTTP/3.
type quicStream struct{ *http3.Stream }

// StopReading implements [httpstream.Stream].
func (s quicStream) StopReading() { s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError)) }

// Abort implements [httpstream.Stream].
func (s quicStream) Abort() {
	s.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
}

// End implements [httpstream.Stream].
func (s quicStream) End() {
	s.StopReading()
	_ = s.Close()
}

// OutlivesHandler implements [httpstream.Stream]. quic-go leaves a stream to the handler that takes it.
func (quicStream) OutlivesHandler() bool { return true }

var _ httpstream.Stream = quicStream{}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// keepConns lets a server keep the connection in the context of requests, since there may be streams over HTTP/2.
func keepConns(server *caddyhttp.Server) {
	server.RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	})
}

// cutOf returns a function that closes the TCP connection beneath a request, nil if the connection is unknown.
func cutOf(r *http.Request) func() {
	conn, ok := r.Context().Value(connKey{}).(net.Conn)
	if !ok {
		return nil
	}
	return func() { cut(conn) }
}

// tuneConnection sets the options of clients' connections on the TCP connection beneath a request by HTTP/2. With
// HTTP/1.1, responses that last take the connection over, which sets them as well. After a long poll, the connection
// stays the site's: it may carry a download that the client pauses for longer. HTTP/3 has no such connection.
func (h *Handler) tuneConnection(r *http.Request) {
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok && r.ProtoMajor == 2 {
		h.app.node.TuneConnection(conn)
	}
}

// cut closes a TCP connection without the end of TLS, which would wait for the client.
func cut(conn net.Conn) {
	for {
		beneath, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = beneath.NetConn()
	}
	_ = conn.Close()
}

const (
	// defaultStreamEviction is the time over which the streams of a former configuration are evicted.
	defaultStreamEviction = time.Hour
	// replacedReason is the reason in the close frame of such a stream.
	replacedReason = "server was reloaded; reconnect"
)

// evictStreams closes the streams that the servers of a former configuration have accepted. At the end of the process,
// the node closes them with all other connections.
// See docs/decisions/connect.md#why-does-a-reload-evict-streams-of-the-former-configuration-late
func (a *App) evictStreams() {
	if a.streams == nil || caddy.Exiting() {
		return
	}
	over := defaultStreamEviction
	if app, err := a.ctx.AppIfConfigured("http"); err == nil {
		if server, ok := app.(*caddyhttp.App); ok && server.GracePeriod > 0 {
			over = time.Duration(server.GracePeriod) * 3 / 4 // the last close needs some time, too
		}
	}
	a.streams.Evict(over, relay.CloseRestart, replacedReason)
}

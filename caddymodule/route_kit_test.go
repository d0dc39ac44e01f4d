package caddymodule

import (
	"context"
	"net/http"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
)

// dialRoute opens a WebSocket of a route, which begins without a greeting.
func (s *site) dialRoute(path string, header http.Header) *routeClient {
	s.t.Helper()
	return &routeClient{s, s.dial(path, header)}
}

// dialBinary opens a WebSocket of a route for messages of any kind.
func (s *site) dialBinary(path string) *websocket.Conn {
	s.t.Helper()
	c, _, err := websocket.Dial(s.t.Context(), "ws://"+s.addr+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// emit publishes a message of a type to a group.
func (s *site) emit(group, kind, members string) {
	s.t.Helper()
	_, err := node.Current().Hub.PublishMessage(context.Background(),
		relay.Message{Group: group, Type: kind, Text: []byte(members)})
	if err != nil {
		s.t.Fatal(err)
	}
}

// routeClient is a client of a route.
type routeClient struct {
	site   *site
	socket *wstest.Client
}

func (c *routeClient) send(text string) {
	c.site.t.Helper()
	if err := c.socket.Send(text); err != nil {
		c.site.t.Fatal(err)
	}
}

func (c *routeClient) next(want string) {
	c.site.t.Helper()
	next(c.site.t, c.socket, want)
}

// closed waits until the socket is closed with a code.
func (c *routeClient) closed(code int) {
	c.site.t.Helper()
	if text, err := c.socket.Next(patience); err == nil || wstest.CloseCode(err) != code {
		c.site.t.Errorf("%q, %v; want the close code %d", text, err, code)
	}
}

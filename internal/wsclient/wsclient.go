// Package wsclient is a WebSocket client that speaks AWX's browser protocol. The CLI uses the client to test a relay.
package wsclient

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"
)

// Client is a connection with an authenticated user. A Client is not safe for concurrent use.
type Client struct {
	conn  *websocket.Conn
	token string
}

// ErrNotLoggedIn is returned by [Dial] if the relay does not recognize the user.
var ErrNotLoggedIn = errors.New("relay rejected the user: not logged in")

// RefusedError is returned by [Dial] for a handshake with a response other than 101.
type RefusedError struct{ Status int }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("handshake rejected with status %d %s", e.Status, http.StatusText(e.Status))
}

// Dial opens a WebSocket at a URL (http, https, ws or wss) and waits until the relay has accepted the user. header has
// the headers of a browser, such as cookies; without a csrftoken cookie, Dial adds a random token. config verifies the
// relay's certificate; nil: the system's authorities. Errors are [ErrNotLoggedIn], a [RefusedError] or others.
func Dial(ctx context.Context, address string, header http.Header, config *tls.Config) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("invalid websocket address %q; use one such as ws://127.0.0.1:8013/websocket/", address)
	}
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	c := &Client{}
	for _, cookie := range (&http.Request{Header: header}).CookiesNamed("csrftoken") {
		c.token = cookie.Value
	}
	if c.token == "" {
		c.token = rand.Text()
		cookies := append(header.Values("Cookie"), "csrftoken="+c.token)
		header.Set("Cookie", strings.Join(cookies, "; "))
	}
	options := &websocket.DialOptions{HTTPHeader: header, CompressionMode: websocket.CompressionDisabled}
	if config != nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = config
		options.HTTPClient = &http.Client{Transport: transport}
	}
	conn, resp, err := websocket.Dial(ctx, u.String(), options)
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, &RefusedError{Status: resp.StatusCode}
		}
		return nil, err
	}
	conn.SetReadLimit(64 << 20)
	c.conn = conn
	greeting, err := c.Read(ctx)
	if err != nil {
		c.Close()
		return nil, err
	}
	var accepted struct{ Accept, Close bool }
	if err := json.Unmarshal(greeting, &accepted); err != nil || !accepted.Accept {
		c.Close()
		if accepted.Close {
			return nil, ErrNotLoggedIn
		}
		return nil, fmt.Errorf("unexpected greeting of the relay: %.100q", greeting)
	}
	return c, nil
}

// Subscribe requests a subscription of one group, and waits for the response. The group replaces all others.
func (c *Client) Subscribe(ctx context.Context, group string) error {
	kind, item, ok := strings.Cut(group, "-")
	if !ok {
		return fmt.Errorf("invalid group %q; use a name such as jobs-1", group)
	}
	message, err := json.Marshal(map[string]any{"groups": map[string][]string{kind: {item}}, "xrftoken": c.token})
	if err != nil {
		return err
	}
	if err := c.conn.Write(ctx, websocket.MessageText, message); err != nil {
		return err
	}
	response, err := c.Read(ctx)
	if err != nil {
		return err
	}
	var reply struct {
		Error   string
		Current []string `json:"groups_current"`
	}
	if err := json.Unmarshal(response, &reply); err != nil || len(reply.Current) != 1 {
		return fmt.Errorf("subscription rejected: %.200s", response)
	}
	return nil
}

// Read waits for the next message and returns the payload.
func (c *Client) Read(ctx context.Context) ([]byte, error) {
	_, message, err := c.conn.Read(ctx)
	return message, err
}

// Close aborts the connection without a close frame.
func (c *Client) Close() { _ = c.conn.CloseNow() }

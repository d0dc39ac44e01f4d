// Package wsclient is a client of the relay as AWX's browser code is one, for commands that try a relay out.
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

// Client is a logged-in websocket. Its methods are for one goroutine.
type Client struct {
	conn  *websocket.Conn
	token string
}

// ErrNotLoggedIn is the error of a relay that does not know the user.
var ErrNotLoggedIn = errors.New("the relay does not accept the user: not logged in")

// RefusedError is the error of a handshake that was answered with anything but 101.
type RefusedError struct{ Status int }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the handshake was answered with %d %s", e.Status, http.StatusText(e.Status))
}

// Dial opens a websocket at a URL (http, https, ws or wss) with the headers of a browser, such as its cookies, and waits until the relay
// has accepted the user. Where there is no csrftoken cookie, it brings one of its own. Certificates are checked as
// config says; nil stands for the system's authorities.
func Dial(ctx context.Context, address string, header http.Header, config *tls.Config) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no address of a websocket; write it like ws://127.0.0.1:8013/websocket/", address)
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
		return nil, fmt.Errorf("the relay greets with %.100q", greeting)
	}
	return c, nil
}

// Subscribe asks for one group, and waits for the answer.
func (c *Client) Subscribe(ctx context.Context, group string) error {
	kind, item, ok := strings.Cut(group, "-")
	if !ok {
		return fmt.Errorf("%q is no group that a client can ask for: it needs a '-'", group)
	}
	message, err := json.Marshal(map[string]any{"groups": map[string][]string{kind: {item}}, "xrftoken": c.token})
	if err != nil {
		return err
	}
	if err := c.conn.Write(ctx, websocket.MessageText, message); err != nil {
		return err
	}
	answer, err := c.Read(ctx)
	if err != nil {
		return err
	}
	var reply struct {
		Error   string
		Current []string `json:"groups_current"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil || len(reply.Current) != 1 {
		return fmt.Errorf("the subscription was answered with %.200s", answer)
	}
	return nil
}

// Read returns the next message.
func (c *Client) Read(ctx context.Context) ([]byte, error) {
	_, message, err := c.conn.Read(ctx)
	return message, err
}

// Close ends the connection at once.
func (c *Client) Close() { _ = c.conn.CloseNow() }

// Package wstest has WebSocket clients for tests: Client behaves like a browser, Raw is cheap enough for crowds, and
// Wire sends arbitrary bytes.
package wstest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Client behaves like a browser: it answers pings and reads without being asked. Several goroutines may call its
// methods.
type Client struct {
	conn   *websocket.Conn
	frames chan message
	ended  chan struct{}
	err    error // why reading ended; read after ended is closed
}

// ErrQuiet is the error of Next when no frame arrives in time.
var ErrQuiet = errors.New("no frame came")

// message is a frame that was read.
type message struct {
	data   string
	binary bool
}

// ErrBinary is the error of Next for a binary frame.
var ErrBinary = errors.New("a binary frame came; all frames are to be text")

// readAhead is the number of frames that a client reads before calls of Next. Then it stops reading, like a page whose
// script hangs.
const readAhead = 1024

// Dial opens a WebSocket. The URL may begin with http://. The handshake carries the header, and asks for the
// subprotocols in it. The response of a rejected handshake gives the reason. The connection ends with the test.
func Dial(t testing.TB, url string, header http.Header) (*Client, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, strings.Replace(url, "http://", "ws://", 1), &websocket.DialOptions{
		HTTPHeader:      header,
		Subprotocols:    header.Values("Sec-WebSocket-Protocol"),
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, resp, err
	}
	conn.SetReadLimit(-1)
	c := &Client{conn: conn, frames: make(chan message, readAhead), ended: make(chan struct{})}
	reading, stop := context.WithCancel(context.Background())
	go c.read(reading)
	t.Cleanup(func() {
		stop()
		// The only possible error: the connection is closed.
		_ = conn.CloseNow()
		<-c.ended
	})
	return c, resp, nil
}

func (c *Client) read(ctx context.Context) {
	defer close(c.ended)
	for {
		kind, data, err := c.conn.Read(ctx)
		if err != nil {
			c.err = err
			return
		}
		select {
		case c.frames <- message{string(data), kind == websocket.MessageBinary}:
		case <-ctx.Done():
			c.err = ctx.Err()
			return
		}
	}
}

// Next returns the next text frame, or ErrQuiet if no frame arrives in time. After the last frame it returns the error
// that ended the connection: see [CloseCode]. A binary frame is ErrBinary.
func (c *Client) Next(within time.Duration) (string, error) {
	data, binary, err := c.NextMessage(within)
	if err == nil && binary {
		return "", ErrBinary
	}
	return data, err
}

// NextMessage is Next for frames of both kinds.
func (c *Client) NextMessage(within time.Duration) (data string, binary bool, err error) {
	select {
	case f := <-c.frames:
		return f.data, f.binary, nil
	default:
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case f := <-c.frames:
		return f.data, f.binary, nil
	case <-c.ended:
		// Frames read before the end come first.
		select {
		case f := <-c.frames:
			return f.data, f.binary, nil
		default:
			return "", false, c.err
		}
	case <-timer.C:
		return "", false, fmt.Errorf("%w within %v", ErrQuiet, within)
	}
}

// Subprotocol returns the subprotocol of the handshake, empty if none.
func (c *Client) Subprotocol() string { return c.conn.Subprotocol() }

// CloseCode returns the code of the close frame in an error of Next, or -1.
func CloseCode(err error) int { return int(websocket.CloseStatus(err)) }

// Send sends a text message in one frame, valid or not.
func (c *Client) Send(text string) error {
	return c.conn.Write(c.deadline(), websocket.MessageText, []byte(text))
}

// SendBinary sends a binary message.
func (c *Client) SendBinary(data []byte) error {
	return c.conn.Write(c.deadline(), websocket.MessageBinary, data)
}

// SendFragments sends one text message in several frames.
func (c *Client) SendFragments(parts ...string) error {
	w, err := c.conn.Writer(c.deadline(), websocket.MessageText)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if _, err := w.Write([]byte(part)); err != nil {
			return err
		}
	}
	return w.Close()
}

// Ping sends a ping and waits for the pong.
func (c *Client) Ping() error { return c.conn.Ping(c.deadline()) }

// Close closes with a code and waits for the close frame of the server.
func (c *Client) Close(code int) error { return c.conn.Close(websocket.StatusCode(code), "") }

// deadline bounds one call. The timer is freed when it fires.
func (c *Client) deadline() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Second, cancel)
	return ctx
}

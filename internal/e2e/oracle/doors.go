package oracle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit/ssetest"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// subprotocol is that of clients which get positions.
const subprotocol = "edgerelay.events.v1"

// silence is the time without a frame after which a client connects again.
const silence = time.Minute

// cookie matches the token of requests.
const cookie = "csrftoken=t"

// Door is a kind of connection.
type Door struct {
	// Name is the key in [Tally.Doors].
	Name string

	lasting bool // not one request for each answer
	open    func(url, request string) (conn, error)
}

// conn is a connection of a client. close may be called by another goroutine.
type conn interface {
	next() (frame string, err error)
	close()
}

// faultyError is a fault of the relay that must not pass as the end of a connection.
type faultyError struct{ error }

// errAnswered ends the connection of a long poll in order.
var errAnswered = errors.New("the poll was answered")

// WebSocket is the door of WebSockets over HTTP/1.1.
var WebSocket = Door{Name: "websocket", lasting: true, open: func(url, request string) (conn, error) {
	raw, err := wstest.DialRaw(url, cookie, "Sec-WebSocket-Protocol: "+subprotocol)
	if err != nil {
		return nil, err
	}
	if err := raw.Send(request); err != nil {
		raw.Close()
		return nil, err
	}
	return rawConn{raw}, nil
}}

type rawConn struct{ *wstest.Raw }

func (c rawConn) next() (string, error) { return c.Next(silence) }
func (c rawConn) close()                { c.Close() }

// Compressed is the door of WebSockets with permessage-deflate over HTTP/1.1, or over a stream of HTTP/2. A connection
// ends after a minute.
func Compressed(t testing.TB, overHTTP2 bool) Door {
	d := Door{Name: "compressed websocket", lasting: true}
	if overHTTP2 {
		d.Name = "websocket over HTTP/2"
	}
	d.open = func(url, request string) (conn, error) {
		wire, shut, err := dialWire(t, overHTTP2, url)
		if err != nil {
			return nil, err
		}
		c := &deflated{Wire: wire, shut: shut}
		if err := wire.Write(wstest.MaskedFrame(0x81, request)); err != nil {
			c.close()
			return nil, err
		}
		return c, nil
	}
	return d
}

// dialWire opens a WebSocket and returns a function that ends its connection.
func dialWire(t testing.TB, overHTTP2 bool, url string) (wire *wstest.Wire, shut func(), err error) {
	slash := strings.Index(url[len("http://"):], "/") + len("http://")
	node, path := url[:slash], url[slash:]
	headers := []string{
		"Cookie: " + cookie, "Sec-WebSocket-Protocol: " + subprotocol, "Sec-WebSocket-Extensions: permessage-deflate",
	}
	if !overHTTP2 {
		wire, err = wstest.DialWire(t, node)
		if err != nil {
			return nil, nil, err
		}
		shut = func() { _ = wire.Close() }
		if err := wire.Shake(path, headers...); err != nil {
			shut()
			return nil, nil, err
		}
		return wire, shut, nil
	}
	h2, err := wstest.DialHTTP2(t, node)
	if err != nil {
		return nil, nil, err
	}
	wire, resp, body, err := h2.Connect(path, headers...)
	if err == nil && wire == nil {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err != nil {
		_ = h2.Close()
		return nil, nil, err
	}
	return wire, func() {
		_ = wire.Close()
		_ = h2.Close()
	}, nil
}

// deflated is a WebSocket with permessage-deflate.
type deflated struct {
	*wstest.Wire
	shut     func()
	inflater relaytest.Inflater
}

func (c *deflated) close() { c.shut() }

func (c *deflated) next() (string, error) {
	for {
		f, err := c.Frame()
		if err != nil {
			return "", err
		}
		switch f.First {
		case 0x81:
			return string(f.Payload), nil
		case 0xc1:
			text, err := c.inflater.Message(f.Payload)
			if err != nil {
				return "", faultyError{err}
			}
			return string(text), nil
		case 0x89:
			if err := c.Write(wstest.MaskedFrame(0x8a, string(f.Payload))); err != nil {
				return "", err
			}
		default:
			return "", fmt.Errorf("a frame %x %q", f.First, f.Payload)
		}
	}
}

// EventStream is the door of server-sent events over HTTP/1.1, or over HTTP/2 without TLS.
func EventStream(overHTTP2 bool) Door {
	d := Door{Name: "event stream", lasting: true}
	if overHTTP2 {
		d.Name = "event stream over HTTP/2"
	}
	d.open = func(url, request string) (conn, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		if overHTTP2 {
			protocols := new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
			client.Transport = &http.Transport{Protocols: protocols}
		}
		resp, err := post(client, url+"?protocol="+subprotocol, "text/event-stream", request)
		if err != nil {
			client.CloseIdleConnections()
			return nil, err
		}
		return &stream{ssetest.NewReader(resp.Body), resp.Body, client}, nil
	}
	return d
}

// stream is an event stream.
type stream struct {
	*ssetest.Reader
	body   io.Closer
	client *http.Client
}

func (s *stream) next() (string, error) {
	e, err := s.Next()
	if err == nil && e.Name == "close" {
		err = fmt.Errorf("close %s", e.Data)
	}
	return e.Data, err
}

func (s *stream) close() {
	_ = s.body.Close()
	s.client.CloseIdleConnections()
}

// LongPoll is the door of long polls. Each request is a connection of its own. The first one does not wait: it brings
// the positions from which the next ones continue.
var LongPoll = Door{Name: "long poll", open: func(url, request string) (conn, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: silence}
	wait := "?wait=5"
	if strings.Contains(request, `"since":{}`) {
		wait = "?wait=0"
	}
	resp, err := post(client, url+wait, "application/json", request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct{ Frames []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	return &answered{answer.Frames}, nil
}}

// answered is the answer of a long poll.
type answered struct{ frames []json.RawMessage }

func (a *answered) next() (string, error) {
	if len(a.frames) == 0 {
		return "", errAnswered
	}
	text := string(a.frames[0])
	a.frames = a.frames[1:]
	return text, nil
}

func (*answered) close() {}

// post sends a client's message and expects 200.
func post(client *http.Client, url, accept, request string) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(request))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", accept)
	r.Header.Set("Cookie", cookie)
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", resp.Status, body)
	}
	return resp, nil
}

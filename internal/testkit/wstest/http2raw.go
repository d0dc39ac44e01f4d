package wstest

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// RawHTTP2 is an HTTP/2 client that sends frame by frame, valid or not, without TLS. It never opens the server's
// windows by itself. Its methods are for one goroutine.
type RawHTTP2 struct {
	*http2.Framer
	// Conn is the TCP connection.
	Conn net.Conn
	host string
}

// DialRawHTTP2 connects to an http:// URL without a path and sends settings. The connection ends with the test.
func DialRawHTTP2(t testing.TB, url string, settings ...http2.Setting) (*RawHTTP2, error) {
	host := strings.TrimPrefix(url, "http://")
	conn, err := net.DialTimeout("tcp", host, wireWait)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(wireWait))
	c := &RawHTTP2{http2.NewFramer(conn, conn), conn, host}
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return nil, err
	}
	return c, c.WriteSettings(settings...)
}

// Connect sends an extended CONNECT for a WebSocket as the stream with a number. Further fields are pairs of names and
// values.
func (c *RawHTTP2) Connect(stream uint32, path string, fields ...string) error {
	all := append([]string{
		":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", path, ":authority", c.host,
		"sec-websocket-version", "13",
	}, fields...)
	return c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: encodeFields(all), EndHeaders: true,
	})
}

// encodeFields returns a header block of pairs of names and values, without use of the dynamic table.
func encodeFields(pairs []string) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i+1 < len(pairs); i += 2 {
		// Writing to a bytes.Buffer does not fail.
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1], Sensitive: true})
	}
	return block.Bytes()
}

// Await reads frames until match returns true, and answers settings and pings.
func (c *RawHTTP2) Await(what string, match func(http2.Frame) bool) error {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return fmt.Errorf("awaiting %s: %w", what, err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = c.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = c.WritePing(true, f.Data)
			}
		}
		if err != nil {
			return fmt.Errorf("awaiting %s: %w", what, err)
		}
		if match(f) {
			return nil
		}
	}
}

// AwaitStatus reads the header of a stream's response, and expects a status.
func (c *RawHTTP2) AwaitStatus(stream uint32, status string) error {
	got := ""
	err := c.Await("a response", func(f http2.Frame) bool {
		h, ok := f.(*http2.MetaHeadersFrame)
		if !ok || h.StreamID != stream {
			return false
		}
		got = h.PseudoValue("status")
		return true
	})
	if err == nil && got != status {
		err = fmt.Errorf("status %s, want %s", got, status)
	}
	return err
}

// AwaitEnd reads until a stream ends or is reset.
func (c *RawHTTP2) AwaitEnd(stream uint32) (reset bool, err error) {
	err = c.Await("the end of a stream", func(f http2.Frame) bool {
		if f.Header().StreamID != stream {
			return false
		}
		_, reset = f.(*http2.RSTStreamFrame)
		return reset || f.Header().Flags.Has(http2.FlagDataEndStream) && f.Header().Type == http2.FrameData
	})
	return reset, err
}

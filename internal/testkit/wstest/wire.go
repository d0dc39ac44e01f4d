package wstest

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Wire is a connection for arbitrary bytes: requests and frames that no client library sends.
type Wire struct {
	net.Conn
	Host string // host:port
	r    *bufio.Reader
}

// Frame is a WebSocket frame of a server.
type Frame struct {
	// First is the first byte: FIN, the reserved bits and the opcode.
	First   byte
	Payload []byte
}

// wireWait is the time limit of a Wire.
const wireWait = time.Minute

// DialWire connects to an http:// or https:// URL; certificates are not checked. The connection ends with the test.
func DialWire(t testing.TB, url string) (*Wire, error) {
	scheme, host, _ := strings.Cut(url, "://")
	w := &Wire{Host: host}
	conn, err := net.DialTimeout("tcp", host, wireWait)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(wireWait)); err != nil {
		return nil, err
	}
	w.Conn = conn
	if scheme == "https" {
		name, _, _ := net.SplitHostPort(host)
		secure := tls.Client(conn, &tls.Config{
			InsecureSkipVerify: true, ServerName: name,
			NextProtos: []string{"http/1.1"},
		})
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		w.Conn = secure
	}
	w.r = bufio.NewReader(w.Conn)
	return w, nil
}

// NewWire returns a Wire over a connection or stream on which a WebSocket is open.
func NewWire(conn net.Conn, host string) *Wire {
	return &Wire{Conn: conn, Host: host, r: bufio.NewReader(conn)}
}

// Write sends text unchanged.
func (w *Wire) Write(text string) error {
	_, err := io.WriteString(w.Conn, text)
	return err
}

// Chop sends text in pieces of n bytes.
func (w *Wire) Chop(text string, n int) error {
	for len(text) > 0 {
		piece := text[:min(n, len(text))]
		if err := w.Write(piece); err != nil {
			return err
		}
		text = text[len(piece):]
	}
	return nil
}

// Handshake returns a valid handshake for a path. Each given header line, such as "Upgrade: h2c", replaces all lines of
// the same name. A line without a value removes the header.
func (w *Wire) Handshake(path string, headers ...string) string {
	lines := []string{
		"Host: " + w.Host, "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
	}
	for _, h := range headers {
		name, _, _ := strings.Cut(h, ":")
		kept := lines[:0:0]
		for _, l := range lines[:5:5] {
			if !strings.HasPrefix(l, name+":") {
				kept = append(kept, l)
			} else {
				kept = append(kept, "")
			}
		}
		lines = append(kept, lines[5:]...)
		if !strings.HasSuffix(h, ":") {
			lines = append(lines, h)
		}
	}
	request := "GET " + path + " HTTP/1.1\r\n"
	for _, l := range lines {
		if l != "" {
			request += l + "\r\n"
		}
	}
	return request + "\r\n"
}

// Response reads the response to a request, with the body unless the status is 101.
func (w *Wire) Response() (*http.Response, string, error) {
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// Shake opens a WebSocket.
func (w *Wire) Shake(path string, headers ...string) error {
	if err := w.Write(w.Handshake(path, headers...)); err != nil {
		return err
	}
	resp, body, err := w.Response()
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

// Frame reads the next frame. It returns io.EOF after an orderly end of the connection.
func (w *Wire) Frame() (f Frame, err error) {
	var head [10]byte
	if _, err := io.ReadFull(w.r, head[:2]); err != nil {
		return f, err
	}
	f.First = head[0]
	n := uint64(head[1])
	switch {
	case n&0x80 != 0:
		return f, fmt.Errorf("the server masks: % x", head[:2])
	case n == 126:
		_, err = io.ReadFull(w.r, head[2:4])
		if n = uint64(binary.BigEndian.Uint16(head[2:])); n < 126 {
			return f, fmt.Errorf("%d bytes need no length of 16 bits", n)
		}
	case n == 127:
		_, err = io.ReadFull(w.r, head[2:10])
		if n = binary.BigEndian.Uint64(head[2:]); n <= 0xffff {
			return f, fmt.Errorf("%d bytes need no length of 64 bits", n)
		}
	}
	if err != nil {
		return f, err
	}
	if n > 1<<30 {
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	f.Payload = make([]byte, n)
	_, err = io.ReadFull(w.r, f.Payload)
	return f, err
}

// MaskedFrame returns a frame of a client; first holds FIN, the reserved bits and the opcode.
func MaskedFrame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0xa1, 0x2b, 0xf3, 0x04}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

package wstest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Raw is a cheap WebSocket client: ten thousand fit into a test. Its methods are for one goroutine, except Close.
type Raw struct {
	// Conn is the TCP connection.
	Conn net.Conn
	r    *bufio.Reader
}

// Opcodes of frames.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa
)

// RefusedError is the error of a handshake with another status than 101.
type RefusedError struct {
	Status     int
	RetryAfter string
}

// Error implements error.
func (e RefusedError) Error() string { return fmt.Sprint("the handshake was answered with ", e.Status) }

// DialRaw opens a WebSocket. The URL begins with http://; cookie may be empty. Further headers are lines without their
// end.
func DialRaw(url, cookie string, headers ...string) (*Raw, error) {
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	conn, err := net.DialTimeout("tcp", host, 10*time.Second)
	if err != nil {
		return nil, err
	}
	request := "GET /" + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	if cookie != "" {
		request += "Cookie: " + cookie + "\r\n"
	}
	for _, h := range headers {
		request += h + "\r\n"
	}
	r := &Raw{Conn: conn, r: bufio.NewReaderSize(conn, 1<<10)}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	resp, err := func() (*http.Response, error) {
		if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
			return nil, err
		}
		return http.ReadResponse(r.r, nil)
	}()
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = RefusedError{resp.StatusCode, resp.Header.Get("Retry-After")}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return r, nil
}

// Send sends a text message.
func (r *Raw) Send(text string) error { return r.write(opText, text) }

// write sends one frame, with a mask of zeros.
func (r *Raw) write(opcode byte, payload string) error {
	frame := []byte{0x80 | opcode}
	if n := len(payload); n < 126 {
		frame = append(frame, 0x80|byte(n))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	}
	frame = append(append(frame, 0, 0, 0, 0), payload...)
	_, err := r.Conn.Write(frame)
	return err
}

// ClosedError is the end of a connection by a close frame.
type ClosedError struct {
	Code   int
	Reason string
}

// Error implements error.
func (e ClosedError) Error() string { return fmt.Sprintf("closed with %d %q", e.Code, e.Reason) }

// Next returns the next text message. It answers pings. It answers a close frame, too, and returns a ClosedError.
func (r *Raw) Next(within time.Duration) (string, error) {
	if within > 0 {
		_ = r.Conn.SetReadDeadline(time.Now().Add(within))
	}
	for {
		head, err := r.r.Peek(2)
		if err != nil {
			return "", err
		}
		opcode, n, size := head[0]&0x0f, int(head[1]), 2
		switch n {
		case 126:
			if head, err = r.r.Peek(4); err != nil {
				return "", err
			}
			n, size = int(binary.BigEndian.Uint16(head[2:])), 4
		case 127:
			if head, err = r.r.Peek(10); err != nil {
				return "", err
			}
			n, size = int(binary.BigEndian.Uint64(head[2:])), 10
		}
		_, _ = r.r.Discard(size)
		payload := make([]byte, n)
		if _, err := io.ReadFull(r.r, payload); err != nil {
			return "", err
		}
		switch opcode {
		case opText:
			return string(payload), nil
		case opPing:
			if err := r.write(opPong, string(payload)); err != nil {
				return "", err
			}
		case opClose:
			_ = r.write(opClose, string(payload[:min(2, n)]))
			_ = r.Conn.Close()
			if n < 2 {
				return "", ClosedError{Code: 1005}
			}
			return "", ClosedError{int(binary.BigEndian.Uint16(payload)), string(payload[2:])}
		}
	}
}

// Subscribe reads the greeting, subscribes to one group and waits for the answer. The token must be the cookie
// csrftoken of the handshake.
func (r *Raw) Subscribe(token, group string) error {
	kind, item, _ := strings.Cut(group, "-")
	if err := r.Send(fmt.Sprintf(`{"groups": {%q: [%q]}, "xrftoken": %q}`, kind, item, token)); err != nil {
		return err
	}
	for {
		text, err := r.Next(30 * time.Second)
		if err != nil {
			return err
		}
		if strings.HasPrefix(text, `{"groups_current"`) {
			return nil
		}
		if !strings.HasPrefix(text, `{"accept"`) {
			return fmt.Errorf("got %.200s, want the answer to a subscription", text)
		}
	}
}

// Close ends the connection without a close frame.
func (r *Raw) Close() { _ = r.Conn.Close() }

package conformance

import (
	"fmt"
	"net/http"
	"strings"
)

// shake sends a handshake with other header lines, and more bytes behind it, and expects a status.
func shake(status int, behind string, headers ...string) step {
	return func(s *session) error {
		return answered(s, s.Handshake("/websocket/", append([]string{"Cookie: csrftoken=t"}, headers...)...)+behind,
			status)
	}
}

func answered(s *session, request string, status int) error {
	if err := s.Write(request); err != nil {
		return err
	}
	resp, body, err := s.Response()
	if err != nil || resp.StatusCode != status {
		return fmt.Errorf("%v %q, %v; want %d", resp, body, err, status)
	}
	if status != http.StatusSwitchingProtocols {
		if !resp.Close {
			return fmt.Errorf("a refused handshake leaves the connection open: %v", resp.Header)
		}
		return wantEnd(s)
	}
	if ext := resp.Header.Values("Sec-Websocket-Extensions"); len(ext) > 0 {
		return fmt.Errorf("extensions %q are agreed", ext)
	}
	if p := resp.Header.Values("Sec-Websocket-Protocol"); len(p) > 0 {
		return fmt.Errorf("subprotocols %q are agreed", p)
	}
	return nil
}

var greeted = want(text, greeting)

var handshakes = []testCase{
	{"10.1", "the RFC's example", do(func(s *session) error {
		if err := s.Write(s.Handshake("/websocket/", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")); err != nil {
			return err
		}
		resp, _, err := s.Response()
		if err != nil || resp.StatusCode != 101 ||
			resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
			!strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") ||
			!strings.EqualFold(resp.Header.Get("Connection"), "upgrade") {
			return fmt.Errorf("%+v, %v", resp, err)
		}
		return nil
	}, greeted)},
	{"10.2", "a frame in the same piece", do(shake(101, frame(text, "x")), greeted, want(text, notJSON))},
	{"10.3", "a long message in the same piece", do(shake(101, frame(text, subscription(limit))), greeted, joined)},
	{"10.4", "a bad frame in the same piece", do(shake(101, "\xff\xff"), greeted, wantClose(1002))},
	{"10.5", "names and tokens in other cases", do(func(s *session) error {
		return answered(s,
			"GET /websocket/ HTTP/1.1\r\nHOST: "+s.Host+"\r\nupgrade: WebSocket\r\nCONNECTION: keep-alive, UPGRADE\r\nsec-websocket-version: 13\r\nSEC-WEBSOCKET-KEY:   AAAAAAAAAAAAAAAAAAAAAA==  \r\n\r\n", 101)
	}, greeted)},
	{"10.6", "byte by byte", do(func(s *session) error {
		if err := s.Chop(s.Handshake("/websocket/"), 1); err != nil {
			return err
		}
		resp, _, err := s.Response()
		if err != nil || resp.StatusCode != 101 {
			return fmt.Errorf("%v, %v", resp, err)
		}
		return nil
	}, greeted)},
	{
		"10.7", "subprotocols that the relay does not speak",
		do(shake(101, "", "Sec-WebSocket-Protocol: mqtt, edgerelay.v1"), greeted),
	},
	{"10.8", "no key", do(shake(400, "", "Sec-WebSocket-Key:"))},
	{"10.9", "a key of 15 bytes", do(shake(400, "", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"))},
	{"10.10", "a key that is not base64", do(shake(400, "", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="))},
	{"10.11", "two keys", do(shake(400, "", "X: y\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))},
	{"10.12", "version 8", do(shake(426, "", "Sec-WebSocket-Version: 8"))},
	{"10.13", "no version", do(shake(426, "", "Sec-WebSocket-Version:"))},
	{"10.14", "Connection without Upgrade", do(shake(400, "", "Connection: keep-alive"))},
	{"10.15", "a body", do(shake(400, "hello", "Content-Length: 5"))},
	{"10.16", "no Host", do(func(s *session) error {
		if err := s.Write(s.Handshake("/websocket/", "Host:")); err != nil {
			return err
		}
		resp, _, err := s.Response()
		if err != nil || resp.StatusCode != 400 {
			return fmt.Errorf("%v, %v", resp, err)
		}
		return nil
	})},
}

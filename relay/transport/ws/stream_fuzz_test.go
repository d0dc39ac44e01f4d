package ws_test

import (
	"errors"
	"io"
	"log"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// FuzzStream gives a WebSocket over HTTP/2 bytes, in pieces of any size, or frames of HTTP/2 that are no good. Whatever
// comes, the stream ends when the connection does, and the server goes on.
func FuzzStream(f *testing.F) {
	s := newStreamServer(f)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, data := range []string{
		"", wstest.MaskedFrame(0x81, "x"), wstest.MaskedFrame(0x88, "\x03\xe8"), "\xff\xff", "\x81", "\x88\x80abcd",
		wstest.MaskedFrame(0x01, "x") + wstest.MaskedFrame(0x89, "p") + wstest.MaskedFrame(0x80, "y"),
		"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",                 // RST_STREAM
		"\x00\x00\x04\x08\x00\x00\x00\x00\x01\x7f\xff\xff\xff",                 // WINDOW_UPDATE
		"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", // GOAWAY
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00",         // SETTINGS with a window of 0
	} {
		f.Add([]byte(data), uint8(1), false, uint16(65535))
		f.Add([]byte(data), uint8(0), true, uint16(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint8, raw bool, window uint16) {
		c, err := wstest.DialRawHTTP2(t, s.URL, http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(window)})
		if err == nil {
			err = errors.Join(c.Connect(1, "/"), c.AwaitStatus(1, "200"))
		}
		if err != nil {
			t.Fatal(err)
		}
		<-s.conns
		go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
		if raw {
			_, err = c.Conn.Write(data)
		} else {
			for n := max(1, int(size)); err == nil && len(data) > 0; data = data[min(n, len(data)):] {
				err = c.WriteData(1, false, data[:min(n, len(data))])
			}
		}
		// An error is the end that the server has put to the connection.
		_ = err
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		select {
		case <-s.ended:
		case <-time.After(20 * time.Second):
			t.Fatal("the stream has not ended")
		}
	})
}

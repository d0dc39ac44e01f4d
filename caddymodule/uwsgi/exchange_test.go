package uwsgi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// worker serves connections of a listener one after the other.
func worker(t *testing.T, network, address string, serve func(conn net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l
}

// skipVariables reads a packet of variables.
func skipVariables(t *testing.T, conn net.Conn) {
	var head [headerSize]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		t.Error(err)
		return
	}
	if _, err := io.CopyN(io.Discard, conn, int64(binary.LittleEndian.Uint16(head[1:]))); err != nil {
		t.Error(err)
	}
}

// withBody adds a body to a request. The request's context ends with the test.
func withBody(t *testing.T, r *http.Request, body io.Reader, length int64) *http.Request {
	ctx, cancel := context.WithCancel(r.Context())
	t.Cleanup(cancel)
	r = r.WithContext(ctx)
	r.Body, r.ContentLength = io.NopCloser(body), length
	return r
}

// A worker receives the whole body, from memory and file, over TCP and a Unix socket.
func TestRoundTrip(t *testing.T) {
	transport := provisioned(t, &Transport{RequestMemory: 1000, ResponseMemory: 1000})
	echo := func(conn net.Conn) {
		skipVariables(t, conn)
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		size, _ := io.Copy(conn, io.LimitReader(conn, 1_000_000))
		if size < 1_000_000 {
			t.Errorf("%d bytes arrived", size)
		}
	}
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l := worker(t, network, address, echo)
		data := pattern(1_000_000)
		for _, length := range []int64{-1, int64(len(data))} {
			r := withBody(t, incoming(http.MethodPost, "/", nil), bytes.NewReader(data), length)
			r.URL.Host = l.Addr().String()
			if network == "unix" {
				conn, err := net.Dial(network, address)
				if err != nil {
					t.Fatal(err)
				}
				body, err := transport.readRequestBody(r)
				if err != nil {
					t.Fatal(err)
				}
				e := &exchange{t: transport, r: r, ctx: r.Context(), conn: conn, body: body, sending: true}
				e.stopWatching = func() bool { return true }
				check(t, e.run, newPacket(0, 0).bytes(), data)
				continue
			}
			check(t, func([]byte) (*http.Response, error) { return transport.RoundTrip(r) }, nil, data)
		}
	}
}

func check(t *testing.T, run func([]byte) (*http.Response, error), packet, want []byte) {
	t.Helper()
	resp, err := run(packet)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes are right (%v)", countCommonPrefix(got, want), len(want), err)
	}
}

// After a failed dial, the second attempt sends the body that the first attempt has read.
func TestBodySurvivesFailedDial(t *testing.T) {
	transport := provisioned(t, &Transport{RequestMemory: 1000})
	got := make(chan string, 1)
	l := worker(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
		skipVariables(t, conn)
		b := make([]byte, 5000)
		n, _ := io.ReadFull(conn, b)
		got <- string(b[:n])
		fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	body := strings.Repeat("abcde", 1000)
	r := withBody(t, incoming(http.MethodPost, "/", nil), strings.NewReader(body), -1)
	r.URL.Host = "127.0.0.1:1"
	_, err := transport.RoundTrip(r)
	if _, ok := errors.AsType[reverseproxy.DialError](err); !ok {
		t.Fatalf("got %v, want a DialError", err)
	}
	r.URL.Host = l.Addr().String()
	resp, err := transport.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusNoContent || <-got != body {
		t.Errorf("got %v (%v)", resp, err)
	}
}

// An error after the dial is no DialError, and a timeout is a timeout to reverse_proxy.
func TestErrorsAfterTheDial(t *testing.T) {
	transport := provisioned(t, &Transport{ReadTimeout: caddy.Duration(50 * time.Millisecond)})
	hold := make(chan struct{})
	closes := worker(t, "tcp", "127.0.0.1:0", func(net.Conn) {})
	silent := worker(t, "tcp", "127.0.0.1:0", func(net.Conn) { <-hold })
	t.Cleanup(func() { close(hold) })
	for l, timeout := range map[net.Listener]bool{closes: false, silent: true} {
		r := incoming(http.MethodGet, "/", nil)
		r.Header.Set("A", strings.Repeat("x", 5000))
		r.URL.Host = l.Addr().String()
		_, err := transport.RoundTrip(r)
		if _, ok := errors.AsType[reverseproxy.DialError](err); ok || err == nil {
			t.Errorf("got %v, want an error that is no DialError", err)
		}
		if n, ok := err.(net.Error); !ok || n.Timeout() != timeout {
			t.Errorf("got %v, timeout wanted: %t", err, timeout)
		}
		if !timeout && !strings.Contains(err.Error(), "buffer-size") {
			t.Errorf("%v does not hint at buffer-size", err)
		}
	}
}

// While the listen queue of a Unix socket is full, a dial waits.
func TestFullListenQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := dialWithRetry(t.Context(), "unix", path, 50*time.Millisecond); err == nil {
		t.Fatal("the queue is not full")
	}
	go func() {
		if n, _, err := syscall.Accept(fd); err == nil {
			syscall.Close(n)
		}
	}()
	second, err := dialWithRetry(t.Context(), "unix", path, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// The file of a body is closed when the request's context ends, even if the body was never sent.
func TestBodyFileIsClosed(t *testing.T) {
	transport := provisioned(t, &Transport{RequestMemory: 10})
	r := incoming(http.MethodPost, "/", nil)
	ctx, cancel := context.WithCancel(r.Context())
	r = r.WithContext(ctx)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 1000))), -1
	body, err := transport.readRequestBody(r)
	if err != nil || body.file == nil || body.size != 1000 {
		t.Fatalf("got %+v (%v)", body, err)
	}
	cancel()
	for {
		if _, err := body.file.Seek(0, io.SeekStart); err != nil {
			return
		}
	}
}

// Errors of a client's body become the status that describes the client's fault, or a canceled request.
func TestBodyErrors(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int // 0: the client disconnected
	}{
		"max_size":  {caddyhttp.Error(413, &http.MaxBytesError{Limit: 5}), 413},
		"too large": {&http.MaxBytesError{Limit: 5}, 413},
		"cut":       {io.ErrUnexpectedEOF, 0},
		"reset":     {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, 0},
		"malformed": {errors.New("invalid byte in chunk length"), 400},
		"slow":      {&net.OpError{Op: "read", Err: errTimeout}, 408},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		if name == "slow" { // the timeout cancels the request's context
			cancel()
		}
		err := bodyError(ctx, c.err)
		cancel()
		known, ok := errors.AsType[*rejection](err)
		if c.status == 0 && !errors.Is(err, context.Canceled) || c.status != 0 && (!ok || known.status != c.status) {
			t.Errorf("%s: got %v, want %d", name, err, c.status)
		}
	}
}

// errTimeout is the error of a read after the deadline.
var errTimeout = func() error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_ = a.SetReadDeadline(time.Unix(1, 0))
	_, err := a.Read(make([]byte, 1))
	return err
}()

package e2e

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// uwsgiWorker is a worker that does what a test says, over the uwsgi protocol.
type uwsgiWorker struct {
	// Address is what a Caddyfile names as the upstream.
	Address string

	mu       sync.Mutex
	dialed   int
	requests []uwsgiRequest
}

// uwsgiRequest is what a worker got.
type uwsgiRequest struct {
	Vars map[string]string
	Body string
}

// startWorker starts a worker that reads each request completely and calls answer.
func startWorker(t *testing.T, answer func(conn net.Conn, r uwsgiRequest)) *uwsgiWorker {
	t.Helper()
	w := &uwsgiWorker{}
	w.listen(t, func(conn net.Conn) {
		r, err := readRequest(conn)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.requests = append(w.requests, r)
		w.mu.Unlock()
		answer(conn, r)
	})
	return w
}

// startRawWorker starts a worker that gets connections and reads nothing by itself.
func startRawWorker(t *testing.T, serve func(conn net.Conn)) *uwsgiWorker {
	t.Helper()
	w := &uwsgiWorker{}
	w.listen(t, serve)
	return w
}

func (w *uwsgiWorker) listen(t *testing.T, serve func(conn net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(testkit.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	w.Address = l.Addr().String()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.dialed++
			w.mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
}

// Dialed returns how many connections there were, Got what they brought.
func (w *uwsgiWorker) Dialed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialed
}

func (w *uwsgiWorker) Got() []uwsgiRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]uwsgiRequest(nil), w.requests...)
}

func readRequest(conn net.Conn) (r uwsgiRequest, err error) {
	in := bufio.NewReader(conn)
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return r, err
	}
	b := make([]byte, binary.LittleEndian.Uint16(head[1:]))
	if _, err := io.ReadFull(in, b); err != nil {
		return r, err
	}
	r.Vars = map[string]string{}
	next := func() string {
		n := int(binary.LittleEndian.Uint16(b))
		text := string(b[2 : 2+n])
		b = b[2+n:]
		return text
	}
	for len(b) > 0 {
		name := next()
		r.Vars[name] = next()
	}
	length, _ := strconv.Atoi(r.Vars["CONTENT_LENGTH"])
	body := make([]byte, length)
	_, err = io.ReadFull(in, body)
	r.Body = string(body)
	return r, err
}

// reply writes the whole answer.
func reply(text string) func(net.Conn, uwsgiRequest) {
	return func(conn net.Conn, _ uwsgiRequest) { _, _ = io.WriteString(conn, text) }
}

// abort ends a connection by a reset.
func abort(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

// once makes a request by a connection of its own, and returns status and body. The error is that of the body, too.
func once(req *http.Request) (status int, body string, err error) {
	// A request may ask by Expect whether its body is wanted.
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: patience}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func newRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// readSlowly sends a GET by a connection with a small buffer, and reads nothing of the answer.
func readSlowly(t *testing.T, r *peers.Relay, path string) net.Conn {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF,
				4096)
		})
		return err
	}}
	conn, err := dialer.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	request := "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn
}

// tempFiles are the unlinked files that a Caddy has open.
func tempFiles(t *testing.T, r *peers.Relay) (open []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", r.PID())
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(dir, e.Name()))
		if strings.Contains(target, "edgerelay-uwsgi-") {
			open = append(open, target)
		}
	}
	return open
}

// What a client does not take is held in a file, which is gone when the client is. The worker is free meanwhile.
func TestUWSGISlowReader(t *testing.T) {
	t.Parallel()
	const size = 20_000_000
	free := make(chan struct{}, 100)
	worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) {
		if r.Vars["PATH_INFO"] != "/large" {
			reply("HTTP/1.1 204 No Content\r\n\r\n")(conn, r)
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		free <- struct{}{}
	})
	dir := t.TempDir()
	r := peers.StartRelay(t, uwsgiSite(worker.Address, "temp_dir "+dir))
	slow, gone := readSlowly(t, r, "/large"), readSlowly(t, r, "/large")
	for range 2 {
		select {
		case <-free:
		case <-time.After(patience):
			t.Fatal("slow readers hold their workers")
		}
	}
	if n := len(tempFiles(t, r)); n != 2 {
		t.Errorf("%d files are open, want 2", n)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files with a name: %v (%v)", entries, err)
	}
	gone.Close()
	if n, err := io.Copy(io.Discard, slow); err != nil || n < size {
		t.Errorf("%d bytes (%v)", n, err)
	}
	testkit.Eventually(t, "the files are closed", func() error {
		if open := tempFiles(t, r); len(open) > 0 {
			return errors.New(strings.Join(open, ", "))
		}
		return nil
	})
}

// When file and memory are full, the worker waits for the client; with unbuffered and X-Accel-Buffering: no at once.
func TestUWSGIBackpressure(t *testing.T) {
	t.Parallel()
	const size = 30_000_000
	for name, c := range map[string]struct{ setting, header string }{
		"a small file":          {"response_disk 1MB", ""},
		"no file":               {"response_disk 0", ""},
		"unbuffered":            {"unbuffered", ""},
		"X-Accel-Buffering: no": {"", "X-Accel-Buffering: no\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			taken, stalled := 0, make(chan struct{})
			worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) {
				if r.Vars["PATH_INFO"] != "/large" {
					return
				}
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n", c.header, size)
				block := make([]byte, 10_000)
				for sent := 0; sent < size; {
					_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
					n, err := conn.Write(block)
					sent += n
					if err != nil && taken == 0 { // the first time that it takes long
						mu.Lock()
						taken = sent
						mu.Unlock()
						close(stalled)
						continue
					}
					if err != nil && !os.IsTimeout(err) {
						return
					}
				}
			})
			r := peers.StartRelay(t, uwsgiSite(worker.Address, c.setting))
			conn := readSlowly(t, r, "/large")
			select {
			case <-stalled:
			case <-time.After(patience):
				t.Fatal("the worker need not wait")
			}
			mu.Lock()
			if taken > 25_000_000 {
				t.Errorf("%d bytes were taken", taken)
			}
			mu.Unlock()
			if n, err := io.Copy(io.Discard, conn); err != nil || n < size {
				t.Errorf("%d bytes (%v)", n, err)
			}
		})
	}
}

// Answers of every kind, as a client sees them.
func TestUWSGIAnswers(t *testing.T) {
	t.Parallel()
	texts := map[string]string{
		"/plain": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Accel-Expires: 5\r\n" +
			"Connection: X-Private\r\nX-Private: 1\r\n\r\nhello",
		"/endless": "HTTP/1.1 200 OK\r\n\r\nhello",
		"/longer":  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
		"/chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 77\r\n\r\n" +
			"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
		"/cgi":       "Status: 201 Created\r\n\r\nhello",
		"/redirect":  "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
		"/none":      "HTTP/1.1 204 No Content\r\n\r\n",
		"/same":      "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 50\r\n\r\n",
		"/early":     "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"/accel":     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Accel-Redirect: /secret\r\n\r\n",
		"/switching": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
	}
	worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) { reply(texts[r.Vars["PATH_INFO"]])(conn, r) })
	r := peers.StartRelay(t, uwsgiSite(worker.Address))
	for _, c := range []struct {
		method, path string
		status       int
		body         string
		length       int64
	}{
		{"GET", "/plain", 200, "hello", 5},
		{"HEAD", "/plain", 200, "", 5},
		{"GET", "/endless", 200, "hello", -1},
		{"HEAD", "/endless", 200, "", -1},
		{"GET", "/longer", 200, "hello", 5},
		{"GET", "/chunked", 200, "hello", -1},
		{"GET", "/cgi", 201, "hello", -1},
		{"GET", "/redirect", 302, "", 0},
		{"GET", "/none", 204, "", 0},
		{"GET", "/same", 304, "", 0},
		{"GET", "/early", 200, "hello", 5},
		{"GET", "/accel", 200, "", 0},
		{"GET", "/switching", 502, "", 0},
	} {
		resp, err := http.DefaultTransport.RoundTrip(newRequest(t, c.method, r.URL+c.path, nil))
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || string(body) != c.body || resp.ContentLength != c.length || err != nil {
			t.Errorf("%s %s: got %s %q, length %d (%v)", c.method, c.path, resp.Status, body, resp.ContentLength, err)
		}
		for name := range resp.Header {
			if strings.HasPrefix(name, "X-") {
				t.Errorf("%s %s: the client gets %s", c.method, c.path, name)
			}
		}
	}
	// What X-Accel-Redirect asks for is done by handle_response, which sees it.
	if err := r.Load("{\n\tadmin {$ADMIN}\n}\n{$SITE} {\n\treverse_proxy " + worker.Address + ` {
		transport uwsgi
		@accel header X-Accel-Redirect *
		handle_response @accel {
			respond "file {rp.header.X-Accel-Redirect}"
		}
	}
}
`); err != nil {
		t.Fatal(err)
	}
	if status, body, err := once(newRequest(t, http.MethodGet, r.URL+"/accel",
		nil)); body != "file /secret" || err != nil {
		t.Errorf("X-Accel-Redirect: %d %q (%v)", status, body, err)
	}
	// An upgrade is a request like others, to an application that does not know it.
	req := newRequest(t, http.MethodGet, r.URL+"/plain", nil)
	req.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}
	if status, body, err := once(req); status != 200 || body != "hello" || err != nil {
		t.Errorf("upgrade: %d %q (%v)", status, body, err)
	}
}

// The first bytes arrive while the rest is not there yet.
func TestUWSGIStreams(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) {
		header, _, _ := strings.Cut(r.Vars["QUERY_STRING"], "&")
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+strings.ReplaceAll(header, ";", "\r\n")+"\r\n\r\nfirst\n")
		if r.Vars["PATH_INFO"] == "/stream" {
			<-goOn
		}
		_, _ = io.WriteString(conn, "second\n")
	})
	r := peers.StartRelay(t, uwsgiSite(worker.Address))
	unbuffered := peers.StartRelay(t, uwsgiSite(worker.Address, "unbuffered"))
	for _, url := range []string{
		r.URL + "/stream?A:b", r.URL + "/stream?Content-Type:text/event-stream",
		r.URL + "/stream?X-Accel-Buffering:no", r.URL + "/stream?X-Accel-Buffering:no;Content-Length:13",
		unbuffered.URL + "/stream?Content-Length:13", unbuffered.URL + "/stream?X-Accel-Buffering:yes",
	} {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		in := bufio.NewReader(resp.Body)
		if line, err := in.ReadString('\n'); line != "first\n" || err != nil {
			t.Errorf("%s: got %q (%v)", url, line, err)
		}
		goOn <- struct{}{}
		if rest, err := io.ReadAll(in); string(rest) != "second\n" || err != nil {
			t.Errorf("%s: then %q (%v)", url, rest, err)
		}
		if h := resp.Header.Get("X-Accel-Buffering"); h != "" {
			t.Errorf("%s: the client gets X-Accel-Buffering: %s", url, h)
		}
	}
}

// When a client disconnects, before or during the response, the connection to the worker ends, too.
func TestUWSGIRequestEndsWithItsClient(t *testing.T) {
	t.Parallel()
	closed := make(chan error, 10)
	reached := make(chan struct{}, 10)
	worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) {
		switch r.Vars["PATH_INFO"] {
		case "/before":
		case "/within":
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nhello")
		default:
			return
		}
		reached <- struct{}{}
		_, err := conn.Read(make([]byte, 1))
		closed <- err
	})
	r := peers.StartRelay(t, uwsgiSite(worker.Address))
	for _, path := range []string{"/before", "/within"} {
		conn := readSlowly(t, r, path)
		select {
		case <-reached:
		case <-time.After(patience):
			t.Fatalf("%s: no request", path)
		}
		conn.Close()
		select {
		case err := <-closed:
			if err == nil {
				t.Errorf("%s: the worker gets more", path)
			}
		case <-time.After(patience):
			t.Errorf("%s: the worker is not let go", path)
		}
	}
}

// A silent worker costs a 504, whether it sends or takes nothing.
func TestUWSGITimeouts(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	silent := startRawWorker(t, func(net.Conn) { <-hold })
	stuck := startWorker(t, func(conn net.Conn, _ uwsgiRequest) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello")
		<-hold
	})
	t.Cleanup(func() { close(hold) })
	site := func(worker *uwsgiWorker) *peers.Relay {
		return peers.StartRelay(t, uwsgiSite(worker.Address, "read_timeout 300ms", "write_timeout 300ms"))
	}
	r := site(silent)
	if status, _, err := once(newRequest(t, http.MethodGet, r.URL+"/", nil)); status != http.StatusGatewayTimeout {
		t.Errorf("no answer: %d (%v)", status, err)
	}
	huge := strings.NewReader(strings.Repeat("x", 50_000_000)) // more than the buffers of a socket
	if status, _, err := once(newRequest(t, http.MethodPost, r.URL+"/", huge)); status != http.StatusGatewayTimeout {
		t.Errorf("a body that is not taken: %d (%v)", status, err)
	}
	if status, body, err := once(newRequest(t, http.MethodGet, site(stuck).URL+"/", nil)); err == nil {
		t.Errorf("an answer that does not go on: %d %q, want an error", status, body)
	}
}

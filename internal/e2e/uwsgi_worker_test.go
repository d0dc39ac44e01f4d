package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
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

// Whatever a worker does with a request, no other worker gets it, for GET neither. The client learns that
// something is wrong.
func TestUWSGINeverTwice(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		answer func(net.Conn, uwsgiRequest)
		want   int // 0: a broken answer
	}{
		"no answer":    {func(net.Conn, uwsgiRequest) {}, http.StatusBadGateway},
		"a reset":      {func(conn net.Conn, _ uwsgiRequest) { abort(conn) }, http.StatusBadGateway},
		"half a head":  {reply("HTTP/1.1 200 OK\r\nContent-Le"), http.StatusBadGateway},
		"no HTTP":      {reply("hello\r\n\r\n"), http.StatusBadGateway},
		"a bad length": {reply("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello"), http.StatusBadGateway},
		"two lengths": {
			reply("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
			http.StatusBadGateway,
		},
		"a huge head": {
			reply("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 70_000) + "\r\n\r\n"),
			http.StatusBadGateway,
		},
		"other protocols":   {reply("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"), http.StatusBadGateway},
		"a short body":      {reply("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), 0},
		"a short long body": {reply("HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + strings.Repeat("x", 599_999)), 0},
		"half a chunk":      {reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"), 0},
		"no last chunk":     {reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), 0},
		"a reset body": {func(conn net.Conn, _ uwsgiRequest) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello")
			abort(conn)
		}, 0},
	}
	answer := func(conn net.Conn, r uwsgiRequest) {
		if c, ok := cases[strings.TrimPrefix(r.Vars["PATH_INFO"], "/")]; ok {
			c.answer(conn, r)
		}
	}
	worker, other := startWorker(t, answer), startWorker(t, answer)
	r := peers.StartRelay(t, `{
	admin {$ADMIN}
}
{$SITE} {
	reverse_proxy `+worker.Address+" "+other.Address+` {
		lb_policy round_robin
		lb_retries 3
		lb_try_duration 2s
		lb_try_interval 10ms
		transport uwsgi
	}
}
`)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := worker.Dialed() + other.Dialed()
			for i, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
				status, _, err := once(newRequest(t, method, r.URL+"/"+url.PathEscape(name), nil))
				if c.want == 0 && err == nil || c.want != 0 && (err != nil || status != c.want) {
					t.Errorf("%s: got %d (%v), want %d", method, status, err, c.want)
				}
				if n := worker.Dialed() + other.Dialed() - before; n != i+1 {
					t.Fatalf("%s: sent %d times", method, n-i)
				}
			}
		})
	}
}

// A failed dial is no sent request: another upstream gets it, with the whole body.
func TestUWSGIRetriesDials(t *testing.T) {
	t.Parallel()
	worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n\r\n%d", len(r.Body))
	})
	dead := "127.0.0.1:" + strconv.Itoa(testkit.FreePort(t))
	r := peers.StartRelay(t, "{\n\tadmin {$ADMIN}\n}\n{$SITE} {\n\treverse_proxy "+dead+" "+worker.Address+
		" {\n\t\tlb_policy round_robin\n\t\tlb_retries 2\n\t\ttransport uwsgi\n\t}\n}\n")
	for range 3 {
		for _, size := range []int{0, 10, 100_000, 1_000_000} {
			for _, length := range []bool{true, false} {
				var body io.Reader = strings.NewReader(strings.Repeat("x", size))
				if !length {
					body = io.MultiReader(body)
				}
				status, answer, err := once(newRequest(t, http.MethodPost, r.URL+"/", body))
				if status != http.StatusOK || answer != strconv.Itoa(size) || err != nil {
					t.Errorf("%d bytes: got %d %q (%v)", size, status, answer, err)
				}
			}
		}
	}
}

func TestUWSGIRejectsRetryMatch(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, uwsgiSite("127.0.0.1:1"))
	err := r.Load("{\n\tadmin {$ADMIN}\n}\n{$SITE} {\n\treverse_proxy 127.0.0.1:1 {\n\t\tlb_retries 2\n" +
		"\t\tlb_retry_match method GET\n\t\ttransport uwsgi\n\t}\n}\n")
	if err == nil || !strings.Contains(err.Error(), "remove lb_retry_match") {
		t.Errorf("got %v", err)
	}
}

// A slow upload reaches no worker before it is complete, and one that breaks off never does.
func TestUWSGIBuffersUploads(t *testing.T) {
	t.Parallel()
	worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%04d", len(r.Body))
	})
	r := peers.StartRelay(t, uwsgiSite(worker.Address))
	address := strings.TrimPrefix(r.URL, "http://")
	before := worker.Dialed()
	upload := func(head string) net.Conn {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"+head); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	slow := upload("Content-Length: 8\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n")
	in := bufio.NewReader(slow)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("the server asks for the body by %q (%v)", line, err)
	}
	upload("Content-Length: 100\r\n\r\nabc").Close()
	upload("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").Close()
	if status, _, err := once(newRequest(t, http.MethodGet, r.URL+"/", nil)); status != http.StatusOK || err != nil {
		t.Errorf("beside slow uploads: %d (%v)", status, err)
	}
	if n := worker.Dialed() - before; n != 1 {
		t.Errorf("%d connections, want that of the one whole request", n)
	}
	if _, err := io.WriteString(slow, "abcdefgh"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(in)
	if err != nil || !strings.HasSuffix(string(answer), "0008") {
		t.Errorf("got %q (%v)", answer, err)
	}
	if n := worker.Dialed() - before; n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	got := worker.Got()
	last := got[len(got)-1].Vars
	if last["CONTENT_LENGTH"] != "8" || last["HTTP_EXPECT"] != "" {
		t.Errorf("the worker is told %q", last)
	}
}

// A body beyond the limits is answered with 413, whether or not it announces its length. That is no failure
// of the upstream.
func TestUWSGIBodyLimits(t *testing.T) {
	t.Parallel()
	worker := startWorker(t, reply("HTTP/1.1 204 No Content\r\n\r\n"))
	for name, passive := range map[string]string{"": "", "with passive health checks": "\n\t\tfail_duration 1m"} {
		t.Run(name, func(t *testing.T) {
			r := peers.StartRelay(t, `{
	admin {$ADMIN}
}
{$SITE} {
	request_body /limited {
		max_size 1000
	}
	reverse_proxy `+worker.Address+` {
		transport uwsgi {
			request_memory 500
			request_disk 100KB
		}`+passive+`
	}
}
`)
			for _, c := range []struct {
				path   string
				size   int
				length bool
				want   int
			}{
				{"/limited", 1000, true, 204},
				{"/limited", 1000, false, 204},
				{"/limited", 1001, true, 413},
				{"/limited", 1001, false, 413},
				{"/", 100_500, true, 204},
				{"/", 100_500, false, 204},
				{"/", 100_501, true, 413},
				{"/", 100_501, false, 413},
				{"/", 1, true, 204},
			} {
				var body io.Reader = strings.NewReader(strings.Repeat("x", c.size))
				if !c.length {
					body = io.MultiReader(body)
				}
				req := newRequest(t, http.MethodPost, r.URL+c.path, body)
				if c.length {
					req.Header.Set("Expect", "100-continue")
				}
				if status, _, err := once(req); status != c.want || err != nil {
					t.Errorf("%s, %d bytes, length %t: got %d (%v), want %d", c.path, c.size, c.length, status, err, c.want)
				}
			}
		})
	}
}

// A full disk costs the uploads that do not fit into memory, and nothing else.
func TestUWSGIFullDisk(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 3_000_000)
	worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(large), large)
	})
	// A limit on the size of files is to a program as a full disk.
	r := peers.StartRelayUnder(t, uwsgiSite(worker.Address), "prlimit", "--fsize=200000:200000")
	upload := func(size int) (int, error) {
		status, _, err := once(newRequest(t, http.MethodPost, r.URL+"/", strings.NewReader(large[:size])))
		return status, err
	}
	// The answer comes before the body is complete.
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"
	if _, err := io.WriteString(conn, head+large[:300_000]); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 507 ") {
		t.Errorf("a large upload: %q (%v), want 507", line, err)
	}
	testkit.Eventually(t, "the log tells of the upload", func() error {
		if !strings.Contains(r.Log(), "buffering the request body") {
			return errors.New("not yet")
		}
		return nil
	})
	if status, err := upload(200_000); status != http.StatusOK || err != nil {
		t.Errorf("a smaller upload: %d (%v)", status, err)
	}
	slow := readSlowly(t, r, "/")
	testkit.Eventually(t, "the log tells of the answer", func() error {
		if !strings.Contains(r.Log(), "uwsgi response not buffered on disk") {
			return errors.New("not yet")
		}
		return nil
	})
	if n, err := io.Copy(io.Discard, slow); err != nil || n < int64(len(large)) {
		t.Errorf("%d bytes (%v)", n, err)
	}
}

// readSlowly sends a GET by a connection with a small buffer, and reads nothing of the answer.
func readSlowly(t *testing.T, r *peers.Relay, path string) net.Conn {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
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

// A client that goes away takes its worker's connection along, before the answer and within it.
func TestUWSGIClientGoes(t *testing.T) {
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

// A body that does not arrive within read_body gets 408, as it does from nginx, and occupies no worker.
func TestUWSGISlowBodyTimesOut(t *testing.T) {
	t.Parallel()
	worker := startWorker(t, reply("HTTP/1.1 204 No Content\r\n\r\n"))
	r := peers.StartRelay(t, `{
	admin {$ADMIN}
	servers {
		timeouts {
			read_body 300ms
		}
	}
}
{$SITE} {
	reverse_proxy `+worker.Address+` {
		transport uwsgi
	}
}
`)
	before := worker.Dialed()
	address := strings.TrimPrefix(r.URL, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+address+"\r\nContent-Length: 8\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := worker.Dialed() - before; resp.StatusCode != http.StatusRequestTimeout || n != 0 {
		t.Errorf("status %d with %d connections to the worker, want 408 and none", resp.StatusCode, n)
	}
}

// A worker that answers a large body without reading it is heard, and does not block.
func TestUWSGIAnswerBeforeBody(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("y", 5_000_000)
	worker := startRawWorker(t, func(conn net.Conn) {
		_, _ = io.ReadFull(conn, make([]byte, 4))
		fmt.Fprintf(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s", len(large), large)
		// A close with bytes unread would be a reset, which may overtake the answer.
		_, _ = io.Copy(io.Discard, conn)
	})
	r := peers.StartRelay(t, uwsgiSite(worker.Address))
	body := strings.NewReader(strings.Repeat("x", 20_000_000))
	status, answer, err := once(newRequest(t, http.MethodPost, r.URL+"/", body))
	if status != http.StatusForbidden || len(answer) != len(large) || err != nil {
		t.Errorf("got %d, %d bytes (%v)", status, len(answer), err)
	}
}

// Active health checks go through the transport.
func TestUWSGIHealthChecks(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	status := "200 OK"
	worker := startWorker(t, func(conn net.Conn, r uwsgiRequest) {
		mu.Lock()
		defer mu.Unlock()
		code := "200 OK"
		if r.Vars["PATH_INFO"] == "/healthy" {
			code = status
		}
		fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", code)
	})
	r := peers.StartRelay(t, "{\n\tadmin {$ADMIN}\n}\n{$SITE} {\n\treverse_proxy "+worker.Address+
		" {\n\t\thealth_uri /healthy?x\n\t\thealth_interval 20ms\n\t\ttransport uwsgi\n\t}\n}\n")
	becomes := func(want int) {
		t.Helper()
		testkit.Eventually(t, "the site answers "+strconv.Itoa(want), func() error {
			if got, _, err := once(newRequest(t, http.MethodGet, r.URL+"/", nil)); got != want {
				return fmt.Errorf("%d (%v)", got, err)
			}
			return nil
		})
	}
	becomes(200)
	mu.Lock()
	status = "500 Oops"
	mu.Unlock()
	becomes(503)
	mu.Lock()
	status = "200 OK"
	mu.Unlock()
	becomes(200)
}

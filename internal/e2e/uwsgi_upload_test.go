package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

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
					t.Errorf("%s, %d bytes, length %t: got %d (%v), want %d", c.path, c.size, c.length, status, err,
						c.want)
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
	if _, err := io.WriteString(conn,
		"POST / HTTP/1.1\r\nHost: "+address+"\r\nContent-Length: 8\r\n\r\nabc"); err != nil {
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

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Whatever a worker does with a request, no other worker gets it, for GET neither. The client learns that
// something is wrong.
func TestUWSGIRequestsRunAtMostOnce(t *testing.T) {
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
		"other protocols": {
			reply("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
			http.StatusBadGateway,
		},
		"a short body": {reply("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), 0},
		"a short long body": {
			reply("HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + strings.Repeat("x", 599_999)),
			0,
		},
		"half a chunk":  {reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"), 0},
		"no last chunk": {reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), 0},
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

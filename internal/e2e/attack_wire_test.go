package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// Bytes behind a handshake are never taken for a request, whether the handshake is accepted or refused: a proxy in
// front may have taken them for frames of another client's websocket.
func TestSmuggling(t *testing.T) {
	f := newFortress(t,
		"unauthenticated reject\n\t\torigins https://ui.example.com\n\t\tbackplane {\n\t\t\tsecret s3cret\n\t\t}")
	f.bystander(t)
	const in, out = "Cookie: awx_sessionid=alice; csrftoken=t", "Cookie: csrftoken=t"
	type handshake struct {
		name string
		make func(w *wstest.Wire) string
	}
	of := func(name, path string, headers ...string) handshake {
		return handshake{name, func(w *wstest.Wire) string { return w.Handshake(path, headers...) }}
	}
	replace := func(name, from, to string) handshake {
		return handshake{name, func(w *wstest.Wire) string {
			return strings.Replace(w.Handshake("/websocket/", in),
				from, to, 1)
		}}
	}
	for _, h := range []handshake{
		of("accepted", "/websocket/", in), of("not logged in", "/websocket/", out),
		of("another version", "/websocket/", in, "Sec-WebSocket-Version: 777"),
		of("no key", "/websocket/", in, "Sec-WebSocket-Key:"),
		of("another origin", "/websocket/", in, "Origin: https://evil.example"),
		of("no Connection: Upgrade", "/websocket/", in, "Connection: keep-alive"),
		of("a body", "/websocket/", in, "Content-Length: 4"),
		of("a body of 0 bytes", "/websocket/", in, "Content-Length: 0"),
		of("chunked", "/websocket/", in, "Transfer-Encoding: chunked"),
		of("chunked and a length", "/websocket/", in, "Transfer-Encoding: chunked\r\nContent-Length: 5"),
		of("chunked and 0 bytes", "/websocket/", in, "Content-Length: 0\r\nTransfer-Encoding: chunked"),
		of("an odd transfer encoding", "/websocket/", in, "Transfer-Encoding: xchunked"),
		of("two transfer encodings", "/websocket/", in, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
		of("a hidden transfer encoding", "/websocket/", in, "Transfer-Encoding : chunked"),
		of("two lengths", "/websocket/", in, "Content-Length: 0\r\nContent-Length: 40"),
		of("a signed length", "/websocket/", in, "Content-Length: +0"),
		of("a length in words", "/websocket/", in, "Content-Length: 0x28"),
		of("a folded header", "/websocket/", in, "X: a\r\n Content-Length: 40"),
		of("a bare line feed", "/websocket/", in, "X: a\nContent-Length: 40"),
		of("a bare carriage return", "/websocket/", in, "X: a\rContent-Length: 40"),
		of("expects", "/websocket/", in, "Expect: 100-continue\r\nContent-Length: 40"),
		of("keeps alive", "/websocket/", in, "Connection: keep-alive, Upgrade"),
		of("to peers", "/websocket/broadcast/"), of("to peers, with junk", "/websocket/relay/", "secret: junk"),
		of("an absolute URI", "http://"+strings.TrimPrefix(f.URL, "http://")+"/websocket/", in),
		of("too long cookies", "/websocket/", "Cookie: awx_sessionid=alice; x="+strings.Repeat("x", 20_000)),
		replace("POST", "GET", "POST"), replace("HTTP/1.0", "HTTP/1.1", "HTTP/1.0"),
		replace("HTTP/1.0 that keeps alive", "HTTP/1.1\r\n", "HTTP/1.0\r\nKeep-Alive: timeout=60\r\n"),
		replace("TRACE", "GET", "TRACE"),
	} {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			for _, gap := range []string{"", "0\r\n\r\n", "\r\n", "body"} {
				w := f.wire(t)
				smuggled := "GET /smuggled HTTP/1.1\r\nHost: " + w.Host + "\r\nConnection: close\r\n\r\n"
				if err := w.Write(h.make(w) + gap + smuggled); err != nil {
					t.Fatal(err)
				}
				_ = w.Conn.(*net.TCPConn).CloseWrite()
				all, _ := io.ReadAll(w.Conn)
				if strings.Contains(string(all), "smuggled") {
					t.Errorf("%q before it: answered with %q", gap, all)
				}
				if !strings.HasPrefix(string(all), "HTTP/1.") {
					t.Errorf("%q before it: no answer: %q", gap, all)
				}
			}
		})
	}
}

// What is sent before the answer is read neither gets lost nor does it fill memory.
func TestBytesBefore101(t *testing.T) {
	api := newWatchtower(t)
	f := &fortress{peers.StartRelay(t, strings.Replace(fortressFile(api.URL, ""), "timeout 2s", "timeout 30s", 1)), api}
	release := make(chan struct{})
	f.api.mu.Lock()
	f.api.odd["late"] = func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, `{"results": [{"id": 9, "username": "late"}]}`)
	}
	f.api.mu.Unlock()
	f.bystander(t)
	before := f.heap(t)
	const clients = 50
	message := wstest.MaskedFrame(0x81, `{"groups": {"jobs": ["summary"]}, "xrftoken": "t"}`)
	var all, sent sync.WaitGroup
	sent.Add(clients)
	for range clients {
		all.Go(func() {
			w, err := wstest.DialWire(t, f.URL)
			if err == nil {
				err = w.Write(w.Handshake("/websocket/", "Cookie: awx_sessionid=late; csrftoken=t") + message + strings.Repeat(wstest.MaskedFrame(0x8a, strings.Repeat("p", 125)), 2000)) // 250 KB of pongs
			}
			sent.Done()
			if err != nil {
				t.Error(err)
				return
			}
			if resp, body, err := w.Response(); err != nil || resp.StatusCode != 101 {
				t.Errorf("%v %q, %v", resp, body, err)
				return
			}
			for _, want := range []string{
				`{"accept": true, "user": 9}`,
				`{"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": ["jobs-summary"]}`,
			} {
				if got, err := w.Frame(); err != nil || string(got.Payload) != want {
					t.Errorf("%q, %v; want %q", got.Payload, err, want)
				}
			}
		})
	}
	sent.Wait()
	if now := f.heap(t); now > before+16<<20 {
		t.Errorf("%d bytes on the heap while %d clients wait, before %d", now, clients, before)
	}
	close(release)
	all.Wait()
}

// Handshakes that never end delay no client, and Caddy's own timeout, as the example for AWX sets it, ends them.
func TestSlowloris(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(filepath.Join(peers.Root(t), "examples", "awx", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	servers := "servers {\n\t\ttimeouts {\n\t\t\tread_header "
	if !strings.Contains(string(example), "read_header 10s") {
		t.Fatal("the example for AWX sets no read_header timeout")
	}
	api := newWatchtower(t)
	f := &fortress{peers.StartRelay(t, strings.Replace(fortressFile(api.URL, ""), "edgerelay {",
		servers+"3s\n\t\t}\n\t}\n\tedgerelay {", 1)), api}
	f.bystander(t)
	const attackers = 2000
	conns := make([]*wstest.Wire, attackers)
	for i := range conns {
		conns[i] = f.wire(t)
		request := conns[i].Handshake("/websocket/", "Cookie: awx_sessionid=alice")
		if err := conns[i].Write(request[:1+i%(len(request)-2)]); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	for range 20 {
		f.enter(t, "alice") // while they hang
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("twenty handshakes took %v among %d that hang", took, attackers)
	}
	var trickle, ended sync.WaitGroup
	stop := make(chan struct{})
	trickle.Go(func() { // a byte now and then does not help them
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				for _, w := range conns[:100] {
					_ = w.Write("x")
				}
			}
		}
	})
	for i, w := range conns {
		ended.Go(func() {
			_, _ = io.Copy(io.Discard, w.Conn)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("connection %d was cut after %v", i, took)
			}
		})
	}
	ended.Wait()
	close(stop)
	trickle.Wait()
	f.enter(t, "alice")
}

package uwsgi

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// packetWorker responds to one request, and sends the request's packet to the channel.
func packetWorker(t *testing.T, network, address string) (<-chan []byte, net.Listener) {
	packets := make(chan []byte, 1)
	return packets, worker(t, network, address, func(conn net.Conn) {
		head := make([]byte, headerSize)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Error(err)
			return
		}
		vars := make([]byte, binary.LittleEndian.Uint16(head[1:]))
		if _, err := io.ReadFull(conn, vars); err != nil {
			t.Error(err)
		}
		packets <- append(head, vars...)
		_, _ = io.WriteString(conn, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}")
	})
}

// Requests of the process itself reach an application over TCP and a Unix socket. REMOTE_ADDR is the address of the
// client on whose behalf the process sends the request.
func TestDirect(t *testing.T) {
	for _, c := range []struct{ network, address, url, host, client, remote string }{
		{"tcp", "127.0.0.1:0", "uwsgi://127.0.0.1:8050/api/v2/me/", "127.0.0.1:8050", "203.0.113.9", "203.0.113.9"},
		{
			"unix", filepath.Join(t.TempDir(), "uwsgi.sock"), "uwsgi+unix://localhost/api/v2/me/", "localhost",
			"2001:db8::1", "2001:db8::1",
		},
		{"tcp", "127.0.0.1:0", "uwsgi://127.0.0.1:8050/api/v2/me/", "127.0.0.1:8050", "", "127.0.0.1"},
		{
			"tcp", "127.0.0.1:0", "uwsgi://127.0.0.1:8050/api/v2/me/", "127.0.0.1:8050", "6.6.6.6, 203.0.113.9",
			"127.0.0.1",
		},
	} {
		t.Run(c.network+" "+c.client, func(t *testing.T) {
			packets, l := packetWorker(t, c.network, c.address)
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			d, err := NewDirect(ctx, c.network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequest(http.MethodGet, c.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.client != "" {
				req.Header.Set("X-Forwarded-For", c.client)
			}
			req.Header.Set("Cookie", "awx_sessionid=x")
			client := http.Client{Transport: d}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusUnauthorized || string(body) != "{}" {
				t.Errorf("%s %q (%v)", resp.Status, body, err)
			}
			vars := decode(t, <-packets)
			for name, want := range map[string]string{
				"REMOTE_ADDR": c.remote, "PATH_INFO": "/api/v2/me/", "HTTP_HOST": c.host, "REQUEST_METHOD": "GET",
				"HTTP_COOKIE":  "awx_sessionid=x",
				"UWSGI_SCHEME": "http",
			} {
				if vars[name] != want {
					t.Errorf("%s is %q, want %q", name, vars[name], want)
				}
			}
		})
	}
}

func TestParseAddress(t *testing.T) {
	for url, want := range map[string]string{
		"uwsgi://127.0.0.1:8050":           "tcp 127.0.0.1:8050",
		"uwsgi://awx-web:8050/":            "tcp awx-web:8050",
		"uwsgi://[::1]:8050":               "tcp [::1]:8050",
		"uwsgi+unix:///run/awx/uwsgi.sock": "unix /run/awx/uwsgi.sock",
		"uwsgi+unix//run/awx/uwsgi.sock":   "unix /run/awx/uwsgi.sock",
	} {
		network, address, ok, err := ParseAddress(url)
		if got := network + " " + address; !ok || err != nil || got != want {
			t.Errorf("%s: %s (%t, %v), want %s", url, got, ok, err, want)
		}
	}
	for _, url := range []string{
		"uwsgi://", "uwsgi://127.0.0.1", "uwsgi://:8050", "uwsgi://127.0.0.1:0", "uwsgi://127.0.0.1:65536",
		"uwsgi://127.0.0.1:8050/awx",
		"uwsgi://alice:hunter2@127.0.0.1:8050", "uwsgi://127.0.0.1:8050?hunter2", "uwsgi://ht!tp://hunter2",
		"uwsgi+unix://", "uwsgi+unix:///",
		"uwsgi+unix://run/uwsgi.sock", "uwsgi+unix:run/uwsgi.sock", "uwsgi+unix://host/run/hunter2.sock",
	} {
		if network, address, ok, err := ParseAddress(url); !ok || err == nil {
			t.Errorf("%s: %s %s (%t)", url, network, address, ok)
		} else if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "uwsgi://127.0.0.1:8050") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"", "http://127.0.0.1:8054", "127.0.0.1:8050", "UWSGI", "unix//run/uwsgi.sock"} {
		if network, address, ok, err := ParseAddress(url); ok || err != nil {
			t.Errorf("%s: %s %s (%v)", url, network, address, err)
		}
	}
}

// A request of the process itself has neither the URI nor the variables of the client's request being served.
func TestDirectHidesTheClientsRequest(t *testing.T) {
	packets, l := packetWorker(t, "tcp", "127.0.0.1:0")
	config, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	d, err := NewDirect(config, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	handshake := httptest.NewRequest(http.MethodGet, "http://awx.example.com/websocket/?a=b", nil)
	replacer := caddy.NewReplacer()
	replacer.Set("http.vars.root", "/srv")
	ctx := context.WithValue(t.Context(), caddyhttp.OriginalRequestCtxKey, *handshake)
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: "198.51.100.1"})
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, replacer)
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 4433})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "uwsgi://127.0.0.1:8050/api/v2/me/?page=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.9")
	resp, err := (&http.Client{Transport: d}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	vars := decode(t, <-packets)
	for name, want := range map[string]string{
		"REQUEST_URI": "/api/v2/me/?page=1", "PATH_INFO": "/api/v2/me/", "REMOTE_ADDR": "203.0.113.9",
		"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8050", "DOCUMENT_ROOT": "",
	} {
		if vars[name] != want {
			t.Errorf("%s is %q, want %q", name, vars[name], want)
		}
	}
}

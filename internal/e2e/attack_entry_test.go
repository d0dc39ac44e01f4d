package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// entries are handshakes of a client without a login.
func entries() map[string]func(w *wstest.Wire) string {
	list := map[string]func(w *wstest.Wire) string{}
	for _, path := range []string{
		"/websocket", "/websocket/", "/api/websocket/", "/api/controller/v2/websocket/",
		"/websocket/?user=admin&http.auth.user.id=admin", "/%77ebsocket/", "//websocket/", "/websocket//",
		"/./websocket/", "/x/../websocket/", "/..;/websocket/", "/websocket;v=1/", "/WEBSOCKET/", "/websocket%2f",
		"/websocket%00/", "/websocket/%2e", "/websocket/#/",
		"http://elsewhere.example/websocket/", "/websocket/broadcast/", "/websocket/relay/", "*", "/\\websocket/",
	} {
		list["path "+path] = func(w *wstest.Wire) string { return w.Handshake(path) }
	}
	for _, line := range []string{
		"Upgrade: websocket\r\nUpgrade: websocket", "Upgrade: h2c, websocket", "Upgrade: websocket, h2c",
		"Upgrade: WebSocket/13", "Connection: upgrade, close\r\nConnection: Upgrade",
		"X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1;proto=https",
		"X-Forwarded-Host: localhost", "X-Forwarded-Proto: https", "Via: 1.1 localhost",
		"X-Forwarded-User: admin", "X-Remote-User: admin", "Remote-User: admin", "REMOTE_USER: admin",
		"X-Auth-Request-User: admin", "X-WEBAUTH-USER: admin", "X-Client-Cert: admin",
		"X-Original-URL: /public", "X-Rewrite-URL: /public", "X-HTTP-Method-Override: OPTIONS", "X-HTTP-Method: HEAD",
		"X-Method-Override: TRACE",
		"Cookie:", "Cookie: ;", "Cookie: awx_sessionid=", "Cookie: awx_sessionid=\"\"", "Cookie: awx_sessionid",
		"Cookie: sessionid=alice", "Cookie: AWX_SESSIONID=alice", "Cookie: awx_sessionid_=alice",
		"Cookie: xawx_sessionid=alice", "Cookie: $awx_sessionid=alice", "Cookie: awx_sessionid%20=alice",
		"Cookie: csrftoken=alice", "Cookie: x=awx_sessionid=alice", "Cookie: awx_sessionid=alice,x",
		"Cookie: awx_sessionid=ALICE", "Cookie: awx_sessionid=alice\x85",
		"Cookie: awx_sessionid=alice; awx_sessionid=nobody", "Cookie2: awx_sessionid=alice",
		"Set-Cookie: awx_sessionid=alice",
		"Authorization:", "Authorization: Basic Og==", "Authorization: Basic YWRtaW46", "Authorization: Bearer",
		"Authorization: Bearer null", "Authorization: Digest username=\"admin\"",
		"Proxy-Authorization: Basic YWxpY2U6cHc=",
		"Cookie: {env.HOME}", "Authorization: {http.auth.user.id}", "http.auth.user.id: admin",
		"secret: HMAC-SHA256 0:00", "Sec-WebSocket-Protocol: edgerelay.v1",
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", "Expect: 100-continue",
		"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Early-Data: 1", "Range: bytes=0-1", "If-None-Match: *",
	} {
		list["header "+line] = func(w *wstest.Wire) string { return w.Handshake("/websocket/", line) }
	}
	for from, to := range map[string]string{
		"GET ": "POST ", "GET": "CONNECT", "GET /websocket/": "OPTIONS *", "GET  ": "get ", "HTTP/1.1": "HTTP/1.0",
		" HTTP/1.1\r\n": "\r\n", "HTTP/1.1 ": "HTTP/2.0", "HTTP/1.1\r": "HTTP/1.10\r",
		"GET / ": "HEAD /websocket/ ", "GET /": "PUT /", "G": "X-HTTP-Method-Override: GET\r\nG",
	} {
		list[fmt.Sprintf("%q for %q", to, from)] = func(w *wstest.Wire) string {
			return strings.Replace(w.Handshake("/websocket/"), strings.TrimRight(from, " "), strings.TrimRight(to, " "),
				1)
		}
	}
	list["HTTP/2 with prior knowledge"] = func(*wstest.Wire) string {
		return http2.ClientPreface +
			"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	}
	return list
}

// No client without an identity is admitted, whatever the form of the handshake.
func TestUnauthenticatedClientsAreRejected(t *testing.T) {
	api := newWatchtower(t)
	const basic = "basic_auth {\n\t\tadmin $2a$04$DoRlGSxDkqVrl4hFMX9J7uXw.YO8/9H9IK58JnG6y6Vh6FbfdHq9C\n\t}"
	site := func(auth, more string) string {
		return strings.NewReplacer(
			"auth awx "+api.URL+" {\n\t\t\tcache 2s\n\t\t\ttimeout 2s\n\t\t}", auth,
			"\tedgerelay\n\trespond /sm", "\t"+more+"\n\tedgerelay\n\trespond /sm").Replace(fortressFile(api.URL,
			"backplane {\n\t\t\tsecret s3cret\n\t\t}\n\t\tlimits {\n\t\t\tconnections_per_address 0\n\t\t}"))
	}
	r := peers.StartRelay(t, site("auth awx "+api.URL, ""))
	for _, mode := range []struct{ name, file string }{
		{"auth awx", site("auth awx "+api.URL, "")},
		{"auth awx, unauthenticated reject", site("auth awx "+api.URL+"\n\t\tunauthenticated reject", "")},
		{"auth awx, not strict", site("auth awx "+api.URL+" {\n\t\t\tstrict off\n\t\t}", "")},
		{"auth caddy without a Caddy that authenticates", site("auth caddy", "")},
		{"auth caddy behind basic_auth", site("auth caddy", basic)},
		{"auth caddy, unauthenticated reject", site("auth caddy\n\t\tunauthenticated reject", "")},
	} {
		t.Run(mode.name, func(t *testing.T) {
			if err := r.Load(mode.file); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(mode.name, "auth awx") { // the door is not merely shut
				testkit.Eventually(t, "alice gets in", func() error {
					all, _, err := knock(t, r.URL,
						func(w *wstest.Wire) string {
							return w.Handshake("/websocket/",
								"Cookie: awx_sessionid=alice")
						})
					if err == nil && !strings.Contains(all, `"accept"`) {
						err = errors.New(all)
					}
					return err
				})
			}
			for name, request := range entries() {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					all, sent, err := knock(t, r.URL, request)
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(all, `"accept"`) {
						t.Errorf("%q led to %q", sent, all)
					}
					if strings.Contains(all, " 101 ") && strings.Contains(mode.name, "reject") {
						t.Errorf("a websocket for %q", sent)
					}
				})
			}
		})
	}
}

// knock sends a request and a close frame behind it, and returns all that comes back: whoever gets in is greeted at
// once.
func knock(t *testing.T, url string, request func(*wstest.Wire) string) (all, sent string, err error) {
	var w *wstest.Wire
	for range 10 { // a reload resets what waits at the listener of the configuration before
		if w, err = wstest.DialWire(t, url); !errors.Is(err, syscall.ECONNRESET) {
			break
		}
	}
	if err != nil {
		return "", "", err
	}
	defer w.Close()
	sent = request(w)
	if err := w.Write(sent + wstest.MaskedFrame(0x88, "\x03\xe8")); err != nil {
		return "", sent, err
	}
	_ = w.Conn.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(w.Conn) // a reset is as good as an end
	return string(b), sent, nil
}

// Over HTTP/2 a WebSocket begins with an extended CONNECT (RFC 8441). Caddy does not announce it, and the relay rejects
// it.
func TestNoWayInOverHTTP2(t *testing.T) {
	api := newWatchtower(t)
	address := fmt.Sprint("localhost:", testkit.FreePort(t))
	r := peers.StartRelay(t, fortressFile(api.URL,
		"")+"https://"+address+" {\n\tbind 127.0.0.1\n\ttls internal\n\tedgerelay\n\trespond \"next\"\n}\n")
	_ = r
	var conn *tls.Conn
	testkit.Eventually(t, "there is a certificate", func() (err error) {
		conn, err = tls.Dial("tcp", address,
			&tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"h2"}})
		return err
	})
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for i, fields := range [][][2]string{
		{
			{":method", "CONNECT"},
			{":protocol", "websocket"},
			{":scheme", "https"},
			{":path", "/websocket/"},
			{":authority", address},
			{"sec-websocket-version", "13"},
			{"cookie", "awx_sessionid=alice"},
		},
		{
			{":method", "GET"},
			{":scheme", "https"},
			{":path", "/websocket/"},
			{":authority", address},
			{"upgrade", "websocket"},
			{"connection", "upgrade"},
			{"sec-websocket-version", "13"},
			{"sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="},
		},
		{{":method", "CONNECT"}, {":authority", address}, {"upgrade", "websocket"}},
	} {
		var block strings.Builder
		encoder := hpack.NewEncoder(&block)
		for _, f := range fields {
			if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				t.Fatal(err)
			}
		}
		stream := uint32(2*i + 1)
		if err := framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: []byte(block.String()),
			EndHeaders: true, EndStream: i == 1,
		}); err != nil {
			t.Fatal(err)
		}
		for answered := false; !answered; {
			frame, err := framer.ReadFrame()
			if err != nil {
				t.Fatalf("stream %d: %v", stream, err)
			}
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if v, ok := f.Value(http2.SettingEnableConnectProtocol); ok && v != 0 {
					t.Error("Caddy announces extended CONNECT: browsers will use it, and the relay does not know it")
				}
			case *http2.RSTStreamFrame:
				answered = f.StreamID == stream
			case *http2.MetaHeadersFrame:
				answered = f.StreamID == stream
				if status := f.PseudoValue("status"); f.StreamID == stream && i != 2 &&
					(status == "101" || status == "200") {
					t.Errorf("stream %d: %v", stream, f.Fields)
				}
			case *http2.GoAwayFrame:
				t.Fatalf("stream %d: %v", stream, f.ErrCode)
			}
		}
	}
	// The same connection serves what it is for.
	resp, err := http.Get(r.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// The admin API stands where Caddy has it, and nowhere else.
func TestAdminOnlyWhereCaddyHasIt(t *testing.T) {
	f := newFortress(t, "")
	f.bystander(t)
	admin := strings.TrimPrefix(f.Admin, "http://")
	for _, path := range []string{
		"/edgerelay/health", "/edgerelay/peers", "/edgerelay/plugins", "/edgerelay/plugins/x",
		"/edgerelay/plugins/x/logs", "/edgerelay/publish", "/config/", "/load", "/metrics", "/debug/pprof/heap",
		"/websocket/../edgerelay/publish", "//edgerelay/publish", "http://" + admin + "/edgerelay/publish",
	} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			for _, host := range []string{strings.TrimPrefix(f.URL, "http://"), admin, "localhost:2019"} {
				w := f.wire(t)
				body := `{"group": "bystander-1", "data": "forged"}`
				if err := w.Write(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, path, host, len(body), body)); err != nil {
					t.Fatal(err)
				}
				// An unknown host has no site, which Caddy answers with an empty 200.
				resp, got, err := w.Response()
				if err != nil || got != "next" && got != "" {
					t.Errorf("%s %s, Host %s: %v %q, %v", method, path, host, resp, got, err)
				}
			}
		}
	}
	// A page of another site, or one whose name was bound to this address, does not reach it either.
	for _, header := range []string{"Host: evil.example", "Origin: https://evil.example", "Sec-Fetch-Mode: no-cors"} {
		w, err := wstest.DialWire(t, f.Admin)
		if err != nil {
			t.Fatal(err)
		}
		request := w.Handshake("/edgerelay/publish", "Upgrade:", "Connection: close", "Content-Length: 2", header) +
			"{}"
		if err := w.Write(strings.Replace(request, "GET", "POST", 1)); err != nil {
			t.Fatal(err)
		}
		if resp, body, err := w.Response(); err != nil || resp.StatusCode/100 != 4 {
			t.Errorf("%s: %v %q, %v", header, resp, body, err)
		}
	}
	w, err := wstest.DialWire(t, f.Admin)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Shake("/websocket/", "Cookie: awx_sessionid=alice"); err == nil {
		t.Error("a websocket on the admin API")
	}
}

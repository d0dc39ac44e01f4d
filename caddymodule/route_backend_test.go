package caddymodule

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// backendSite is a site that answers WebSocket-over-HTTP: it echoes, and subscribes each client to the channel room.
type backendSite struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func startBackendSite(t *testing.T) *backendSite {
	b := &backendSite{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.requests, b.bodies = append(b.requests, r), append(b.bodies, string(body))
		b.mu.Unlock()
		switch {
		case r.URL.Query().Get("deny") != "":
			http.Error(w, "not today", http.StatusForbidden)
			return
		case !webhttp.IsEvents(r.Header.Get("Content-Type")):
			_, _ = io.WriteString(w, r.Method+" "+r.Header.Get("Grip-Sig")+r.Header.Get("Meta-User"))
			return
		}
		w.Header().Set("Content-Type", webhttp.ContentType)
		if strings.HasPrefix(string(body), "OPEN") {
			w.Header().Set("Sec-WebSocket-Extensions", `grip; message-prefix=""`)
			w.Header().Set("Sec-WebSocket-Protocol", "chat")
			_, _ = io.WriteString(w, "OPEN\r\nTEXT 2c\r\nc:{\"type\": \"subscribe\", \"channel\": \"room\"}  \r\nTEXT 7\r\nwelcome\r\n")
			return
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *backendSite) seen() (bodies []string, last *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.bodies...), b.requests[len(b.requests)-1]
}

// publish publishes a message for the clients in the channel room.
func (b *backendSite) publish(s *site, text string) {
	s.t.Helper()
	items, err := webhttp.ParsePublish(fmt.Appendf(nil, `{"items": [{"channel": "room", "ws-message": {"content": %q}}]}`, text))
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := items[0].Message()
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := node.Current().Hub.PublishMessage(context.Background(), m); err != nil {
		s.t.Fatal(err)
	}
}

// The node is a member of the channel layer's group before the client knows of the open connection.
func TestBackendSubscribesBeforeTheUpgrade(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", webhttp.ContentType)
		w.Header().Set("Sec-WebSocket-Extensions", "grip")
		text := fmt.Sprintf(`c:{"type": "subscribe", "channel": %q}`, r.URL.Query().Get("channel"))
		_, _ = fmt.Fprintf(w, "OPEN\r\nTEXT %x\r\n%s\r\n", len(text), text)
	}))
	t.Cleanup(backend.Close)
	redis, s := peers.StartRedis(t), newSite(t)
	link := testkit.StartProxy(t, redis.Addr)
	s.mustLoad("auth none\nchannel_layer redis redis://"+link.Addr,
		"edgerelay {\nroute /ws/ {\nmessages backend "+backend.URL+"\n}\n}")
	link.Slow(20 * time.Millisecond)
	defer link.Slow(0)
	for n := range 3 {
		channel := fmt.Sprint("room-", n)
		s.dial("/ws/?channel="+channel, nil)
		if got := redis.Do("ZCARD", "asgi:group:"+webhttp.Group(channel)); got != int64(1) {
			t.Errorf("%s has %v members after the handshake", channel, got)
		}
	}
}

func TestRouteWithBackend(t *testing.T) {
	b := startBackendSite(t)
	s := newSite(t)
	config := func(more string) string {
		return `edgerelay {
	route /ws/{room}/ {
		messages backend ` + b.URL + ` {
			grip {
				key s3cret
			}
			channels orders-*
			` + more + `
		}
	}
}
reverse_proxy ` + b.URL
	}
	s.mustLoad("auth none", config("timeout 5s"))
	c := &routeClient{s, s.dial("/ws/lobby/?x=1", http.Header{
		"Cookie": {"sessionid=1"}, "Grip-Sig": {"forged"}, "Sec-Websocket-Protocol": {"other", "chat"},
	})}
	c.next("welcome")
	if got := c.socket.Subprotocol(); got != "chat" {
		t.Errorf("subprotocol %q", got)
	}
	c.send("hello")
	c.next("hello")
	_, r := b.seen()
	if r.RequestURI != "/ws/lobby/?x=1" || r.Header.Get("Cookie") != "sessionid=1" || len(r.Header["Grip-Sig"]) != 1 ||
		strings.Count(r.Header.Get("Grip-Sig"), ".") != 2 || r.Header.Get("X-Forwarded-For") == "" {
		t.Errorf("request %s %v", r.RequestURI, r.Header)
	}
	// A reload applies to the open connection, which stays.
	s.mustLoad("auth none", config("headers Cookie"))
	b.publish(s, "published")
	c.next("published")
	_, metrics := s.get("http://" + s.admin + "/metrics")
	for _, want := range []string{
		`edgerelay_backend_connections{route="/ws/{room}/"} 1`, `edgerelay_backend_messages_total{route="/ws/{room}/"} 1`,
		`edgerelay_backend_requests_total{route="/ws/{room}/"} 2`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	_, status := s.get("http://" + s.admin + "/edgerelay/status")
	want := `"backend":{"busy":0,"failed":0,"followed":0,"held":0,"messages":1,"queued":0,"requests":2,"retries":0}`
	if !strings.Contains(status, want) {
		t.Errorf("the status lacks %s:\n%s", want, status)
	}
	if err := c.socket.Close(4000); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the backend sees the close", func() bool {
		bodies, _ := b.seen()
		return bodies[len(bodies)-1] == "CLOSE 2\r\n\x0f\xa0\r\n"
	})
}

// What only the relay may send does not come from clients.
func TestBackendIsGuarded(t *testing.T) {
	b := startBackendSite(t)
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay {\n\troute /ws/ {\n\t\tmessages backend "+b.URL+"\n\t}\n}\nreverse_proxy "+b.URL)
	for _, c := range []struct {
		path, kind string
		status     int
		body       string
	}{
		{"/ws/", webhttp.ContentType, 415, "this media type is not accepted from clients\n"},
		{"/anywhere", "Application/WebSocket-Events; charset=x", 415, "this media type is not accepted from clients\n"},
		{"/anywhere", "application/websocket-events\xa0", 415, "this media type is not accepted from clients\n"}, // a space in Python
		{"/anywhere", "\x85application/websocket-events", 415, "this media type is not accepted from clients\n"},
		{"/ws/", "text/plain", 200, "POST "},
		{"/anywhere", "text/plain", 200, "POST u"},
	} {
		r, err := http.NewRequest(http.MethodPost, "http://"+s.addr+c.path, strings.NewReader("OPEN\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.kind)
		r.Header.Set("Grip-Sig", "forged")
		r.Header["Grip_Sig"] = []string{"forged"}
		r.Header.Set("Meta-User", "u")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || string(body) != c.body {
			t.Errorf("%s %s: %d %q, want %d %q", c.path, c.kind, resp.StatusCode, body, c.status, c.body)
		}
	}
	_, resp, err := wstest.Dial(t, "http://"+s.addr+"/ws/?deny=1", http.Header{})
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("%v, %v; want the backend's 403", resp, err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "not today\n" {
		t.Errorf("body %q", body)
	}
}

// The site gets signed requests for paths of the route only: none that it could read as another path.
func TestBackendGetsNoDotSegments(t *testing.T) {
	b := startBackendSite(t)
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay {\n\troute /ws/{room}/ {\n\t\tmessages backend "+b.URL+"\n\t}\n}")
	for _, path := range []string{"/admin/%2e%2e/ws/a/", "/admin/..%2fws/a/", "/ws/./a/", "/ws/b%2F..%2Fa/"} {
		if resp, _ := s.ask(path); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", path, resp.StatusCode)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.requests) > 0 {
		t.Errorf("the backend got %s", b.requests[0].RequestURI)
	}
}

func TestBackendSettingsAreChecked(t *testing.T) {
	for block, want := range map[string]string{
		"messages backend":                                        "takes the address",
		"messages backend ftp://x":                                "invalid URL",
		"messages backend uwsgi://x":                              "invalid address",
		"messages backend http://x {\nconcurrency 0\n}":           "above 0",
		"messages backend http://x {\ngrip {\n}\n}":               "key is missing",
		"messages backend http://x {\ngrip {\nkey base64:%\n}\n}": "not base64",
		"messages backend http://x {\nheaders Grip-Sig\n}":        "belongs to the protocol",
		"messages backend http://x {\nchannels a/b\n}":            "not a group name",
		"messages backend http://x {\nspeed 3\n}":                 "has no setting",
	} {
		s := newSite(t)
		err := s.load(s.file("auth none", "edgerelay {\n\troute /ws/ {\n"+block+"\n\t}\n}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", block, err, want)
		}
	}
}

package caddymodule

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// talk has a client of a function greeted, ping, and get what it publishes.
func talk(t *testing.T, w *wstest.Wire) {
	t.Helper()
	for _, step := range [][2]string{
		{"ping", "pong"},
		{`{"do":"echo","text":"` + strings.Repeat("e", 3000) + `"}`, strings.Repeat("e", 3000)},
		{`{"do":"leave","group":"room_1"}`, "0"},
		{`{"do":"publish","group":"room_1","text":"to others"}`, "0"},
		{`{"do":"join","group":"room_1"}`, "0"},
		{`{"do":"recall"}`, "room_1"},
	} {
		if err := w.Write(wstest.MaskedFrame(0x81, step[0])); err != nil {
			t.Fatal(err)
		}
		wantFrame(t, w, 0x81, step[1])
	}
	if _, err := node.Current().Hub.Publish(t.Context(), "room_1", []byte("to all")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, w, 0x81, "to all")
}

func TestFunctionOverHTTP2(t *testing.T) {
	s := http2Site(t, functionOptions(t, ""), functionRoute)
	watcher := s.dialRoute("/watch/", nil)
	conn := s.connect()
	w, _ := open(t, conn, "/ws/room_1/", "welcome")
	talk(t, w)
	_, resp, _, err := conn.Connect("/ws/room_1/?teapot")
	if err != nil || resp.StatusCode != http.StatusTeapot {
		t.Errorf("a client that the function refuses: %v, %v", resp, err)
	}
	if err := w.Write(wstest.MaskedFrame(0x88, "\x03\xe8bye")); err != nil {
		t.Fatal(err)
	}
	watcher.next("bye")
}

func TestFunctionOverHTTP3(t *testing.T) {
	s := newSite(t)
	s.loadHTTP3(functionOptions(t, ""), functionRoute)
	conn := s.dialHTTP3()
	w, resp := connectHTTP3(t, conn, "/ws/room_1/", "websocket")
	if w == nil {
		t.Fatal(resp.Status)
	}
	wantFrame(t, w, 0x81, "welcome")
	talk(t, w)
	s.loadHTTP3(functionOptions(t, "memory 8MiB"), functionRoute) // another module, and the same stream
	talk(t, w)
	if _, resp := connectHTTP3(t, s.dialHTTP3(), "/ws/room_1/?deny", "websocket"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a client that the function refuses: %s", resp.Status)
	}
}

// A function needs its clients' messages: other doors are refused, and say what to do.
func TestFunctionRefusesOtherDoors(t *testing.T) {
	s := newSite(t)
	s.mustLoad(functionOptions(t, ""), functionRoute)
	ask := func(path, accept string) (int, string) {
		resp, body := s.request(http.MethodGet, path, "", "Accept: "+accept)
		return resp.StatusCode, body
	}
	for path, accept := range map[string]string{"/ws/room_1/": "text/event-stream", "/ws/room_1/?wait=10": "*/*"} {
		if status, body := ask(path, accept); status != http.StatusNotAcceptable || !strings.Contains(body, "open a WebSocket") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := ask("/ws/room_1/", "text/html"); status != 200 || body != "next" {
		t.Errorf("a page: %d %s", status, body)
	}
	s.mustLoad(functionOptions(t, "")+"\nevent_streams off\nlong_polls off", functionRoute)
	if status, body := ask("/ws/room_1/", "text/event-stream"); status != 200 || body != "next" {
		t.Errorf("with the door closed: %d %s", status, body)
	}
}

// A client that the function lets join a group is present there.
func TestFunctionWithPresence(t *testing.T) {
	s := newSite(t)
	s.mustLoad(strings.Replace(functionOptions(t, ""), "auth none", "auth caddy {\nallow room_*\n}", 1), `map {query.u} {http.auth.user.id} {
	~(.*) ${1}
}
edgerelay {
	route /ws/{room}/ {
		function f
		on presence.join json joined=user count
		on presence.leave json left=user count
		presence {
			grace 100ms
			groups room_*
		}
	}
}`)
	// The fixture reads the whole query as its instruction, so that "u=ann" is none.
	ann := s.dialRoute("/ws/room_1/?u=ann", nil)
	ann.next("welcome")
	ann.next(`{"joined": "ann", "count": 1}`)
	bob := s.dialRoute("/ws/room_1/?u=bob", nil)
	bob.next("welcome")
	ann.next(`{"joined": "bob", "count": 2}`)
	bob.next(`{"joined": "bob", "count": 2}`)
	bob.send(`{"do":"leave","group":"room_1"}`)
	bob.next("0")
	ann.next(`{"left": "bob", "count": 1}`)
}

// Compression changes nothing about a function's frames, and works for events of its groups.
func TestFunctionWithCompression(t *testing.T) {
	s := newSite(t)
	s.mustLoad(functionOptions(t, "")+"\ncompression on", functionRoute)
	c, resp, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/ws/room_1/",
		&websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if !strings.Contains(resp.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate") {
		t.Errorf("no compression: %v", resp.Header)
	}
	long := strings.Repeat("compress me ", 400)
	want := []string{"welcome"}
	send := func(m map[string]any, answers ...string) {
		text, _ := json.Marshal(m)
		if err := c.Write(t.Context(), websocket.MessageText, text); err != nil {
			t.Fatal(err)
		}
		want = append(want, answers...)
	}
	for range 3 {
		send(map[string]any{"do": "echo", "text": long}, long)
		send(map[string]any{"do": "publish", "group": "room_1", "text": long}, long, "0")
		send(map[string]any{"do": "echo", "text": "short"}, "short")
	}
	got := map[string]int{}
	for range want {
		kind, text, err := c.Read(t.Context())
		if err != nil || kind != websocket.MessageText {
			t.Fatal(kind, err)
		}
		got[string(text)]++
	}
	for _, text := range want {
		if got[text]--; got[text] < 0 {
			t.Errorf("%.20q is missing", text)
		}
	}
}

// callsOf returns how many calls of f have ended, and how many were not made.
func callsOf(t testing.TB) (calls, busy uint64) {
	t.Helper()
	for _, h := range node.Current().Plugins.Load().Pipeline.Health() {
		if h.Name == "f" {
			return h.Calls, h.CallsBusy
		}
	}
	t.Fatal("no plugin f")
	return 0, 0
}

// A drain tells the function of each client.
func TestFunctionIsDrained(t *testing.T) {
	const clients = 20
	s := newSite(t)
	s.mustLoad(functionOptions(t, "")+"\ndrain 100ms", functionRoute)
	list := make([]*routeClient, clients)
	for i := range list {
		list[i] = s.dialRoute("/ws/room_1/", nil)
		list[i].next("welcome")
	}
	if code, _, text := s.drain("POST", ""); code != http.StatusAccepted {
		t.Fatal(code, text)
	}
	for _, c := range list {
		c.closed(relay.CloseRestart)
	}
	testkit.Eventually(t, "on_connect and on_close of each client", func() bool {
		calls, busy := callsOf(t)
		return calls == 2*clients && busy == 0
	})
}

// A function that fails for everybody refuses at once, and says when to try again.
func TestFailingFunctionIsSuspended(t *testing.T) {
	s := newSite(t)
	s.mustLoad(functionOptions(t, "max_failures 2\ncooldown 40s"), functionRoute)
	for range 8 { // of the same address
		if resp, _ := s.ask("/ws/room_1/?fail"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "5" {
			t.Errorf("a failing call: %s, %s", resp.Status, resp.Header.Get("Retry-After"))
		}
	}
	calls, _ := callsOf(t)
	resp, _ := s.ask("/ws/room_1/")
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusServiceUnavailable || err != nil || after < 6 || after > 40 {
		t.Errorf("while on_connect is suspended: %s, %v", resp.Status, resp.Header)
	}
	if now, _ := callsOf(t); now != calls {
		t.Errorf("%d calls while on_connect is suspended", now-calls)
	}
	var open plugins.OpenBreaker
	for _, h := range node.Current().Plugins.Load().Pipeline.Health() {
		for _, open = range h.OpenBreakers {
		}
	}
	if open.Hook != "on_connect" {
		t.Errorf("open breakers: %+v", open)
	}
	if _, text := s.get("http://" + s.admin + "/metrics"); !strings.Contains(text, `edgerelay_plugin_breaker_open{plugin="f"} 1`) {
		t.Error(matching(text, "edgerelay_plugin_breaker_open"))
	}
	// Another module begins with a closed breaker.
	s.mustLoad(functionOptions(t, "max_failures 2\ncooldown 40s\nmemory 8MiB"), functionRoute)
	s.dialRoute("/ws/room_1/", nil).next("welcome")
}

package caddymodule

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// Who may not have a stream gets a response that tells why.
func TestStreamRejections(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, streamSite)
	const accept, json = "Accept: text/event-stream", "Content-Type: application/json"
	for name, c := range map[string]struct {
		status             int
		method, path, body string
		header             []string
	}{
		"no groups":            {400, "GET", "/websocket/", "", []string{accept}},
		"a bad group":          {400, "GET", "/websocket/?group=%20", "", []string{accept}},
		"no kind":              {400, "GET", "/websocket/?group=jobs", "", []string{accept}},
		"bad groups":           {400, "GET", "/websocket/?groups=[]", "", []string{accept}},
		"another protocol":     {400, "GET", "/websocket/?group=a-b&protocol=x", "", []string{accept}},
		"a bad number":         {400, "GET", "/websocket/?group=a-b&latest=x", "", []string{accept}},
		"too many groups":      {400, "GET", "/websocket/?group=a-b" + strings.Repeat("&group=a-b", 32), "", []string{accept}},
		"no JSON":              {400, "POST", "/websocket/", "x", []string{accept, json}},
		"a form":               {415, "POST", "/websocket/", "{}", []string{accept, "Content-Type: text/plain"}},
		"a long body":          {413, "POST", "/websocket/", `"` + strings.Repeat("x", 70_000) + `"`, []string{accept, json}},
		"no token":             {403, "POST", "/websocket/", `{"groups": {"a": ["b"]}}`, []string{accept, json}},
		"the broadcast group":  {403, "GET", "/websocket/?group=broadcast-group_send", "", []string{accept}},
		"another origin":       {403, "GET", "/websocket/?group=a-b", "", []string{accept, "Origin: https://evil.example"}},
		"another site":         {403, "GET", "/websocket/?group=a-b", "", []string{accept, "Sec-Fetch-Site: cross-site"}},
		"a sibling":            {403, "GET", "/websocket/?group=a-b", "", []string{accept, "Sec-Fetch-Site: same-site"}},
		"a poll of a site":     {403, "GET", "/websocket/?group=a-b&wait=0", "", []string{"Sec-Fetch-Site: cross-site"}},
		"a bad wait":           {400, "GET", "/websocket/?group=a-b&wait=61", "", nil},
		"a wait that is no":    {400, "GET", "/websocket/?group=a-b&wait=NaN", "", nil},
		"an allowed origin":    {200, "GET", "/websocket/?group=a-b", "", []string{accept, "Origin: https://good.example", "Sec-Fetch-Site: cross-site"}},
		"the same origin":      {200, "GET", "/websocket/?group=a-b", "", []string{accept, "Sec-Fetch-Site: same-origin"}},
		"some groups":          {200, "GET", "/websocket/?group=a-b&group=broadcast-group_send", "", []string{accept}},
		"a token":              {200, "POST", "/websocket/", `{"groups": {"a": ["b"]}, "xrftoken": "t"}`, []string{accept, json, "Cookie: csrftoken=t"}},
		"denied, framed":       {200, "GET", "/websocket/?group=broadcast-group_send&protocol=edgerelay.events.v1", "", []string{accept}},
		"a route, any groups":  {200, "GET", "/ws/a/?group=x", "", []string{accept}},
		"a route's body":       {200, "POST", "/ws/a/", `{"since": {}}`, []string{accept, json}},
		"a route without name": {404, "GET", "/ws/%20/", "", []string{accept}},
		"a preflight":          {204, "OPTIONS", "/websocket/", "", []string{"Origin: https://good.example", "Access-Control-Request-Method: POST"}},
	} {
		resp, body := s.request(c.method, c.path, c.body, c.header...)
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d %q, want %d", name, resp.StatusCode, body, c.status)
		}
		if want := map[string]string{"an allowed origin": "https://good.example", "a preflight": "https://good.example"}[name]; resp.Header.Get("Access-Control-Allow-Origin") != want {
			t.Errorf("%s: Access-Control-Allow-Origin is %q, want %q", name, resp.Header.Get("Access-Control-Allow-Origin"), want)
		}
	}
	for _, path := range []string{"/elsewhere/", "/websocket/?group=a-b"} { // without Accept
		if _, body := s.request("GET", path, ""); body != "next" {
			t.Errorf("%s: %q", path, body)
		}
	}
	s.mustLoad("auth caddy", streamSite)
	for _, query := range []string{"?group=a-b", "?group=a-b&wait=1"} {
		if resp, body := s.request("GET", "/websocket/"+query, "", accept); resp.StatusCode != 401 || body != "not logged in\n" {
			t.Errorf("%s, not logged in: %d %q", query, resp.StatusCode, body)
		}
	}
	s.mustLoad("auth none\nevent_streams off\nlong_polls off", streamSite)
	for _, query := range []string{"?group=a-b", "?group=a-b&wait=0"} {
		if _, body := s.request("GET", "/websocket/"+query, "", accept); body != "next" {
			t.Errorf("%s, with the doors off: %q", query, body)
		}
	}
}

// Clients whose bodies trickle count as pending handshakes, and have a bounded time.
func TestSlowBodiesAtDoors(t *testing.T) {
	was := bodyTimeout
	bodyTimeout = 500 * time.Millisecond
	defer func() { bodyTimeout = was }()
	s := newSite(t)
	s.mustLoad(withHistory+"\nlimits {\npending_per_address 3\n}", streamSite)
	status := make(chan string, 4)
	for i := range 4 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		query := []string{"?wait=5", ""}[i%2]
		_, _ = fmt.Fprintf(conn, "POST /websocket/%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n"+
			"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{", query, s.addr)
		go func() {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			status <- strings.TrimSpace(line)
		}()
	}
	got := map[string]int{}
	for range 4 {
		select {
		case line := <-status:
			got[line]++
		case <-time.After(testkit.Patience):
			t.Fatalf("a request without its body has no answer; got %v", got)
		}
	}
	if got["HTTP/1.1 429 Too Many Requests"] != 1 || got["HTTP/1.1 408 Request Timeout"] != 3 {
		t.Errorf("got %v", got)
	}
	if n := node.Current().Hub.Stats().ByDoor[relay.DoorLongPoll]; n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if resp, _ := s.request("POST", "/websocket/?wait=0", `{"groups":{"jobs":["x"]}}`, "Content-Type: application/json"); resp.StatusCode != 200 {
		t.Errorf("a request that follows: %s", resp.Status)
	}
}

// FuzzDoorRequest: no query, id or body of a client makes the relay fail.
func FuzzDoorRequest(f *testing.F) {
	f.Add("group=a-b&latest=1&last_event_id=a-b:x", "", "")
	f.Add("groups=%7B%22a%22%3A%5B1%5D%7D&wait=1", "a-b:AAZEonBzKkAAAAAAAAAAKg,c", "")
	f.Add("protocol=edgerelay.events.v1", "", `{"groups": {"a": ["b"]}, "since": {"a-b": ["x"]}, "xrftoken": "t"}`)
	f.Fuzz(func(t *testing.T, query, id, body string) {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			r.Method, r.Body = http.MethodPost, io.NopCloser(strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
		}
		r.URL.RawQuery = query
		r.Header["Last-Event-Id"] = []string{id}
		for _, door := range []relay.Door{relay.DoorEventStream, relay.DoorLongPoll} {
			for _, routed := range []bool{false, true} {
				q, err := readDoorRequest(httptest.NewRecorder(), r, door, routed, 4096)
				if body != "" {
					r.Body = io.NopCloser(strings.NewReader(body))
				}
				if (q == nil) == (err == nil) {
					t.Fatalf("%v, %v", q, err)
				}
				if q != nil {
					q.form()
					_ = q.resume(3)("a-b")
				}
			}
		}
	})
}

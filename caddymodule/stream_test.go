package caddymodule

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
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
	"github.com/edgerelay/edgerelay/internal/testkit/ssetest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// withHistory are lines of the global option.
const withHistory = "auth none\norigins https://good.example\nhistory job_events-* r_*"

// streamSite is a site with AWX's path and a route.
const streamSite = `edgerelay {
	path /websocket/
	route /ws/{room}/ {
		groups r_{room}
		on x.text text text
		on x.binary binary data
		first text "hello {room}"
	}
}
respond "next"`

// emitText publishes an event for clients of AWX's protocol.
func (s *site) emitText(group, data string) {
	s.t.Helper()
	if status, body := s.post("/edgerelay/publish", `{"group": "`+group+`", "data": `+data+`}`); status != 200 {
		s.t.Fatalf("publish: %d %s", status, body)
	}
}

// request sends a request, and returns the status and the body.
func (s *site) request(method, path, body string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp, ""
	}
	b, _ := io.ReadAll(resp.Body)
	return resp, string(b)
}

func TestEventStream(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, streamSite)
	url := "http://" + s.addr
	one := ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&padding=1")
	two := ssetest.Open(t, http.DefaultClient, url+"/websocket/?groups="+`{"job_events":[1,2],"jobs":["x"]}`)
	framed := ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&protocol=edgerelay.events.v1")
	for _, name := range []string{"Cache-Control: no-cache, no-transform", "X-Accel-Buffering: no"} {
		name, value, _ := strings.Cut(name, ": ")
		if got := one.Response.Header.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	one.Want("subscribed", `{"type":"subscribed","group":"job_events-1"`)
	for range 3 {
		two.Want("subscribed", "")
	}
	framed.Want("", `{"accept": true`)
	framed.Want("", `{"groups_current": ["job_events-1"]`)
	framed.Want("", `{"type":"subscribed"`)

	s.emitText("job_events-1", `{"n":  1}`)
	first := one.Want("", `{"n":  1}`)
	if !strings.HasPrefix(first.ID, "job_events-1:") || strings.Contains(first.ID, ",") || one.Retry != 2*time.Second || one.Comments != 1 {
		t.Errorf("got %+v, retry %v, %d comments", first, one.Retry, one.Comments)
	}
	two.Want("", `{"n":  1}`)
	if e := framed.Want("", `{"type":"event","group":"job_events-1"`); e.ID != first.ID {
		t.Errorf("the frame has the id %q, want %q", e.ID, first.ID)
	}
	s.emitText("jobs-x", `"without history"`)
	two.Want("", `"without history"`)
	s.emitText("job_events-2", `{"n": 2}`)
	both := two.Want("", `{"n": 2}`)
	if !strings.Contains(both.ID, first.ID) || !strings.Contains(both.ID, "job_events-2:") || strings.Contains(both.ID, "jobs-x") {
		t.Errorf("the id is %q", both.ID)
	}

	// A client that comes back has missed nothing in any of its groups.
	two.Close()
	s.emitText("job_events-1", `{"n": 3}`)
	s.emitText("job_events-2", `{"n": 4}`)
	for _, back := range []*ssetest.Client{
		ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&group=job_events-2&last_event_id=x", "Last-Event-ID: "+both.ID),
		ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&group=job_events-2&last_event_id="+both.ID),
	} {
		want := map[string]bool{`{"n": 3}`: true, `{"n": 4}`: true}
		for recovered := 0; recovered < 2 || len(want) > 0; {
			e, err := back.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e.Name == "subscribed" && strings.Contains(e.Data, `"recovered":true`) {
				recovered++
			}
			delete(want, e.Data)
		}
	}
	lost := ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-1&last_event_id=job_events-1:nonsense")
	if e := lost.Want("subscribed", ""); !strings.Contains(e.Data, `"recovered":false,"reason":"unknown_position"`) {
		t.Errorf("got %+v", e)
	}
	latest := ssetest.Open(t, http.DefaultClient, url+"/websocket/?group=job_events-2&latest=1")
	latest.Want("", `{"n": 4}`)

	stats := node.Current().Hub.Stats()
	if stats.ByDoor[relay.DoorEventStream] < 5 {
		t.Errorf("%v clients by door", stats.ByDoor)
	}
	sessions, _ := node.Current().Hub.Sessions(hub.SessionFilter{Group: "job_events-1"}, 0, 10)
	if len(sessions) == 0 || sessions[0].Door != relay.DoorEventStream {
		t.Errorf("%+v", sessions)
	}
	one.Close()
	framed.Close()
}

func TestRouteStream(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, streamSite)
	url := "http://" + s.addr + "/ws/a/"
	c := ssetest.Open(t, http.DefaultClient, url)
	framed := ssetest.Open(t, http.DefaultClient, url+"?protocol=edgerelay.events.v1")
	c.Want("", "hello a")
	framed.Want("", `{"type":"first","text":"hello a"}`)
	c.Want("subscribed", "")
	s.emit("r_a", "x.text", `{"text": "one\ntwo é"}`)
	e := c.Want("", "one\ntwo é")
	if !strings.HasPrefix(e.ID, "r_a:") {
		t.Errorf("the id is %q", e.ID)
	}
	framed.Want("", `{"type":"subscribed"`)
	framed.Want("", `{"type":"event","group":"r_a","position":"`+strings.TrimPrefix(e.ID, "r_a:")+`","text":"one\ntwo \u00e9"}`)
	c.Close()
	s.emit("r_a", "x.text", `{"text": "three"}`)
	c = ssetest.Open(t, http.DefaultClient, url, "Last-Event-ID: "+e.ID)
	c.Want("", "hello a")
	if e := c.Want("subscribed", ""); !strings.Contains(e.Data, `"recovered":true`) {
		t.Errorf("got %+v", e)
	}
	c.Want("", "three")
	if resp, _ := s.request("GET", "/ws/../", "", "Accept: text/event-stream"); resp.StatusCode == 200 && resp.Header.Get("Content-Type") == "text/event-stream" {
		t.Error("a path of no route is served")
	}
	// A route that goes ends its streams, and only them.
	s.mustLoad(withHistory, "edgerelay {\npath /websocket/\n}\nrespond next")
	c.Want("close", `{"code":1012,"reason":"route changed; reconnect"}`)
	if _, err := c.Next(); err != io.EOF {
		t.Errorf("%v behind the end", err)
	}
}

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

// A drain sends streams away, each after a time of its own.
func TestStreamsDrain(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, streamSite)
	c := ssetest.Open(t, http.DefaultClient, "http://"+s.addr+"/websocket/?group=job_events-1")
	node.Current().Hub.Drain(hub.Pace{})
	c.Want("close", `{"code":1012,"reason":"node is draining; reconnect"}`)
	if c.Retry < time.Second || c.Retry > 10*time.Second {
		t.Errorf("retry after %v", c.Retry)
	}
	if resp, _ := s.request("GET", "/websocket/?group=a-b", "", "Accept: text/event-stream"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("during the drain: %d", resp.StatusCode)
	}
	node.Current().Hub.Undrain()
}

// Over HTTP/2 and HTTP/3 a stream ends by its age and after a reload, and the client resumes. Over HTTP/1.1 it stays.
func TestStreamsAndReloads(t *testing.T) {
	s := newSite(t)
	load := func(age string) {
		t.Helper()
		file := s.file(withHistory+"\nevent_stream_age "+age, "tls internal\nlog\nencode gzip\n"+streamSite)
		host := "https://" + strings.Replace(s.addr, "127.0.0.1", "localhost", 1)
		if err := s.load(strings.Replace(file, s.addr2(), host, 1)); err != nil {
			t.Fatal(err)
		}
	}
	load("1h")
	url := "https://" + strings.Replace(s.addr, "127.0.0.1", "localhost", 1) + "/websocket/?group=job_events-1"
	client := func(h2 bool) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	var h2 *ssetest.Client
	testkit.Eventually(t, "there is a certificate", func() (err error) {
		h2, err = ssetest.Try(t, client(true), url)
		return err
	})
	h1 := ssetest.Open(t, client(false), url)
	if h2.Response.ProtoMajor != 2 || h1.Response.ProtoMajor != 1 {
		t.Fatalf("HTTP/%d and HTTP/%d", h2.Response.ProtoMajor, h1.Response.ProtoMajor)
	}
	s.emitText("job_events-1", "1")
	h1.Want("", "1")
	last := h2.Want("", "1")
	load("2h")
	if e, err := h2.Next(); err != io.EOF || h2.Retry != 20*time.Millisecond {
		t.Fatalf("after a reload: %+v, %v, retry %v", e, err, h2.Retry)
	}
	s.emitText("job_events-1", "2")
	h2 = ssetest.Open(t, client(true), url, "Last-Event-ID: "+last.ID)
	if e := h2.Want("subscribed", ""); !strings.Contains(e.Data, `"recovered":true`) {
		t.Errorf("%+v", e)
	}
	h2.Want("", "2")
	h1.Want("", "2")
	h2.Close()
	load("1s")
	var old *ssetest.Client
	testkit.Eventually(t, "a connection after the reload", func() (err error) { // the listener before may have reset one
		old, err = ssetest.Try(t, client(true), url)
		return err
	})
	for {
		if _, err := old.Next(); err != nil {
			break
		}
	}
	s.emitText("job_events-1", "3")
	h1.Want("", "3")
	h1.Close()
	testkit.Eventually(t, "all sessions end", func() bool { return node.Current().Hub.Stats().Sessions == 0 })
}

// frames are those of a poll's answer.
func (s *site) poll(query, body string, header ...string) (frames []map[string]any) {
	s.t.Helper()
	method := "GET"
	if body != "" {
		method = "POST"
		header = append(header, "Content-Type: application/json", "Cookie: csrftoken=t")
	}
	resp, text := s.request(method, query, body, header...)
	var answer struct {
		Frames []map[string]any `json:"frames"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
		s.t.Fatalf("%d %q: %v", resp.StatusCode, text, err)
	}
	return answer.Frames
}

// awaitSubscriber waits until a client has subscribed to a group: a session exists before its subscriptions do.
func (s *site) awaitSubscriber(group string) {
	s.t.Helper()
	testkit.Eventually(s.t, "a client of "+group, func() bool {
		page, _ := node.Current().Hub.Groups(group, hub.GroupsByName, "", 1)
		return len(page) == 1 && page[0].Group == group && page[0].Subscribers == 1
	})
}

// kinds are the types of frames.
func kinds(frames []map[string]any) (list []string) {
	for _, f := range frames {
		kind, _ := f["type"].(string)
		for _, own := range []string{"accept", "groups_current", "error"} {
			if _, ok := f[own]; ok {
				kind = own
			}
		}
		list = append(list, kind)
	}
	return list
}

func TestLongPoll(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, "encode gzip {\nminimum_length 1\n}\n"+streamSite)
	want := func(name string, frames []map[string]any, list ...string) {
		t.Helper()
		if got := kinds(frames); fmt.Sprint(got) != fmt.Sprint(list) {
			t.Fatalf("%s: %v, want %v; %v", name, got, list, frames)
		}
	}
	frames := s.poll("/websocket/?group=job_events-1&wait=0", "")
	want("no wait", frames, "accept", "groups_current", "subscribed")
	place := frames[2]["position"].(string)
	s.emitText("job_events-1", `{"n": 1}`)
	began := time.Now()
	frames = s.poll("/websocket/?wait=30", `{"groups": {"job_events": [1]}, "xrftoken": "t", "since": {"job_events-1": "`+place+`"}}`)
	want("missed", frames, "accept", "groups_current", "subscribed", "event")
	if frames[2]["recovered"] != true || frames[3]["position"] == "" {
		t.Errorf("%v", frames)
	}
	waiting := make(chan []map[string]any, 1)
	go func() {
		waiting <- s.poll("/websocket/?group=job_events-1&wait=30&last_event_id=job_events-1:"+frames[3]["position"].(string), "")
	}()
	s.awaitSubscriber("job_events-1")
	s.emitText("job_events-1", `{"n": 2}`)
	frames = <-waiting
	if n := len(frames); frames[n-1]["event"].(map[string]any)["n"] != 2.0 {
		t.Errorf("%v", frames)
	}
	want("denied", s.poll("/websocket/?group=broadcast-group_send&wait=30", ""), "accept", "error", "groups_current")
	want("a wrong token", s.poll("/websocket/?wait=30", `{"groups": {"a": ["b"]}, "xrftoken": "x"}`), "accept", "error")
	want("too old", s.poll("/websocket/?group=job_events-1&wait=30&last_event_id=job_events-1:x", ""),
		"accept", "groups_current", "subscribed")
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("the answers took %v", took)
	}

	go func() { waiting <- s.poll("/ws/a/?wait=30", "") }()
	s.awaitSubscriber("r_a")
	s.emit("r_a", "x.text", `{"text": "one"}`)
	frames = <-waiting
	want("a route", frames, "subscribed", "event")
	if frames[1]["text"] != "one" || frames[1]["group"] != "r_a" {
		t.Errorf("%v", frames)
	}
	place = frames[1]["position"].(string)
	s.emit("r_a", "x.text", `{"text": "two"}`)
	want("a route, missed", s.poll("/ws/a/?wait=30", `{"since": {"r_a": "`+place+`"}}`), "subscribed", "event")

	// A reload answers with what there is.
	go func() { waiting <- s.poll("/websocket/?group=job_events-1&wait=60", "") }()
	s.awaitSubscriber("job_events-1")
	began = time.Now()
	s.mustLoad(withHistory, streamSite)
	want("a reload", <-waiting, "accept", "groups_current", "subscribed")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the answer took %v", took)
	}
	testkit.Eventually(t, "all sessions end", func() bool { return node.Current().Hub.Stats().Sessions == 0 })
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

// 100 reloads under load: no stream over HTTP/1.1 ends, and each gets each event once and in order.
func TestStreamsSurviveReloads(t *testing.T) {
	s := newSite(t)
	lines := func(i int) string {
		return fmt.Sprintf("%s\nlimits {\ngroups_per_connection %d\n}", withHistory, 100+i)
	}
	s.mustLoad(lines(0), streamSite)
	const clients, reloads = 20, 100
	failed := make(chan error, clients)
	for i := range clients {
		path := []string{"/websocket/?group=job_events-1", "/websocket/?group=job_events-1&group=job_events-2", "/ws/a/"}[i%3]
		c := ssetest.Open(t, http.DefaultClient, "http://"+s.addr+path)
		go func() { failed <- readNumbers(c, reloads) }()
	}
	for i := 1; i <= reloads; i++ {
		s.mustLoad(lines(i), streamSite)
		s.emitText("job_events-1", fmt.Sprint(i))
		s.emit("r_a", "x.text", fmt.Sprintf(`{"text": "%d"}`, i))
	}
	for range clients {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if opened := node.Current().Hub.Stats().Opened; opened != clients {
		t.Errorf("%d connections were opened, want %d", opened, clients)
	}
}

// readNumbers reads events with the numbers 1 to n.
func readNumbers(c *ssetest.Client, n int) error {
	for want := 1; want <= n; {
		e, err := c.Next()
		switch {
		case err != nil || e.Name == "close":
			return fmt.Errorf("%+v, %v; want event %d", e, err, want)
		case e.Name != "" || strings.HasPrefix(e.Data, "hello"):
		case e.Data != fmt.Sprint(want):
			return fmt.Errorf("got %q, want event %d", e.Data, want)
		default:
			want++
		}
	}
	return nil
}

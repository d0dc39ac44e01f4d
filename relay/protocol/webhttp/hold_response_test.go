package webhttp_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// awaitItems publishes an item until the response of a client that waits for it has arrived.
func (e *edge) awaitItems(t *testing.T, item string, ask func() *reader) *reader {
	t.Helper()
	answers := make(chan *reader, 1)
	go func() { answers <- ask() }()
	for {
		select {
		case r := <-answers:
			return r
		default:
			e.publish(t, item)
		}
	}
}

// A client that waits gets the response of an item, with the headers that the site's own response has beside.
func TestHeldResponse(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		held(w, `{"list": [1], "of": "site"}`+"\n", "Grip-Hold", "response", "Grip-Channel", "room; filter=var-subst",
			"Grip-Set-Meta", "user=ann", "X-Site", "yes", "X-Both", "site")
	})
	e := startEdge(t, s.URL, nil)
	for _, c := range []struct {
		name, format, body string
		status             int
	}{
		{"body", `{"body": "for %(user)s\n"}`, "for ann\n", 200},
		{"status and headers", `{"code": 404, "headers": {"X-Both": "item"}, "body-bin": "bm9uZQo="}`, "none\n", 404},
		{"patch", `{"body-patch": [{"op": "add", "path": "/list/-", "value": 2}]}`, `{"list":[1,2],"of":"site"}` + "\n", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := e.awaitItems(t, `{"channel": "room", "http-response": `+c.format+`}`, func() *reader { return e.get(t, "/") })
			got.ends(c.body)
			both := "site"
			if strings.Contains(c.format, "X-Both") {
				both = "item"
			}
			if got.StatusCode != c.status || got.Header.Get("X-Site") != "yes" || got.Header.Get("X-Both") != both {
				t.Errorf("%d, %v; want %d with the site's headers", got.StatusCode, got.Header, c.status)
			}
		})
	}
}

// After the timeout, the client gets the site's own response.
func TestHeldResponseTimeout(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		held(w, "nothing\n", "Grip-Hold", "response", "Grip-Channel", "room", "Grip-Timeout", "0", "Grip-Status", "304")
	})
	e := startEdge(t, s.URL, nil)
	e.Hurry(100)
	if c := e.get(t, "/"); c.StatusCode != http.StatusNotModified {
		t.Errorf("status %d, want 304", c.StatusCode)
	}
	testkit.Eventually(t, "the session ends", func() bool { return e.Stats.Held.Load() == 0 })
}

// A client that may have missed an item is asked for again: the site gets the client's own request, with the ids that
// the response has.
func TestHeldResponseAsksAgain(t *testing.T) {
	var requests atomic.Int64
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		n := requests.Add(1)
		if n == 3 {
			held(w, "news\n")
			return
		}
		held(w, "", "Grip-Hold", "response", "Grip-Channel", fmt.Sprintf(`room; prev-id="a %d"`, n))
	})
	e := startEdge(t, s.URL, nil)
	e.Hurry(10)
	c := e.awaitItems(t, `{"channel": "room", "prev-id": "z", "http-response": {"body": "x"}}`, func() *reader {
		return e.send(t, http.MethodPut, "/poll?q", "body", "Cookie", "who=ann")
	})
	c.ends("news\n")
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.requests {
		last := ""
		if i > 0 {
			last = fmt.Sprintf(`room; last-id="a %d"`, i)
		}
		if r.Method != http.MethodPut || r.URL.RequestURI() != "/poll?q" || r.body != "body" ||
			r.Header.Get("Cookie") != "who=ann" || r.Header.Get("Grip-Last") != last {
			t.Errorf("request %d: %s %s %q %v; want the client's with Grip-Last %q", i, r.Method, r.URL, r.body, r.Header, last)
		}
	}
}

// The site may turn a response into a stream when it is asked again.
func TestHeldResponseBecomesStream(t *testing.T) {
	var requests atomic.Int64
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		if requests.Add(1) == 1 {
			held(w, "", "Grip-Hold", "response", "Grip-Channel", "room")
			return
		}
		held(w, "begin\n", "Grip-Hold", "stream", "Grip-Channel", "stream")
	})
	e := startEdge(t, s.URL, nil)
	c := e.awaitItems(t, `{"channel": "room", "http-response": {"action": "hint"}}`, func() *reader { return e.get(t, "/") })
	c.reads("begin")
	e.publish(t, line("stream", "on"))
	c.reads("on")
	if slices.Contains(e.hub.Interested(), "grip.room") {
		t.Error("the channel of the first response is still subscribed")
	}
}

// An instruction may be the body of a response, in JSON.
func TestInstructInJSON(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		w.Header().Set("Content-Type", "application/grip-instruct; charset=utf-8")
		_, _ = w.Write([]byte(`{
			"hold": {"mode": "stream", "channels": [{"name": "room", "filters": ["var-subst"]}], "meta": {"x": "ann"},
				"keep-alive": {"content": "kept\n", "timeout": 0}},
			"response": {"code": 202, "headers": [["X-Site", "yes"], ["Content-Type", "text/plain"]], "body": "100%\n"}
		}`))
	})
	e := startEdge(t, s.URL, nil)
	e.Hurry(10)
	c := e.get(t, "/")
	c.reads("100%")
	if c.StatusCode != 202 || c.Header.Get("X-Site") != "yes" || c.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%d, %v; want the response of the instruction", c.StatusCode, c.Header)
	}
	c.reads("kept")
}

// A client whose request cannot be repeated, because its body is too long, waits like any other, and gets the site's
// own response if it may have missed an item.
func TestHeldResponseOfLongRequest(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		held(w, "again\n", "Grip-Hold", "response", "Grip-Channel", "room; prev-id=1")
	})
	e := startEdge(t, s.URL, nil)
	e.Hurry(10)
	c := e.awaitItems(t, `{"channel": "room", "prev-id": "8", "id": "9", "http-response": {"body": "x"}}`, func() *reader {
		return e.send(t, http.MethodPost, "/", strings.Repeat("x", webhttp.MaxRepeatedBody+1))
	})
	c.ends("again\n")
	if n := len(s.bodies()); n != 1 {
		t.Errorf("the site got %d requests, want 1", n)
	}
}

// A patch that does not fit the site's response is the site's fault.
func TestPatchThatDoesNotFit(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		held(w, "{}", "Grip-Hold", "response", "Grip-Channel", "room")
	})
	e := startEdge(t, s.URL, nil)
	c := e.awaitItems(t, `{"channel": "room", "http-response": {"body-patch": [{"op": "remove", "path": "/x"}]}}`,
		func() *reader { return e.get(t, "/") })
	if c.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d, want 502", c.StatusCode)
	}
}

package webhttp_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// line is an item of a stream.
func line(channel, text string, more ...string) string {
	return fmt.Sprintf(`{"channel": %q, "http-stream": {"content": %q}%s}`, channel, text+"\n",
		strings.Join(append([]string{""}, more...), ", "))
}

// numbered is an item with an id and the one before.
func numbered(channel string, id int, more ...string) string {
	return line(channel, fmt.Sprint(channel, id), append(more, fmt.Sprintf(`"id": "%d", "prev-id": "%d"`, id, id-1))...)
}

// A stream begins with the site's content, goes on with items of its channels, and ends when an item says so.
func TestStream(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		held(w, "begin\n", "Grip-Hold", "stream", "Grip-Channel", "a, b; filter=skip-self", "Grip-Set-Meta", `user="ann"`,
			"Grip-Status", "203 x", "X-Site", "yes", "Content-Length", "6")
	})
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) { s.Key = []byte("key") })
	c := e.get(t, "/stream?x=1", "Grip-Sig", "forged", "Accept-Encoding", "gzip")
	c.reads("begin")
	if c.StatusCode != 203 || c.Header.Get("X-Site") != "yes" || c.ContentLength != -1 || c.Header.Get("Grip-Hold") != "" {
		t.Errorf("%d, %v; want 203 without a length and headers of GRIP", c.StatusCode, c.Header)
	}
	first := s.last()
	if sig := first.Header.Get("Grip-Sig"); strings.Count(sig, ".") != 2 {
		t.Errorf("Grip-Sig %q, want a token", sig)
	}
	if got := first.Header.Get("Grip-Feature"); !strings.Contains(got, "link:next") {
		t.Errorf("Grip-Feature %q, want link:next", got)
	}
	e.publish(t, line("a", "to a"))
	e.publish(t, line("other", "to nobody"))
	e.publish(t, `{"channel": "a", "ws-message": {"content": "for others"}}`)
	e.publish(t, line("b", "from ann", `"meta": {"sender": "ann"}`))
	e.publish(t, line("b", "from bob", `"meta": {"sender": "bob"}`))
	e.publish(t, `{"channel": "a", "http-stream": {"content-bin": "AP8K"}}`)
	c.reads("to a", "from bob", "\x00\xff")
	e.publish(t, `{"channel": "a", "http-stream": {"action": "close"}}`)
	c.ends("")
	testkit.Eventually(t, "the session ends", func() bool { return e.Stats.Held.Load() == 0 })
}

// Without a hold, the relay only removes the headers of GRIP; a hold that cannot be followed is the site's fault.
func TestNoHold(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		switch r.URL.Path {
		case "/plain":
			held(w, "50%% of %(10)I", "Grip-Channel", "a; filter=build-id", "Grip-Set-Meta", "id_format=x")
		case "/wrong":
			held(w, "x", "Grip-Hold", "forever")
		case "/foreign":
			held(w, "x", "Grip-Hold", "stream", "Grip-Link", "<http://other.example/>; rel=next")
		}
	})
	e := startEdge(t, s.URL, nil)
	c := e.get(t, "/plain")
	c.ends("50% of 10")
	if c.StatusCode != 200 || c.Header.Get("Grip-Channel") != "" {
		t.Errorf("%d, %v; want 200 without headers of GRIP", c.StatusCode, c.Header)
	}
	for _, path := range []string{"/wrong", "/foreign"} {
		if c := e.get(t, path); c.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: status %d, want 502", path, c.StatusCode)
		}
	}
}

// A stream with ids gets each item once and in order: the relay waits for an item that others have overtaken, and asks
// the site for one that does not come.
func TestOrderedStream(t *testing.T) {
	var site atomic.Int64
	site.Store(5)
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		now, body := site.Load(), ""
		if r.URL.Query().Get("next") != "" {
			var last int64
			if _, err := fmt.Sscanf(r.Header.Get("Grip-Last"), "room; last-id=%d", &last); err != nil {
				t.Errorf("Grip-Last %q: %v", r.Header.Get("Grip-Last"), err)
			}
			for i := last + 1; i <= now; i++ {
				body += fmt.Sprintf("missed%d\n", i)
			}
		} else {
			body = "begin\n"
		}
		held(w, body, "Grip-Hold", "stream", "Grip-Channel", fmt.Sprintf("room; prev-id=%d", now),
			"Grip-Link", "</stream?next=1>; rel=next")
	})
	e := startEdge(t, s.URL, nil)
	c := e.get(t, "/stream")
	c.reads("begin")
	testkit.Eventually(t, "the site is asked for what came before the subscription", func() bool {
		return len(s.bodies()) == 2
	})
	e.publish(t, numbered("room", 6))
	e.publish(t, numbered("room", 6))
	e.publish(t, numbered("room", 8))
	e.publish(t, numbered("room", 7))
	c.reads("room6", "room7", "room8")
	if n := len(s.bodies()); n != 2 {
		t.Errorf("the site got %d requests, want 2: nothing was missing", n)
	}
	site.Store(10) // 9 is not published
	e.publish(t, numbered("room", 10))
	c.reads("missed9", "missed10")
	e.publish(t, numbered("room", 11))
	c.reads("room11")
	last := s.last()
	if last.Header.Get("Cookie") != "" || last.URL.RawQuery != "next=1" || last.Method != http.MethodGet {
		t.Errorf("%s %s %v; want a GET of the link without the client's headers", last.Method, last.URL, last.Header)
	}
	d := e.get(t, "/stream") // the relay knows that nothing came since
	d.reads("begin")
	site.Store(12)
	e.publish(t, numbered("room", 12))
	c.reads("room12")
}

// An item that is published between the site's answer and the subscription is not lost.
func TestItemBeforeSubscription(t *testing.T) {
	var site atomic.Int64
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		body := "begin\n"
		if r.URL.RawQuery != "" {
			body = "missed1\n"
		}
		held(w, body, "Grip-Hold", "stream", "Grip-Channel", fmt.Sprintf("room; prev-id=%d", site.Load()),
			"Grip-Link", "<?next>; rel=next")
	})
	e := startEdge(t, s.URL, nil)
	e.beforeJoin = func() {
		site.Store(1)
		e.publish(t, numbered("room", 1))
	}
	c := e.get(t, "/stream")
	c.reads("begin", "missed1")
	e.publish(t, numbered("room", 2))
	c.reads("room2")
}

// Clients that ask the same share a request, and a site that fails is asked again.
func TestSharedRequests(t *testing.T) {
	release, fails := make(chan struct{}), atomic.Int64{}
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		if r.URL.RawQuery != "next" {
			held(w, "begin\n", "Grip-Hold", "stream", "Grip-Channel", "room", "Grip-Link", "<?next>; rel=next; timeout=0")
			return
		}
		<-release
		if fails.Add(1) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		held(w, "more\n", "Grip-Hold", "stream", "Grip-Channel", "room")
	})
	e := startEdge(t, s.URL, nil)
	e.Hurry(100)
	var clients []*reader
	for range 20 {
		c := e.get(t, "/stream")
		c.reads("begin")
		clients = append(clients, c)
	}
	e.publish(t, `{"channel": "room", "http-stream": {"action": "hint"}}`)
	proceed := sync.OnceFunc(func() { close(release) })
	t.Cleanup(proceed)
	testkit.Eventually(t, "the site is asked", func() bool { return len(s.bodies()) > 20 })
	testkit.Eventually(t, "all clients ask", func() bool {
		return e.Stats.Shared.Load()+e.Stats.Followed.Load() >= 20
	})
	proceed()
	for _, c := range clients {
		c.reads("more")
	}
	if n := len(s.bodies()); n > 28 { // a few, because each worker of the engine has the item at a time of its own
		t.Errorf("the site got %d requests of 20 clients, want them shared", n-20)
	}
}

// A site may answer in pages: each names the next one, and only the last one holds.
func TestPages(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		switch page := r.URL.RawQuery; page {
		case "":
			held(w, "page 1\n", "Grip-Link", "<?2>; rel=next")
		case "2", "3":
			held(w, "page "+page+"\n", "Grip-Link", "<?"+map[string]string{"2": "3", "3": "end"}[page]+">; rel=next")
		default:
			held(w, "", "Grip-Hold", "stream", "Grip-Channel", "room")
		}
	})
	e := startEdge(t, s.URL, nil)
	c := e.get(t, "/pages")
	c.reads("page 1", "page 2", "page 3")
	testkit.Eventually(t, "the stream is held", func() bool { return slices.Contains(e.hub.Interested(), "grip.room") })
	e.publish(t, `{"channel": "room", "http-stream": {"action": "close"}}`)
	c.ends("")
}

// A quiet stream gets keep-alives, and asks the site from time to time; its end is told to the gone link.
func TestQuietStream(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		if r.Method == http.MethodPost {
			return
		}
		held(w, r.URL.RawQuery+"\n", "Grip-Hold", "stream", "Grip-Channel", "room", "Grip-Link",
			"<?next>; rel=next; timeout=1, </gone>; rel=gone", "Grip-Keep-Alive", `kept\n; format=cstring; timeout=0; mode=interval`)
	})
	e := startEdge(t, s.URL, nil)
	e.Hurry(10)
	c := e.get(t, "/stream?first")
	c.reads("first", "kept", "kept")
	for got := ""; got != "next\n"; {
		var err error
		if got, err = c.text.ReadString('\n'); err != nil || got != "next\n" && got != "kept\n" {
			t.Fatalf("line %q, %v; want next or kept", got, err)
		}
	}
	c.leave()
	testkit.Eventually(t, "the site is told of the end", func() bool {
		r := s.last()
		return r.Method == http.MethodPost && r.URL.Path == "/gone"
	})
}

// A site cannot subscribe a client to more channels than the limits allow.
func TestTooManyHeldChannels(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		held(w, "x", "Grip-Hold", r.URL.RawQuery, "Grip-Channel", "a, b, c")
	})
	e := startEdge(t, s.URL, func(_ *webhttp.Settings, l *relay.Limits) { l.GroupsPerConnection = 2 })
	for _, mode := range []string{"stream", "response"} {
		if c := e.get(t, "/?"+mode); c.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: status %d, want 502", mode, c.StatusCode)
		}
	}
}

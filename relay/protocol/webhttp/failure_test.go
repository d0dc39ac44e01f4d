package webhttp_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// A message that the backend answers wrongly ends its own connection, with a code, and no other. The message is not
// repeated, and the backend is told of the end, once.
func TestFailures(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, *request) {
		return func(w http.ResponseWriter, _ *request) { w.WriteHeader(code) }
	}
	text := func(body string, headers ...string) func(http.ResponseWriter, *request) {
		return func(w http.ResponseWriter, _ *request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			_, _ = io.WriteString(w, body)
		}
	}
	many := func(w http.ResponseWriter, _ *request) {
		for i := range 65 {
			w.Header().Set(fmt.Sprint("Set-Meta-X", i), "x")
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *request)
		code   int
	}{
		"500":                     {status(500), 1011},
		"404":                     {status(404), 1011},
		"302":                     {text("", "Location", "/", "Content-Type", "text/html"), 1011},
		"204":                     {status(204), 1011},
		"503":                     {status(503), 1013},
		"429":                     {status(429), 1013},
		"a page":                  {text("<html>", "Content-Type", "text/html"), 1011},
		"a page as events":        {text("<!DOCTYPE html>\r\n<html>"), 1011},
		"length too great":        {text("TEXT ff\r\nx\r\n"), 1011},
		"text that is not UTF-8":  {text("TEXT 1\r\n\xff\r\n"), 1011},
		"OPEN again":              {text("OPEN\r\n"), 1011},
		"too long":                {func(w http.ResponseWriter, _ *request) { _, _ = w.Write(make([]byte, 1_000_001)) }, 1011},
		"too much meta":           {many, 1011},
		"took more than it got":   {text("", "Content-Bytes-Accepted", "600"), 1011},
		"took a negative number":  {text("", "Content-Bytes-Accepted", "-1"), 1011},
		"aborted":                 {func(http.ResponseWriter, *request) { panic(http.ErrAbortHandler) }, 1011},
		"slow":                    {func(_ http.ResponseWriter, r *request) { <-r.Context().Done() }, 1013},
		"slow within the body":    {func(w http.ResponseWriter, r *request) { w.(http.Flusher).Flush(); <-r.Context().Done() }, 1013},
		"a frame before nonsense": {text("TEXT 1\r\nx\r\nOPEN\r\n"), 1011},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, func(w http.ResponseWriter, r *request) {
				if strings.HasPrefix(r.body, "TEXT 5\r\nwrong") {
					c.answer(w, r)
					return
				}
				echo(w, r)
			})
			e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) { s.Timeout = testkit.Scale(time.Second) })
			other, victim := e.dial(t, "/other"), e.dial(t, "/victim")
			send(t, victim, "wrong")
			_ = victim.Send("never answered") // the connection may have ended
			expectClose(t, victim, c.code)
			send(t, other, "still here")
			expect(t, other, "still here")
			testkit.Eventually(t, "the backend is told", func() bool { return slices.Contains(s.bodies(), "DISCONNECT\r\n") })
			testkit.Eventually(t, "the session ends", func() bool { return e.Stats.Connections.Load() == 1 })
			all := strings.Join(s.bodies(), "")
			if strings.Count(all, "wrong") != 1 || strings.Count(all, "DISCONNECT") != 1 {
				t.Errorf("events %q, want the message and the end once", all)
			}
		})
	}
}

// A backend that is down for a moment gets each message once, in order.
func TestRetries(t *testing.T) {
	s := startSite(t, echo)
	down := atomic.Bool{}
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) {
		s.Transport = &interrupted{http.Transport{}, &down}
	})
	e.Hurry(20)
	c := e.dial(t, "/")
	down.Store(true)
	send(t, c, "one", "two")
	testkit.Eventually(t, "a request fails", func() bool { return e.Stats.Failed.Load() >= 2 })
	send(t, c, "three")
	down.Store(false)
	expect(t, c, "one", "two", "three")
	if all := strings.Join(s.bodies(), ""); all != "OPEN\r\nTEXT 3\r\none\r\nTEXT 3\r\ntwo\r\nTEXT 5\r\nthree\r\n" {
		t.Errorf("events %q", all)
	}
}

// interrupted is a transport whose connections cannot be made while down is set.
type interrupted struct {
	http.Transport
	down *atomic.Bool
}

func (i *interrupted) RoundTrip(r *http.Request) (*http.Response, error) {
	if i.down.Load() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.UnknownNetworkError("down")}
	}
	return i.Transport.RoundTrip(r)
}

// Clients of a backend that stays away are closed with 1013, and nothing more is tried for them.
func TestUnreachable(t *testing.T) {
	s := startSite(t, echo)
	down := atomic.Bool{}
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) {
		s.Transport = &interrupted{http.Transport{}, &down}
	})
	e.Hurry(200)
	c := e.dial(t, "/")
	down.Store(true)
	send(t, c, "x")
	expectClose(t, c, 1013)
	testkit.Eventually(t, "the session ends", func() bool { return e.Stats.Connections.Load() == 0 })
	if n := e.Stats.Retries.Load(); n != 5 {
		t.Errorf("%d retries, want 5", n)
	}
	_, resp, err := wstest.Dial(t, e.url+"/", http.Header{})
	if err == nil || resp == nil || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("handshake: %v, %v; want 502", resp, err)
	}
}

// The end of a client is told although the backend is away for a moment.
func TestDisconnectIsRetried(t *testing.T) {
	s := startSite(t, echo)
	down := atomic.Bool{}
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) {
		s.Transport = &interrupted{http.Transport{}, &down}
	})
	e.Hurry(20)
	raw, err := wstest.DialRaw(e.url+"/", "")
	if err != nil {
		t.Fatal(err)
	}
	down.Store(true)
	raw.Close()
	testkit.Eventually(t, "a request fails", func() bool { return e.Stats.Failed.Load() >= 2 })
	down.Store(false)
	testkit.Eventually(t, "the backend is told", func() bool { return len(s.bodies()) == 2 })
	if all := strings.Join(s.bodies(), ""); all != "OPEN\r\nDISCONNECT\r\n" {
		t.Errorf("events %q", all)
	}
}

// The rest of what a backend takes in part comes again, and only with something new.
func TestContentBytesAccepted(t *testing.T) {
	var accepted atomic.Value
	accepted.Store("3")
	s := startSite(t, opens("", func(w http.ResponseWriter, r *request) {
		if n := accepted.Load().(string); n != "" {
			w.Header().Set("Content-Bytes-Accepted", n)
		}
		_, _ = io.WriteString(w, "TEXT 4\r\nseen\r\n")
	}))
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	send(t, c, "abcdef")
	expect(t, c, "seen")
	accepted.Store("0")
	send(t, c, "ghi")
	expect(t, c, "seen")
	accepted.Store("")
	send(t, c, "j")
	expect(t, c, "seen")
	send(t, c, "k")
	expect(t, c, "seen")
	want := []string{
		"OPEN\r\n", "TEXT 6\r\nabcdef\r\n", "TEXT 3\r\ndef\r\nTEXT 3\r\nghi\r\n",
		"TEXT 3\r\ndef\r\nTEXT 3\r\nghi\r\nTEXT 1\r\nj\r\n", "TEXT 1\r\nk\r\n",
	}
	if got := s.bodies(); !slices.Equal(got, want) {
		t.Fatalf("requests %q\nwant %q", got, want)
	}
	var replayed []string
	s.mu.Lock() // the end of the connection may be under way
	for _, r := range s.requests[:len(want)] {
		replayed = append(replayed, r.Header.Get("Content-Bytes-Replayed"))
	}
	s.mu.Unlock()
	if want := []string{"", "", "3", "6", ""}; !slices.Equal(replayed, want) {
		t.Errorf("Content-Bytes-Replayed %q, want %q", replayed, want)
	}
}

// A client that sends faster than the backend answers is not read, and closed with 1013 if that lasts.
func TestBackpressure(t *testing.T) {
	release := make(chan struct{})
	s := startSite(t, opens("", func(_ http.ResponseWriter, r *request) {
		if !strings.Contains(r.body, "DISCONNECT") {
			<-release
		}
	}))
	e := startEdge(t, s.URL, nil)
	e.Hurry(30)
	c := e.dial(t, "/")
	piece := strings.Repeat("x", 50_000)
	send(t, c, piece)
	testkit.Eventually(t, "the first message arrives", func() bool { return len(s.bodies()) == 2 })
	for range 6 { // three more fill the queue; the others stay in the buffers of the sockets
		send(t, c, piece)
	}
	expectClose(t, c, 1013)
	close(release)
	if n := e.Stats.Busy.Load(); n != 1 {
		t.Errorf("%d busy connections, want 1", n)
	}
	testkit.Eventually(t, "the backend is told", func() bool { return slices.Contains(s.bodies(), "DISCONNECT\r\n") })
	if n := len(strings.Join(s.bodies(), "")); n > 60_000 {
		t.Errorf("the backend got %d bytes of a client that was closed", n)
	}
}

// With one request at a time for all connections, a connection that always has a message does not delay another one by
// more than a request.
func TestBusyConnectionDelaysNoOther(t *testing.T) {
	gate := make(chan struct{})
	s := startSite(t, opens("", func(w http.ResponseWriter, r *request) { <-gate; echo(w, r) }))
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) { s.Concurrency = 1 })
	busy, other := e.dial(t, "/busy"), e.dial(t, "/other")
	send(t, busy, "b1")
	testkit.Eventually(t, "the request is in progress", func() bool { return len(s.bodies()) == 3 })
	send(t, busy, "b2")
	send(t, other, "o1")
	testkit.Eventually(t, "the other connection waits", func() bool { return e.Queued() == 1 })
	close(gate)
	expect(t, busy, "b1", "b2")
	expect(t, other, "o1")
	if got := s.bodies()[2:]; !slices.Equal(got, []string{"TEXT 2\r\nb1\r\n", "TEXT 2\r\no1\r\n", "TEXT 2\r\nb2\r\n"}) {
		t.Errorf("requests %q, want the other connection's before the second one", got)
	}
}

// The ends of many clients, of which the backend takes none, do not delay a message.
func TestEndsDelayNoMessages(t *testing.T) {
	release := make(chan struct{})
	s := startSite(t, func(w http.ResponseWriter, r *request) {
		if strings.HasPrefix(r.body, "DISCONNECT") {
			<-release
		}
		echo(w, r)
	})
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) { s.Concurrency = 12 })
	c := e.dial(t, "/")
	for range 30 {
		raw, err := wstest.DialRaw(e.url+"/", "")
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		raw.Close()
	}
	testkit.Eventually(t, "the ends wait", func() bool { return e.Queued() == 20 })
	send(t, c, "x")
	expect(t, c, "x")
	close(release)
}

// Beyond the bound of the queue, clients are closed, and handshakes get 503.
func TestFullQueue(t *testing.T) {
	release := make(chan struct{})
	s := startSite(t, opens("", func(w http.ResponseWriter, r *request) { <-release; echo(w, r) }))
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) { s.Concurrency, s.Queue = 1, 1 })
	first, second, third := e.dial(t, "/"), e.dial(t, "/"), e.dial(t, "/")
	send(t, first, "1")
	testkit.Eventually(t, "the request is in progress", func() bool { return len(s.bodies()) == 4 })
	send(t, second, "2")
	testkit.Eventually(t, "the second connection waits", func() bool { return e.Queued() == 1 })
	send(t, third, "3")
	expectClose(t, third, 1013)
	close(release)
	expect(t, first, "1")
	expect(t, second, "2")
}

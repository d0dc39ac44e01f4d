package sse

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

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// server accepts streams, and hands each Conn to the test.
type server struct {
	*httptest.Server
	sse     *Server
	conns   chan *Conn
	ended   chan struct{}
	retired chan struct{}
}

func (s *server) Ended() { s.ended <- struct{}{} }

// kinds are the ways in which a client can reach the server.
var kinds = []string{"h1", "tls", "h2"}

// testForm writes a line for each frame.
func testForm() *Form {
	return &Form{
		Payload:   func(dst []byte, _ bool, payload []byte) []byte { return append(append(dst, payload...), '\n') },
		Heartbeat: []byte(":\n"), Interval: time.Second,
		End: func(code int, reason string) []byte { return fmt.Appendf(nil, "end %d %s\n", code, reason) },
	}
}

func newServer(t *testing.T, kind string, o Options, wrap func(http.Handler) http.Handler) *server {
	poller := netpoll.New()
	t.Cleanup(poller.Close)
	s := &server{
		sse: NewServer(poller), conns: make(chan *Conn, 16), ended: make(chan struct{}, 16),
		retired: make(chan struct{}),
	}
	if o.Form == nil {
		o.Form = testForm()
	}
	o.Retired = s.retired
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		c, err := s.sse.Accept(w, r, o)
		if err != nil {
			t.Error(err)
			return
		}
		s.conns <- c
		c.Attend(s)
	})
	if wrap != nil {
		handler = wrap(handler)
	}
	s.Server = httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = kind == "h2"
	if kind == "h1" {
		s.Start()
	} else {
		s.StartTLS()
	}
	t.Cleanup(s.Server.Close)
	t.Cleanup(s.Client().CloseIdleConnections)
	return s
}

// client reads the response's lines.
type client struct {
	t testing.TB
	*http.Response
	lines *bufio.Reader
	leave context.CancelFunc
}

func (s *server) get(t *testing.T) (*client, *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*testkit.Patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &client{t, resp, bufio.NewReader(resp.Body), cancel}, <-s.conns
}

// want reads a line, past heartbeats.
func (c *client) want(line string) {
	c.t.Helper()
	for {
		got, err := c.lines.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%q, %v; want %q", got, err, line)
		}
		if got != ":\n" {
			if got != line+"\n" {
				c.t.Fatalf("got %q, want %q", got, line)
			}
			return
		}
	}
}

func (s *server) wantEnd(t *testing.T) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(testkit.Patience):
		t.Fatal("the server does not end the connection")
	}
}

func frame(text string) []byte { return relay.AppendFrame(nil, []byte(text)) }

func TestResponse(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, kind, Options{First: []byte("first\n")}, nil)
			c, conn := s.get(t)
			if c.StatusCode != http.StatusOK || c.Header.Get("Content-Type") != "text/event-stream" ||
				c.Header.Get("Date") == "" || c.ContentLength != -1 {
				t.Errorf("got %v", c.Response)
			}
			if kind != "h2" && (!c.Close || len(c.TransferEncoding) > 0) {
				t.Errorf("close %v, transfer encoding %v", c.Close, c.TransferEncoding)
			}
			if kind == "h2" && c.ProtoMajor != 2 {
				t.Errorf("HTTP/%d", c.ProtoMajor)
			}
			c.want("first")
			conn.Send(frame("one"), 0)
			conn.Send(append(frame("two"), frame("three")...), 0)
			conn.SendCopy(frame("four"), 0)
			for _, line := range []string{"one", "two", "three", "four"} {
				c.want(line)
			}
			conn.Close(relay.CloseRestart, "bye")
			c.want("end 1012 bye")
			if rest, err := io.ReadAll(c.lines); err != nil || len(rest) > 0 {
				t.Errorf("%q, %v behind the end", rest, err)
			}
			s.wantEnd(t)
			if conn.Send(frame("late"), 0) {
				t.Error("an ended connection accepts more")
			}
		})
	}
}

// A client that leaves ends the connection.
func TestClientLeaves(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, kind, Options{}, nil)
			c, _ := s.get(t)
			c.leave()
			s.wantEnd(t)
		})
	}
}

// Heartbeats come while nothing else does.
func TestHeartbeats(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, kind, Options{}, nil)
			c, conn := s.get(t)
			for range 2 {
				if got, err := c.lines.ReadString('\n'); got != ":\n" || err != nil {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			conn.Kill()
			s.wantEnd(t)
			testkit.Eventually(t, "the clock stops", func() bool {
				s.sse.beats.mu.Lock()
				defer s.sse.beats.mu.Unlock()
				return !s.sse.beats.running
			})
		})
	}
}

// A client that does not read is closed as a slow consumer, while others go on, and its memory is bounded.
func TestSlowConsumer(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, kind, Options{}, nil)
			c, conn := s.get(t)
			line := strings.Repeat("z", 20_000)
			const limit = 256 << 10
			for sent := 0; conn.SendAnswer(frame(line), limit); sent++ {
				if sent > 10_000 {
					t.Fatal("the queue is not limited")
				}
			}
			if waiting, slow := conn.Waiting(); !slow || waiting > limit+len(line)+100 {
				t.Errorf("%d bytes are queued, slow %v", waiting, slow)
			}
			for {
				got, err := c.lines.ReadString('\n')
				if err != nil {
					t.Fatalf("the last lines are missing: %v", err)
				}
				if got == "end 1008 slow consumer\n" {
					break
				}
				if got != line+"\n" && got != ":\n" {
					t.Fatalf("a line of %d bytes: %.50q", len(got), got)
				}
			}
			s.wantEnd(t)
		})
	}
}

// A client whose queue is full loses events and stays: it gets a notice in their place, and the newest event.
func TestDroppedEvents(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, kind, Options{}, nil)
			c, conn := s.get(t)
			line := strings.Repeat("z", 20_000)
			const limit = 256 << 10
			for conn.Send(frame(line), limit) {
			}
			if d, ok := conn.DropEvents(limit, time.Minute); !ok || d.Told {
				t.Fatalf("open %v, told %v", ok, d.Told)
			}
			conn.SendNotice(frame("notice"))
			if waiting, slow := conn.Waiting(); slow || waiting > 2*len(line) {
				t.Errorf("%d bytes are queued after the drop, slow %v", waiting, slow)
			}
			if !conn.Send(frame("newest"), limit) {
				t.Error("the newest event is refused")
			}
			for _, want := range []string{"notice", "newest"} {
				for got := ""; got != want+"\n"; {
					var err error
					if got, err = c.lines.ReadString('\n'); err != nil {
						t.Fatalf("%s is missing: %v", want, err)
					}
					if got != line+"\n" && got != ":\n" && got != want+"\n" {
						t.Fatalf("before %s, a line of %d bytes: %.50q", want, len(got), got)
					}
				}
			}
		})
	}
}

// Over HTTP/2, a response ends by its age, or when its server retires. Over HTTP/1.1 it depends on no server.
func TestRenewal(t *testing.T) {
	t.Run("age", func(t *testing.T) {
		s := newServer(t, "h2", Options{Lifetime: 10 * time.Millisecond}, nil)
		c, _ := s.get(t)
		c.want("end 1012 " + RenewReason)
		s.wantEnd(t)
	})
	t.Run("retired", func(t *testing.T) {
		s := newServer(t, "h2", Options{RetireWithin: 10 * time.Millisecond}, nil)
		c, _ := s.get(t)
		close(s.retired)
		c.want("end 1012 " + RenewReason)
		s.wantEnd(t)
	})
	t.Run("h1", func(t *testing.T) {
		s := newServer(t, "h1", Options{Lifetime: 10 * time.Millisecond}, nil)
		c, conn := s.get(t)
		close(s.retired)
		if err := s.Config.Shutdown(context.Background()); err != nil { // does not wait for the connection
			t.Fatal(err)
		}
		conn.Send(frame("on"), 0)
		c.want("on")
		conn.Kill()
		s.wantEnd(t)
	})
}

// The bytes of one client may differ from those of the others.
func TestRewrite(t *testing.T) {
	s := newServer(t, "h1", Options{Rewrite: func(dst, shared []byte) []byte {
		return append(append(dst, "mine: "...), shared...)
	}}, nil)
	c, conn := s.get(t)
	conn.Send(frame("one"), 0)
	conn.SendCopy(frame("two"), 0)
	c.want("mine: one")
	c.want("mine: two")
	conn.Kill()
	s.wantEnd(t)
}

// A client that sends bytes without end is cut off.
func TestClientSends(t *testing.T) {
	s := newServer(t, "h1", Options{}, nil)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n")
	<-s.conns
	_ = conn.SetWriteDeadline(time.Now().Add(testkit.Patience))
	for range 1000 {
		if _, err := conn.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	s.wantEnd(t)
	if len(s.conns) > 0 {
		t.Error("the bytes behind the request were served as another one")
	}
}

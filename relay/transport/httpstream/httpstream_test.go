package httpstream

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// fakeStream is a Stream whose writes wait for a token, or for the end.
type fakeStream struct {
	mu        sync.Mutex
	calls     []string
	tokens    chan struct{}
	unread    chan struct{}
	aborted   chan struct{}
	closeOnce sync.Once
	abortOnce sync.Once
}

func newFakeStream() *fakeStream {
	return &fakeStream{tokens: make(chan struct{}, 8), unread: make(chan struct{}), aborted: make(chan struct{})}
}

func (s *fakeStream) call(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, name)
}

func (s *fakeStream) Read([]byte) (int, error) {
	<-s.unread
	return 0, io.EOF
}

func (s *fakeStream) Write(b []byte) (int, error) {
	select {
	case <-s.tokens:
		return len(b), nil
	case <-s.aborted:
		return 0, os.ErrDeadlineExceeded
	}
}

func (s *fakeStream) StopReading() { s.closeOnce.Do(func() { close(s.unread) }) }

func (s *fakeStream) Abort() {
	s.abortOnce.Do(func() { close(s.aborted) })
	s.StopReading()
	s.call("abort")
}

func (s *fakeStream) End() { s.call("end") }

func (*fakeStream) OutlivesHandler() bool { return false }

// untilEnd reads until the end, and closes.
type untilEnd struct {
	*Conn
	closed []int
}

func (p *untilEnd) ServeStream() {
	_, _ = p.Conn.Read(make([]byte, 1))
	_ = p.Conn.Close()
}

func (p *untilEnd) Close(code int, _ string) {
	p.closed = append(p.closed, code)
	_ = p.Conn.Close()
}

// start serves a stream, and returns its Conn and a channel that is closed when Serve returns.
func start(s Stream, o Options) (conn *Conn, returned chan struct{}) {
	accepted := make(chan *Conn)
	returned = make(chan struct{})
	o.Open = func(http.ResponseWriter) (Stream, error) { return s, nil }
	go func() {
		defer close(returned)
		Serve(httptest.NewRecorder(), o, func(w http.ResponseWriter) {
			c, _ := HandshakeOf(w).Accept(w)
			c.Serve(&untilEnd{Conn: c})
			accepted <- c
		})
	}()
	return <-accepted, returned
}

// A client whose window stays full ends at the deadline, and only then.
func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		c, returned := start(s, Options{})
		for range 3 { // each write ends just in time
			_ = c.SetWriteDeadline(time.Now().Add(time.Minute))
			time.AfterFunc(59*time.Second, func() { s.tokens <- struct{}{} })
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_ = c.SetWriteDeadline(time.Time{})
			time.Sleep(time.Hour) // a stream at rest has no deadline
		}
		began := time.Now()
		_ = c.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("a write to a full window succeeded")
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("the write ended after %v, want a minute", took)
		}
		<-returned
		if got := strings.Join(s.calls, " "); got != "abort end" {
			t.Errorf("calls %q", got)
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("a write after the end succeeded")
		}
	})
}

// stuckStream does not return from a write, even if it is aborted.
type stuckStream struct {
	*fakeStream
	cut chan struct{}
}

func (s stuckStream) Write([]byte) (int, error) {
	<-s.cut
	return 0, io.ErrClosedPipe
}

// The handler does not return before a write does, and cuts the connection if that takes long.
func TestStuckWriteCutsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuckStream{newFakeStream(), make(chan struct{})}
		c, returned := start(s, Options{Cut: func() { close(s.cut) }})
		go func() { _, _ = c.Write([]byte("x")) }()
		synctest.Wait()
		began := time.Now()
		_ = c.Close()
		<-returned
		if took := time.Since(began); took != stuckTimeout {
			t.Errorf("the handler returned after %v, want %v", took, stuckTimeout)
		}
	})
}

// The stack of a handshake that panics reaches the server's log, and the stream is ended.
func TestPanicOfAHandshake(t *testing.T) {
	s := newFakeStream()
	o := Options{Open: func(http.ResponseWriter) (Stream, error) { return s, nil }}
	defer func() {
		err, ok := recover().(error)
		if !ok || !strings.Contains(err.Error(), "out of luck") || !strings.Contains(err.Error(), "TestPanicOfAHandshake") {
			t.Errorf("panic %v, want the handshake's with its stack", err)
		}
		if got := strings.Join(s.calls, " "); got != "end" {
			t.Errorf("calls %q", got)
		}
	}()
	Serve(httptest.NewRecorder(), o, func(w http.ResponseWriter) {
		if _, err := HandshakeOf(w).Accept(w); err != nil {
			t.Fatal(err)
		}
		panic("out of luck")
	})
}

func TestRejectedHandshake(t *testing.T) {
	w := httptest.NewRecorder()
	Serve(w, Options{}, func(w http.ResponseWriter) { http.Error(w, "no", http.StatusForbidden) })
	if w.Code != http.StatusForbidden {
		t.Errorf("status %d", w.Code)
	}
}

// Evictions are spread, and later connections stay.
func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set Set
		var ends []chan struct{}
		for range 60 {
			_, returned := start(newFakeStream(), Options{Set: &set})
			ends = append(ends, returned)
		}
		set.Evict(time.Hour, 1012, "")
		later, stays := start(newFakeStream(), Options{Set: &set})
		began := time.Now()
		for minutes := range 61 {
			time.Sleep(time.Until(began.Add(time.Duration(minutes+1) * time.Minute)))
			synctest.Wait()
			open := 0
			for _, end := range ends {
				select {
				case <-end:
				default:
					open++
				}
			}
			if want := max(0, 59-minutes); open > want+1 || open < want-1 {
				t.Fatalf("%d are open after %d minutes, want about %d", open, minutes+1, want)
			}
		}
		select {
		case <-stays:
			t.Error("a connection that was opened later is evicted")
		default:
		}
		_ = later.Close()
		<-stays
	})
}

// An eviction holds no connection that has ended: with it goes the configuration that accepted it.
func TestEvictionForgetsEndedConnections(t *testing.T) {
	var set Set
	open, stays := start(newFakeStream(), Options{Set: &set})
	ended := func() weak.Pointer[Conn] {
		c, returned := start(newFakeStream(), Options{Set: &set})
		set.Evict(time.Hour, 1012, "")
		_ = c.Close()
		<-returned
		return weak.Make(c)
	}()
	testkit.Eventually(t, "the end of a connection", func() error {
		if runtime.GC(); ended.Value() != nil {
			return errors.New("the connection is still reachable")
		}
		return nil
	})
	_ = open.Close()
	<-stays
}

// A connection that is evicted during its handshake ends.
func TestEvictionDuringAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set Set
		s := newFakeStream()
		o := Options{Set: &set, Open: func(http.ResponseWriter) (Stream, error) { return s, nil }}
		began := time.Now()
		Serve(httptest.NewRecorder(), o, func(w http.ResponseWriter) {
			c, _ := HandshakeOf(w).Accept(w)
			set.Evict(time.Minute, 1012, "")
			time.Sleep(time.Hour)
			c.Serve(&untilEnd{Conn: c})
		})
		if took := time.Since(began); took != time.Hour || set.Len() != 0 {
			t.Errorf("the connection ended after %v, and %d are open", took, set.Len())
		}
		if _, err := s.Read(nil); err != io.EOF {
			t.Error(err)
		}
	})
}

// A connection that is to be evicted is not evicted earlier or later by another eviction.
func TestEvictionsOfOneSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set Set
		began := time.Now()
		_, first := start(newFakeStream(), Options{Set: &set})
		set.Evict(time.Hour, 1012, "")
		_, second := start(newFakeStream(), Options{Set: &set})
		set.Evict(24*time.Hour, 1012, "")
		<-first
		if took := time.Since(began); took > time.Hour {
			t.Errorf("the first connection was evicted after %v, want an hour at most", took)
		}
		<-second
		if took := time.Since(began); took > 24*time.Hour || set.Len() != 0 {
			t.Errorf("the second connection was evicted after %v, and %d are open", took, set.Len())
		}
	})
}

package ws_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// way is a way in which connections are read: by the poller, plain and under TLS, or by a goroutine each.
type way struct {
	name     string
	secure   bool
	wrap     func(net.Listener) net.Listener
	indirect bool // without direct TLS, as after a failed self-test
	polled   bool
}

var ways = []way{
	{name: "plain", polled: runtime.GOOS == "linux"},
	{name: "TLS", secure: true, polled: runtime.GOOS == "linux"},
	{name: "TLS, not direct", secure: true, indirect: true},
	{name: "wrapped", wrap: func(ln net.Listener) net.Listener { return wrapper{ln} }},
	{name: "wrapped under TLS", secure: true, wrap: func(ln net.Listener) net.Listener { return wrapper{ln} }},
	{name: "raw", wrap: func(ln net.Listener) net.Listener { return rawListener{ln} }},
	{name: "raw under TLS", secure: true, wrap: func(ln net.Listener) net.Listener { return rawListener{ln} }},
}

func (w way) newServer(t *testing.T) *server {
	poller := netpoll.New()
	t.Cleanup(poller.Close)
	poller.SetDirectTLS(!w.indirect)
	return newServerWith(t, poller, w.secure, w.wrap)
}

// wrapper is a listener whose connections hide their sockets.
type wrapper struct{ net.Listener }

func (w wrapper) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{conn}, nil
}

// rawListener is a listener whose connections have a descriptor, but are of a type that netpoll does not know.
type rawListener struct{ net.Listener }

func (l rawListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ *net.TCPConn }{conn.(*net.TCPConn)}, nil
}

func TestNoGoroutineAtRest(t *testing.T) {
	start := runtime.NumGoroutine()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			testkit.Eventually(t, "the end of the previous goroutines", func() bool {
				return runtime.NumGoroutine() < start+10
			})
			s := way.newServer(t)
			var clients []*client
			dial := func(n int) {
				for i := range n {
					c, _ := s.dial(t)
					c.send(frame(0x81, "hello")...)
					c.want(0x81, "hello")
					c.send(frame(0x89, "?")...)
					c.want(0x8a, "?")
					if i%2 == 0 {
						c.send(frame(0x8a, "")...)
					}
					clients = append(clients, c)
				}
			}
			dial(50) // some readers stay
			before := runtime.NumGoroutine()
			const more = 200
			dial(more)
			if way.polled {
				testkit.Eventually(t, "no goroutines for connections at rest", func() bool {
					return runtime.NumGoroutine()-before < more/10
				})
			} else if n := runtime.NumGoroutine() - before; n < more*9/10 { // some earlier goroutines may have ended
				t.Errorf("%d goroutines for %d connections, which should not be polled", n, more)
			}
			for _, c := range clients { // a message ends the rest
				c.send(frame(0x81, "again")...)
				c.want(0x81, "again")
			}
		})
	}
}

// Messages arrive in pieces of all sizes, with and without pauses. All are delivered, in order.
func TestMessagesInPieces(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := way.newServer(t)
			for range 4 {
				t.Run("", func(t *testing.T) {
					t.Parallel()
					c, _ := s.dial(t)
					c.t = t
					seed := rand.Uint64()
					random := rand.New(rand.NewPCG(seed, 1))
					const messages = 3000
					var stream []byte
					payload := func(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", i%7*i%300)) }
					for i := range messages {
						stream = append(stream, frame(0x81, payload(i))...)
						if i%50 == 0 { // 60 pongs: more in a second are a flood
							stream = append(stream, frame(0x8a, "")...)
						}
					}
					pauses := make([]bool, 0, messages)
					sizes := make([]int, 0, messages)
					for left := len(stream); left > 0; {
						n := min(left, 1+int(random.ExpFloat64()*float64(1+random.IntN(500))))
						sizes, pauses = append(sizes, n), append(pauses, random.IntN(4) == 0)
						left -= n
					}
					go func() {
						for i, n := range sizes {
							if _, err := c.Write(stream[:n]); err != nil {
								t.Errorf("seed %d: %v", seed, err)
								return
							}
							stream = stream[n:]
							if pauses[i] {
								runtime.Gosched()
							}
						}
					}()
					for i := range messages {
						if _, p, err := c.next(); err != nil || string(p) != payload(i) {
							t.Fatalf("seed %d: message %d is %.20q, %v", seed, i, p, err)
						}
					}
				})
			}
		})
	}
}

// A client sends and closes at once. The messages are delivered, and the end is noticed.
func TestMessagesBeforeTheEnd(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			s := way.newServer(t)
			for i := range 100 {
				c, _ := s.dial(t)
				c.send(append(frame(0x81, "good"), frame(0x81, "bye")...)...)
				if cw, ok := c.Conn.(interface{ CloseWrite() error }); !ok || cw.CloseWrite() != nil {
					t.Fatal("the client cannot end the outgoing direction")
				}
				s.wantEnd(t, fmt.Sprint("client ", i))
				if n := s.messages.Load(); n != int64(2*(i+1)) {
					t.Fatalf("client %d: %d messages, want %d", i, n, 2*(i+1))
				}
				_ = c.Close()
			}
		})
	}
}

func (s *server) wantEnd(t *testing.T, what string) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(testkit.Patience):
		t.Fatalf("%s: the server does not end the connection", what)
	}
}

// Kill ends a connection for the handler, exactly once, also at rest and at the start.
func TestKilled(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			s := way.newServer(t)
			for i := range 100 {
				c, conn := s.dial(t)
				if i%2 == 0 {
					c.send(frame(0x81, "hello")...)
					c.want(0x81, "hello")
				}
				conn.Kill()
				conn.Kill()
				s.wantEnd(t, fmt.Sprint("client ", i))
				if _, _, err := c.next(); err == nil {
					t.Error("a killed connection still sends")
				}
			}
			select {
			case <-s.ended:
				t.Error("a connection has ended twice")
			default:
			}
		})
	}
}

// The kernel reuses descriptors at once. An event of the previous connection must not harm the next.
func TestReusedDescriptors(t *testing.T) {
	s := newServer(t, false)
	const workers, rounds = 8, 200
	done := make(chan error, workers)
	go func() {
		for range workers * rounds {
			<-s.ended
		}
		done <- nil
	}()
	go func() { // no test waits for these
		for range workers * rounds {
			<-s.conns
		}
	}()
	for range workers {
		go func() {
			for i := range rounds {
				if err := s.hello(i%2 == 0); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range workers + 1 {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(6 * testkit.Patience):
			t.Fatal("not all connections have ended")
		}
	}
}

// hello connects, exchanges a message and closes, with a reset or without.
func (s *server) hello(reset bool) error {
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := conn.Write(append([]byte(handshake), frame(0x81, "hello")...)); err != nil {
		return err
	}
	var got []byte
	for want := relay.AppendFrame(nil, []byte("hello")); !bytes.HasSuffix(got, want); {
		b := make([]byte, 512)
		n, err := conn.Read(b)
		if err != nil {
			return fmt.Errorf("after %q: %w", got, err)
		}
		got = append(got, b[:n]...)
	}
	if reset {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	return nil
}

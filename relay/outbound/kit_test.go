package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback is the grant for servers of the tests.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

// names is a name server. Each look-up of a name takes the next of its lists of addresses; the last one stays.
type names struct {
	*net.Resolver
	mu      sync.Mutex
	answers map[string][][]string
}

func nameServer(t *testing.T, answers map[string][][]string) *names {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{answers: answers}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := n.reply(buf[:size]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	n.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	return n
}

func (n *names) reply(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
	for _, text := range n.next(strings.TrimSuffix(q.Name.String(), "."), q.Type) {
		a := netip.MustParseAddr(text)
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && !a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	out, _ := m.Pack()
	return out
}

// next returns the addresses of a name. The question for IPv6 does not count.
func (n *names) next(name string, kind dnsmessage.Type) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.answers[name]
	if len(list) == 0 {
		return nil
	}
	if len(list) > 1 && kind == dnsmessage.TypeA {
		n.answers[name] = list[1:]
	}
	return list[0]
}

// server is an HTTP server that counts its connections.
type server struct {
	*httptest.Server
	connections atomic.Int32
	port        string
}

func serve(t *testing.T, secure bool, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{Server: httptest.NewUnstartedServer(h)}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	_, s.port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return s
}

// trust returns a configuration that trusts the server's certificate, which is for example.com and its subdomains.
func (s *server) trust() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// raw is a TCP server that writes what write writes to each connection after it has read something.
func raw(t *testing.T, write func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				if _, err := conn.Read(make([]byte, 4096)); err == nil {
					write(conn)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "http://" + l.Addr().String()
}

func client(t *testing.T, p Policy) *Client {
	t.Helper()
	c, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fetch makes a request, which may be a Request or a URL.
func fetch(t *testing.T, c *Client, request any, body string) Result {
	t.Helper()
	if url, ok := request.(string); ok {
		request = Request{URL: url}
	}
	text, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	req, err := Parse(text)
	if err != nil {
		return failed(Invalid, err.Error())
	}
	end := make(chan Result, 1)
	c.Start(req, []byte(body), func(r Result) { end <- r })
	select {
	case r := <-end:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("the request has no end")
		return Result{}
	}
}

func expect(t *testing.T, r Result, outcome Outcome, reason string) {
	t.Helper()
	if r.Outcome != outcome || !strings.Contains(r.Reason, reason) {
		t.Errorf("outcome %d, status %d, reason %q; want outcome %d, reason %q", r.Outcome, r.Status, r.Reason, outcome, reason)
	}
}

package discovery_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// finder runs a discovery and keeps what it has found last.
type finder struct {
	mu   sync.Mutex
	urls []string
	told int
	stop func()
}

func run(t *testing.T, d backplane.Discovery) *finder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &finder{}
	var running sync.WaitGroup
	running.Go(func() {
		d.Run(ctx, func(targets []backplane.Target) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.urls, f.told = nil, f.told+1
			for _, x := range targets {
				f.urls = append(f.urls, x.URL)
			}
		})
	})
	f.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(f.stop)
	return f
}

func (f *finder) expect(t *testing.T, want ...string) {
	t.Helper()
	testkit.Eventually(t, "peers found", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.told == 0 || !slices.Equal(f.urls, want) {
			return fmt.Errorf("told %d times, last of %q, want %q", f.told, f.urls, want)
		}
		return nil
	})
}

func TestRedisRegistry(t *testing.T) {
	redis := peers.StartRedis(t)
	node := func(url string) *discovery.Redis {
		return &discovery.Redis{URL: redis.URL, Advertise: url, Every: 200 * time.Millisecond, TTL: 2 * time.Second, Log: quiet}
	}
	a := run(t, node("http://a"))
	a.expect(t)
	b, c := run(t, node("http://b")), run(t, node("http://c:8013"))
	a.expect(t, "http://b", "http://c:8013")
	b.expect(t, "http://a", "http://c:8013")
	c.expect(t, "http://a", "http://b")
	c.stop() // says goodbye
	a.expect(t, "http://b")
	// One that dies without a word is forgotten, an entry that is no URL is nobody's.
	redis.Do("ZADD", "edgerelay:nodes", fmt.Sprint(time.Now().Unix()), "http://dying", fmt.Sprint(time.Now().Unix()), "what's this")
	a.expect(t, "http://b", "http://dying")
	a.expect(t, "http://b")
	// Redis is gone for a while: peers stay, and afterwards the registry fills again by itself.
	redis.Kill()
	redis.Restart()
	d := run(t, node("http://d"))
	a.expect(t, "http://b", "http://d")
	d.expect(t, "http://a", "http://b")
}

// nameServer answers for one name, over UDP on loopback.
type nameServer struct {
	mu        sync.Mutex
	addresses []netip.Addr
	srv       []dnsmessage.SRVResource
	broken    bool
}

func (s *nameServer) set(f func(*nameServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *nameServer) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := s.answer(buf[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameServer) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	if s.broken {
		m.RCode = dnsmessage.RCodeServerFailure
	}
	q := m.Questions[0]
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: body,
		})
	}
	for _, a := range s.addresses {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			add(&dnsmessage.AResource{A: a.As4()})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			add(&dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	if q.Type == dnsmessage.TypeSRV {
		for _, r := range s.srv {
			add(&r)
		}
	}
	return m.Pack()
}

func TestDNS(t *testing.T) {
	server := &nameServer{addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	f := run(t, &discovery.DNS{
		Name: "relay.awx.svc.cluster.local.", Scheme: "http", Port: 8013, Every: 50 * time.Millisecond, Resolver: server.resolver(t), Log: quiet,
	})
	f.expect(t, "http://10.0.0.1:8013", "http://10.0.0.2:8013", "http://[fd00::1]:8013")
	server.set(func(s *nameServer) { s.addresses = s.addresses[:1] })
	f.expect(t, "http://10.0.0.2:8013")
	// A name server that fails changes nothing.
	server.set(func(s *nameServer) { s.broken, s.addresses = true, nil })
	f.mu.Lock()
	told := f.told
	f.mu.Unlock()
	server.set(func(s *nameServer) { s.broken, s.addresses = false, []netip.Addr{netip.MustParseAddr("10.0.0.9")} })
	f.expect(t, "http://10.0.0.9:8013")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told != told+1 {
		t.Errorf("told %d times", f.told-told)
	}
}

func TestDNSServices(t *testing.T) {
	server := &nameServer{srv: []dnsmessage.SRVResource{
		{Target: dnsmessage.MustNewName("one.example.com."), Port: 443}, {Target: dnsmessage.MustNewName("two.example.com."), Port: 8443},
	}}
	f := run(t, &discovery.DNS{
		Name: "_https._tcp.relay.example.com.", Scheme: "https", Every: 50 * time.Millisecond, Resolver: server.resolver(t), Log: quiet,
	})
	f.expect(t, "https://one.example.com:443", "https://two.example.com:8443")
	server.set(func(s *nameServer) { s.srv = s.srv[1:] })
	f.expect(t, "https://two.example.com:8443")
}

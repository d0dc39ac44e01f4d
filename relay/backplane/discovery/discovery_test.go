package discovery_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
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
	gone []string // all nodes that have withdrawn themselves
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
				if x.Gone {
					f.gone = append(f.gone, x.URL)
					continue
				}
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

// withdrawn lists the nodes that have withdrawn themselves.
func (f *finder) withdrawn() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.gone)
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
	if gone := a.withdrawn(); !slices.Equal(gone, []string{"http://c:8013"}) {
		t.Errorf("withdrawn: %q", gone)
	}
	// One that dies without a word is forgotten, an entry that is no URL is nobody's.
	redis.Do("ZADD", "edgerelay:nodes", fmt.Sprint(time.Now().Unix()), "http://dying", fmt.Sprint(time.Now().Unix()), "what's this")
	a.expect(t, "http://b", "http://dying")
	a.expect(t, "http://b")
	if gone := a.withdrawn(); len(gone) != 1 {
		t.Errorf("withdrawn: %q; an announcement that has expired says nothing about the node", gone)
	}
	// Redis is gone for a while: peers stay, and afterwards the registry fills again by itself.
	redis.Kill()
	redis.Restart()
	d := run(t, node("http://d"))
	a.expect(t, "http://b", "http://d")
	d.expect(t, "http://a", "http://b")
}

func TestDNS(t *testing.T) {
	server := testkit.StartNameServer(t)
	server.SetAddresses("10.0.0.2", "10.0.0.1", "fd00::1")
	f := run(t, &discovery.DNS{
		Name: "relay.awx.svc.cluster.local.", Scheme: "http", Port: 8013, Every: 50 * time.Millisecond, Resolver: server.Resolver(), Log: quiet,
	})
	f.expect(t, "http://10.0.0.1:8013", "http://10.0.0.2:8013", "http://[fd00::1]:8013")
	server.SetAddresses("10.0.0.2")
	f.expect(t, "http://10.0.0.2:8013")
	// A name server that fails changes nothing, and neither does an answer without an address.
	for _, code := range []dnsmessage.RCode{dnsmessage.RCodeServerFailure, dnsmessage.RCodeNameError, dnsmessage.RCodeSuccess} {
		server.Fail(code)
		server.AwaitQueries(t, 8) // each look-up asks for A and AAAA
		f.expect(t, "http://10.0.0.2:8013")
	}
	server.SetAddresses("10.0.0.9")
	f.expect(t, "http://10.0.0.9:8013")
}

func TestDNSServices(t *testing.T) {
	server := testkit.StartNameServer(t)
	server.SetServices("one.example.com.:443", "two.example.com.:8443")
	f := run(t, &discovery.DNS{
		Name: "_https._tcp.relay.example.com.", Scheme: "https", Every: 50 * time.Millisecond, Resolver: server.Resolver(), Log: quiet,
	})
	f.expect(t, "https://one.example.com:443", "https://two.example.com:8443")
	server.SetServices("two.example.com.:8443")
	f.expect(t, "https://two.example.com:8443")
}

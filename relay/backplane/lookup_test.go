package backplane_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// A connection breaks while name servers do not answer, as when both are behind the same link: the peer is dialed at
// its last address, within a second, and by its name again later.
func TestNameServersDoNotDelayTheRedial(t *testing.T) {
	leakCheck(t)
	server := testkit.StartNameServer(t)
	server.SetAddresses("127.0.0.1")
	var silent atomic.Bool
	var asked atomic.Int64
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		asked.Add(1)
		if silent.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return server.Resolver().Dial(ctx, network, address)
	}}
	dialed, dialer := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	link := testkit.StartProxy(t, dialed.server.Listener.Addr().String())
	dialed.start()
	dialer.prepare = func(b *backplane.Backplane) { b.ResolveWith(resolver) }
	_, port, err := net.SplitHostPort(link.Addr)
	if err != nil {
		t.Fatal(err)
	}
	dialer.start(peersOf("http://relay.example.com:"+port), func(s *backplane.Settings) { s.Retry = 20 * time.Millisecond })
	dialer.awaitSources(1)
	for _, mute := range []bool{true, false} {
		silent.Store(mute)
		before := asked.Load()
		broken := time.Now()
		link.Cut()
		testkit.EventuallyWithin(t, 4*time.Second, "another link", func() error {
			for _, p := range dialer.plane.Peers() {
				if p.State == backplane.StateConnected && p.Since.After(broken) && strings.Contains(p.URL, "example.com") {
					return nil
				}
			}
			return fmt.Errorf("%+v", dialer.plane.Peers())
		})
		t.Logf("name servers silent: %v; a new link after %v", mute, time.Since(broken).Round(time.Millisecond))
		if asked.Load() == before {
			t.Error("no name server was asked")
		}
	}
}

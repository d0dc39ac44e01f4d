package redis_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// An event is, at any moment, in the channel key, in the in-flight key, or in the history, although connections break
// in the middle of commands, and whatever else travels with them.
func TestAnEventIsAlwaysSomewhere(t *testing.T) {
	server := peers.StartRedis(t)
	var cutting atomic.Bool
	proxy := testkit.StartRelay(t, server.Addr, func(_ int, b []byte, to io.Writer) {
		if cutting.Load() && rand.N(40) == 0 {
			_, _ = to.Write(b[:rand.N(len(b)+1)])
			_ = to.(net.Conn).Close()
			return
		}
		_, _ = to.Write(b)
	}, nil)
	s := settings(server)
	s.URLs = []string{"redis://" + proxy.Addr + "/0"}
	a := startKeeper(t, s, "g")
	channel, inflight := a.Keys()
	var sent atomic.Int64 // events below this number have been published
	checks := 0
	publish := publisher(t, server)
	publish("g", numbered(0, 1)...)
	a.positionOf(t, "g", "<0>")
	cutting.Store(true)
	const count = 1500
	var emitting sync.WaitGroup
	emitting.Go(func() {
		for i := 1; i < count; i++ {
			publish("g", fmt.Sprintf("<%d>", i))
			sent.Store(int64(i + 1))
		}
	})
	snapshot := fmt.Sprintf(`local t={} for _,k in ipairs({%q,%q,%q}) do
for _,m in ipairs(redis.call('ZRANGE',k,0,-1)) do local n=string.match(m,'<%%d+>') if n then t[#t+1]=n end end end
return table.concat(t)`, channel, inflight, "edgerelay:history:asgi:g:g")
	for sent.Load() < count {
		before := sent.Load()
		all, _ := server.Do("EVAL", snapshot, 0).(string)
		for i := int64(1); i < before; i++ {
			if !strings.Contains(all, fmt.Sprintf("<%d>", i)) {
				t.Fatalf("event %d is nowhere, of %d", i, before)
			}
		}
		checks++
	}
	emitting.Wait()
	cutting.Store(false)
	testkit.Eventually(t, "an empty mailbox", func() bool { return flight(server, channel)+flight(server, inflight) == 0 })
	if n := server.Do("ZCOUNT", "edgerelay:history:asgi:g:g", "1", "+inf"); n != int64(count) {
		t.Errorf("the history has %v events, want %d", n, count)
	}
	if n := len(a.Texts("g")); n != count {
		t.Errorf("%d events were delivered, want %d", n, count)
	}
	t.Logf("%d snapshots, %d reconnects", checks, a.Health().Reconnects)
}

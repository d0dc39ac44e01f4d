package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// A user may write to groups and channel keys, but not to the key of the health check. So the health check says nothing
// about a host that rejects writes, and the reader must not ask in a busy loop.
func TestRejectedWritesCauseNoBusyLoop(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	r.Do("ACL", "SETUSER", "relay", "on", ">secret", "~asgi:group:?*", "~asgi$*", "~asgispecific.*", "~edgerelay:*",
		"+@all", "-@admin", "-@dangerous")
	s := settings(r)
	s.URLs = []string{"redis://relay:secret@" + r.Addr}
	b, c := startCounter(t, s, nil)
	r.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	r.Do("CONFIG", "SET", "min-replicas-max-lag", "10")
	r.KillClients() // The new connection looks for messages.
	before := b.Health().RoundTrips
	began := time.Now()
	testkit.Eventually(t, "some pauses", func() bool { return time.Since(began) > 1500*time.Millisecond })
	if n := b.Health().RoundTrips - before; n > 200 {
		t.Errorf("%d round trips in %v", n, time.Since(began))
	}
	r.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	emitter(t, r)(0, 1)
	c.once(t, 1)
}

// Whenever a command is sent, a group is joined and another is left, so that a reconciler always has something to do.
// That must not delay the renewal of memberships.
func TestRenewalDuringConstantJoins(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	var joining atomic.Pointer[redis.Broker]
	var n atomic.Int64
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	s := settings(r)
	s.GroupExpiry = time.Second
	proxy := testkit.StartRelay(t, r.Addr, func(_ int, command []byte, w io.Writer) {
		if b := joining.Load(); b != nil && bytes.Contains(bytes.ToLower(command), []byte("\nzadd")) {
			i := n.Add(1)
			b.Leave(fmt.Sprintf("g%d", i-1))
			_ = b.Join(gone, fmt.Sprintf("g%d", i)) // wanted, without waiting
		}
		_, _ = w.Write(command)
	}, nil)
	s.URLs = []string{"redis://" + proxy.Addr + "/0"}
	b, _ := start(t, s, "kept")
	joining.Store(b)
	_ = b.Join(gone, "g0")
	began := time.Now()
	testkit.Eventually(t, "two renewals", func() bool { return time.Since(began) > 5*s.GroupExpiry/2 })
	joining.Store(nil)
	if repairs := b.Health().Repairs; repairs > 0 {
		t.Errorf("%d memberships expired while %d groups were joined", repairs, n.Load())
	}
}

// A host that rejected every write comes to reject only writes that need memory. Reading needs none, and frees memory.
func TestFullMemoryAfterRejectedWrites(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	release := make(chan struct{})
	b, c := startCounter(t, settings(r), func(int) { <-release })
	emit := emitter(t, r)
	emit(0, 1)
	taken(t, r)
	emit(1, 2) // waits in the channel key, because the sink is busy
	r.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	close(release)
	testkit.Eventually(t, "the host to reject writes", func() bool {
		return strings.Contains(b.Health().Detail, "NOREPLICAS")
	})
	r.Do("CONFIG", "SET", "maxmemory", "1")
	testkit.Eventually(t, "the host to be out of memory", func() bool {
		return strings.Contains(b.Health().Detail, "OOM")
	})
	r.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	c.once(t, 2)
}

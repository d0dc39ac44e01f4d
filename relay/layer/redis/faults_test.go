package redis_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// soon is how long a join, or an event, may take on a host that is well: 0 to 1 ms, and what a busy machine adds.
const soon = time.Second

// silent returns the address of a host that accepts connections and never answers.
func silent(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return ln.Addr().String()
}

// refusing returns the address of a host that accepts no connections.
func refusing(t *testing.T) string {
	t.Helper()
	return testkit.Loopback(testkit.FreePort(t))
}

// groupsOn returns names of groups that host keeps, of a ring of two.
func groupsOn(host, n int, index func(string) int) (names []string) {
	for i := 0; len(names) < n; i++ {
		if name := fmt.Sprintf("job_events-%d", i); index(name) == host {
			names = append(names, name)
		}
	}
	return names
}

// within fails the test if fn takes longer than it may.
func within(t *testing.T, what string, most time.Duration, fn func()) {
	t.Helper()
	began := time.Now()
	fn()
	if took := time.Since(began); took > most {
		t.Errorf("%s took %v", what, took)
	}
}

// One host of a ring is out of order, whichever it is and however: groups on the other are joined, published to and
// heard at once, health says which host it is, and settings are applied and the layer left in bounded time.
func TestRingWithABadHost(t *testing.T) {
	t.Parallel()
	for _, bad := range []struct {
		name string
		addr func(t *testing.T) string
	}{
		{"silent", silent},
		{"refusing", refusing},
		{"frozen", func(t *testing.T) string {
			r := peers.StartRedis(t)
			stop(t, r)
			return r.Addr
		}},
	} {
		for at := range 2 {
			t.Run(fmt.Sprintf("%s at %d", bad.name, at), func(t *testing.T) {
				t.Parallel()
				good := peers.StartRedis(t)
				addr := bad.addr(t)
				s := settings(good, good)
				s.URLs[at] = "redis://" + addr + "/0"
				b, sink := newBroker(t, s), &relaytest.Sink{}
				run(t, b, sink)
				for _, name := range groupsOn(at, 3, redis.IndexOfTwo) {
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					if err := b.Join(ctx, name); err == nil {
						t.Errorf("joined %s on a host that is out of order", name)
					}
					cancel()
				}
				testkit.Eventually(t, "health to name the host", func() bool {
					h := b.Health()
					return !h.OK && strings.Contains(h.Detail, addr) && !strings.Contains(h.Detail, good.Addr)
				})
				for _, name := range groupsOn(1-at, 20, redis.IndexOfTwo) {
					within(t, "joining", soon, func() {
						if err := b.Join(t.Context(), name); err != nil {
							t.Fatal(err)
						}
					})
					within(t, "the first event", soon, func() {
						if r, err := b.Publish(t.Context(), name, []byte("x")); err != nil || r.Members != 1 {
							t.Fatal(r, err)
						}
						testkit.Eventually(t, "the event", func() bool { return len(sink.Texts(name)) == 1 })
					})
				}
				s.Capacity++
				within(t, "applying settings", soon, func() {
					if err := b.Apply(s); err != nil {
						t.Error(err)
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				within(t, "closing", 3*time.Second, func() {
					if err := b.Close(ctx); err == nil {
						t.Error("left a host that is out of order")
					}
				})
				if left := append(keys(good, "asgi*"), keys(good, "edgerelay:*")...); len(left) > 0 {
					t.Errorf("left behind on the host that is well: %v", left)
				}
			})
		}
	}
}

// A group whose key is no sorted set concerns its own subscribers only, and is joined once the key is gone.
func TestGroupKeyOfAnotherType(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	r.Do("SET", "asgi:group:odd", "x")
	b, sink := start(t, settings(r), "g")
	within(t, "joining", soon, func() {
		if err := b.Join(t.Context(), "odd", "other"); err == nil || !strings.Contains(err.Error(), "odd") {
			t.Errorf("joined a group whose key is a string: %v", err)
		}
	})
	testkit.Eventually(t, "health to name the key", func() bool {
		h := b.Health()
		return h.OK && h.FaultyGroups == 1 && strings.Contains(h.Detail, "asgi:group:odd")
	})
	if n := r.Do("ZCARD", "asgi:group:other"); n != int64(1) {
		t.Errorf("%v members of the group beside it", n)
	}
	if got := r.Do("GET", "asgi:group:odd"); got != "x" {
		t.Errorf("the key became %v", got)
	}
	_, err := b.Publish(t.Context(), "odd", []byte("x"))
	if err == nil || !strings.Contains(err.Error(), "asgi:group:odd") {
		t.Errorf("publishing to it: %v", err)
	}
	r.Do("DEL", "asgi:group:odd")
	testkit.Eventually(t, "the group to be joined", func() bool {
		return r.Do("ZCARD", "asgi:group:odd") == int64(1) && b.Health().FaultyGroups == 0
	})
	if _, err := b.Publish(t.Context(), "odd", []byte("x")); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "an event", func() bool { return len(sink.Texts("odd")) == 1 })

	r.Do("SET", "asgi:group:odd", "x") // while it is joined
	testkit.Eventually(t, "health to tell", func() bool { return b.Health().FaultyGroups == 1 })
	b.Leave("odd")
	testkit.Eventually(t, "the trouble to go with its group", func() bool { return b.Health().FaultyGroups == 0 })
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Something else in the keys of the relay's own is deleted and counted, and events flow.
func TestOwnKeysOfAnotherType(t *testing.T) {
	t.Parallel()
	for _, kind := range [][]any{{"SET", "x"}, {"RPUSH", "x"}, {"HSET", "x", "y"}} {
		t.Run(kind[0].(string), func(t *testing.T) {
			t.Parallel()
			r := peers.StartRedis(t)
			put := func(key string) { r.Do(append([]any{kind[0], key}, kind[1:]...)...) }
			put("edgerelay:nodes:asgi")
			b, sink := startQuick(t, settings(r), "g")
			if kind[0] != "SET" { // a string is an identity
				put("edgerelay:layer:asgi")
			}
			channel := channelKeyOf(r)
			inflight := "asgi$" + strings.TrimPrefix(channel, "asgispecific.")[:16]
			for i, key := range []string{channel, inflight, channel} {
				r.Do("DEL", key)
				put(key)
				testkit.Eventually(t, "the next events", func() bool {
					_, _ = b.Publish(t.Context(), "g", []byte("x"))
					return len(sink.Texts("g")) > 2*i+1
				})
			}
			if _, err := b.LayerID(t.Context()); err != nil {
				t.Error(err)
			}
			testkit.Eventually(t, "the roster", func() bool { return r.Do("TYPE", "edgerelay:nodes:asgi") == "set" })
			if h := b.Health(); h.Healed < 3 || !h.OK {
				t.Errorf("%+v", h)
			}
		})
	}
}

// A host that goes on to say that a key holds another type, whatever was deleted, is believed once for each beat and
// question.
func TestHostThatStaysFaulty(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	var beats, questions atomic.Int64
	addr := peers.StartImpostor(t, r.Addr, func(command string) string {
		switch {
		case strings.HasPrefix(command, "SADD"):
			beats.Add(1)
		case strings.HasPrefix(command, "EVAL"):
			questions.Add(1)
		default:
			return ""
		}
		return "-WRONGTYPE Operation against a key holding the wrong kind of value"
	})
	s := settings(r)
	s.URLs[0] = "redis://" + addr + "/0"
	b, _ := start(t, s, "a")
	testkit.Eventually(t, "a key to be deleted", func() bool { return b.Health().Healed > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if id, err := b.LayerID(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the identity is %q, %v", id, err)
	}
	for i := range 20 {
		if err := b.Join(t.Context(), fmt.Sprint("b", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n, m := beats.Load(), questions.Load(); n > 2 || m > 6 {
		t.Errorf("%d beats, %d questions", n, m)
	}
}

package redis_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// reloads are the orders of a reload and of a restart of Redis, which then is empty.
var reloads = map[string]func(server *peers.Redis, reload func()){
	"before the restart": func(server *peers.Redis, reload func()) {
		reload()
		server.Kill()
		server.Restart()
	},
	"before the restart, unanswered": func(server *peers.Redis, reload func()) {
		server.Signal(syscall.SIGSTOP)
		reload()
		server.Kill()
		server.Restart()
	},
	"during the absence": func(server *peers.Redis, reload func()) {
		server.Kill()
		reload()
		server.Restart()
	},
	"before, during and after": func(server *peers.Redis, reload func()) {
		reload()
		server.Kill()
		reload()
		server.Restart()
		reload()
	},
	"after the restart": func(server *peers.Redis, reload func()) {
		server.Kill()
		server.Restart()
		reload()
	},
}

// A reload writes the memberships again. That must not hide that they had vanished.
func TestReloadHidesNoLoss(t *testing.T) {
	for name, order := range reloads {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, history %v", name, kept), func(t *testing.T) {
				t.Parallel()
				server := peers.StartRedis(t)
				s := settings(server)
				s.Prefix = "awx"
				var b *redis.Broker
				sink := &layertest.LossSink{}
				if kept {
					k := startKeeper(t, s, "a")
					b, sink = k.Broker, &k.LossSink
				} else {
					b = newBroker(t, s)
					run(t, b, sink, "a")
				}
				order(server, func() { apply(t, b, s) })
				layertest.ExpectLoss(t, sink, relay.LossMembership, false, "a")
				if n := server.Do("ZCARD", "awx:group:a").(int64); n != 1 {
					t.Errorf("%d members, want 1", n)
				}
			})
		}
	}
}

// Only the groups on the host of a ring that restarted have lost events.
func TestReloadHidesNoLossOnARing(t *testing.T) {
	t.Parallel()
	servers := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t)}
	s, sink := settings(servers...), &layertest.LossSink{}
	b := newBroker(t, s)
	lost := groupsOn(1, 1, redis.IndexOfTwo)
	run(t, b, sink, append(groupsOn(0, 3, redis.IndexOfTwo), lost...)...)
	reloads["during the absence"](servers[1], func() { apply(t, b, s) })
	layertest.ExpectLoss(t, sink, relay.LossMembership, false, lost...)
}

// A reload may come before the next check of the memberships where Redis does not notify of changes, and a user may
// have no right to check them.
func TestReloadBeforeTheCheckHidesNoLoss(t *testing.T) {
	t.Parallel()
	server := peers.StartRedis(t)
	for name, rights := range map[string]string{"polls": "-client|tracking", "checks_not": "-zscore"} {
		t.Run(name, func(t *testing.T) {
			server.Do("ACL", "SETUSER", name, "reset", "on", ">secret", "~*", "&*", "+@all", rights)
			s, sink := settings(), &layertest.LossSink{}
			s.URLs = []string{"redis://" + name + ":secret@" + server.Addr + "/0"}
			b := newBroker(t, s)
			run(t, b, sink, "a")
			server.Do("DEL", "asgi:group:a")
			apply(t, b, s)
			layertest.ExpectLoss(t, sink, relay.LossMembership, false, "a")
		})
	}
}

// Reloads write the memberships again, and with another group_expiry. Nothing is lost by that.
func TestReloadsAreNoLoss(t *testing.T) {
	t.Parallel()
	server := peers.StartRedis(t)
	k := startKeeper(t, settings(server), "a", "b")
	for i := range 5 {
		s := settings(server)
		s.GroupExpiry = time.Duration(1000+i) * time.Second
		apply(t, k.Broker, s)
		for _, group := range []string{"a", "b"} {
			testkit.Eventually(t, "the new expiry", func() bool {
				left := server.Do("TTL", "asgi:group:"+group).(int64)
				return left == int64(1000+i) || left == int64(999+i)
			})
		}
	}
	if h := k.Health(); h.Gaps != 0 || h.Repairs != 0 {
		t.Errorf("%d gaps and %d repairs, want none", h.Gaps, h.Repairs)
	}
}

func apply(t *testing.T, b *redis.Broker, s redis.Settings) {
	t.Helper()
	if err := b.Apply(s); err != nil {
		t.Error(err)
	}
}

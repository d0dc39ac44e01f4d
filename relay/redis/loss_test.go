package redis_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

func expectLoss(t *testing.T, sink *lossSink, cause relay.LossCause, all bool, groups ...string) {
	t.Helper()
	relaytest.Eventually(t, "a loss: "+cause.String(), func() bool { return len(sink.of(cause)) > 0 })
	l := sink.of(cause)[0]
	if l.All != all || fmt.Sprint(l.Groups) != fmt.Sprint(groups) {
		t.Errorf("%s: all %v, groups %q; want all %v, groups %q", cause, l.All, l.Groups, all, groups)
	}
}

func TestVanishedMembershipIsALoss(t *testing.T) {
	server := peers.StartRedis(t)
	sink := &lossSink{}
	b := newBroker(t, settings(server))
	run(t, b, sink, "a", "b")
	server.Do("DEL", "asgi:group:a")
	expectLoss(t, sink, relay.LossMembership, false, "a")
	if h := b.Health(); h.Gaps != 1 {
		t.Errorf("%d gaps, want 1", h.Gaps)
	}
}

func TestFullMailboxIsALoss(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	s.Capacity = 3
	release, sink := make(chan struct{}), &slowLossSink{}
	sink.gate = release
	b := newBroker(t, s)
	run(t, b, sink, "a")
	p := newBroker(t, s)
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	over := 0
	for i := range 10 {
		r, err := p.Publish(context.Background(), "a", fmt.Appendf(nil, "%d", i))
		if err != nil {
			t.Fatal(err)
		}
		over += r.OverCapacity
	}
	if over == 0 {
		t.Fatal("the emitter dropped nothing")
	}
	close(release)
	expectLoss(t, &sink.lossSink, relay.LossMailboxFull, true)
}

// slowLossSink holds deliveries back until its gate is closed.
type slowLossSink struct {
	lossSink
	gate chan struct{}
}

// Deliver implements [relay.Sink].
func (s *slowLossSink) Deliver(events []relay.Event) {
	<-s.gate
	s.lossSink.Deliver(events)
}

func TestUnreadMailboxExpires(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	s.Expiry = time.Second
	sink := &slowLossSink{gate: make(chan struct{})}
	b := newBroker(t, s)
	run(t, b, sink, "a")
	for range 2 {
		if _, err := b.Publish(context.Background(), "a", []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	time.AfterFunc(2*s.Expiry, func() { close(sink.gate) }) // the sink itself is slow
	expectLoss(t, &sink.lossSink, relay.LossMailboxExpired, true)
}

func TestLateJoinIsALoss(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, server *peers.Redis) relay.Broker{
		"redis":  func(t *testing.T, server *peers.Redis) relay.Broker { return newBroker(t, settings(server)) },
		"pubsub": func(t *testing.T, server *peers.Redis) relay.Broker { return newPubSub(t, pubSubSettings(server)) },
	} {
		t.Run(name, func(t *testing.T) {
			server := peers.StartRedis(t)
			sink := &lossSink{}
			b := open(t, server)
			if err := b.Start(sink); err != nil {
				t.Fatal(err)
			}
			defer closeBroker(b)
			server.Kill()
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			if err := b.Join(ctx, "late"); err == nil {
				t.Fatal("joined without Redis")
			}
			if losses := sink.of(relay.LossLateJoin); len(losses) > 0 {
				t.Fatalf("told before the group was joined: %+v", losses)
			}
			server.Restart()
			expectLoss(t, sink, relay.LossLateJoin, false, "late")
		})
	}
}

func TestUnreadMessagesOfADeadNodeAreCounted(t *testing.T) {
	server := peers.StartRedis(t)
	sink := &lossSink{}
	b := newBroker(t, settings(server))
	b.SetBeat(20*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond)
	run(t, b, sink, "a")
	dead := "specific.00000000000000000000000000000001!"
	server.Do("SADD", "edgerelay:nodes:asgi", dead)
	server.Do("ZADD", "asgi"+dead, 1, "m1", 2, "m2")
	server.Do("ZADD", "asgi$0000000000000000", 1, "m0")
	expectLoss(t, sink, relay.LossDeadNode, false)
	if l := sink.of(relay.LossDeadNode)[0]; l.Events != 3 {
		t.Errorf("%d events, want 3", l.Events)
	}
}

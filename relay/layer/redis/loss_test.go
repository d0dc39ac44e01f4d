package redis_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

func TestVanishedMembershipIsALoss(t *testing.T) {
	server := peers.StartRedis(t)
	sink := &layertest.LossSink{}
	b := newBroker(t, settings(server))
	run(t, b, sink, "a", "b")
	server.Do("DEL", "asgi:group:a")
	layertest.ExpectLoss(t, sink, relay.LossMembership, false, "a")
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
	layertest.ExpectLoss(t, &sink.LossSink, relay.LossMailboxFull, true)
}

// slowLossSink holds deliveries back until its gate is closed.
type slowLossSink struct {
	layertest.LossSink
	gate chan struct{}
}

// Deliver implements [relay.Sink].
func (s *slowLossSink) Deliver(events []relay.Event) {
	<-s.gate
	s.LossSink.Deliver(events)
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
	layertest.ExpectLoss(t, &sink.LossSink, relay.LossMailboxExpired, true)
}

func TestLateJoinIsALoss(t *testing.T) {
	server := peers.StartRedis(t)
	layertest.TestLateJoin(t, server, newBroker(t, settings(server)))
}

func TestUnreadMessagesOfADeadNodeAreCounted(t *testing.T) {
	server := peers.StartRedis(t)
	sink := &layertest.LossSink{}
	b := newBroker(t, settings(server))
	b.SetBeat(20*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond)
	run(t, b, sink, "a")
	dead := "specific.00000000000000000000000000000001!"
	server.Do("SADD", "edgerelay:nodes:asgi", dead)
	server.Do("ZADD", "asgi"+dead, 1, "m1", 2, "m2")
	server.Do("ZADD", "asgi$0000000000000000", 1, "m0")
	layertest.ExpectLoss(t, sink, relay.LossDeadNode, false)
	if l := sink.Of(relay.LossDeadNode)[0]; l.Events != 3 {
		t.Errorf("%d events, want 3", l.Events)
	}
}

// What a node has delivered is not lost with it.
func TestDeliveredMessagesOfADeadNodeAreNotCounted(t *testing.T) {
	server := peers.StartRedis(t)
	dead, sink := startQuick(t, settings(server), "a")
	for i := range 3 {
		if _, err := dead.Publish(t.Context(), "a", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the events", func() bool { return len(sink.Texts("a")) == 3 })
	testkit.Eventually(t, "nothing to be in flight", func() bool { return len(keys(server, "asgi$*")) == 0 })
	dead.Crash()
	server.Do("ZADD", "asgi"+server.Do("SRANDMEMBER", "edgerelay:nodes:asgi").(string), 1, "unread")
	losses := &layertest.LossSink{}
	alive := newBroker(t, settings(server))
	alive.SetBeat(20*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond)
	run(t, alive, losses, "a")
	layertest.ExpectLoss(t, losses, relay.LossDeadNode, false)
	if l := losses.Of(relay.LossDeadNode)[0]; l.Events != 1 {
		t.Errorf("%d events, want 1", l.Events)
	}
}

// A user who may not look whether a group is joined: it is joined again and again, and nothing is reported to be lost.
func TestUserWithoutReadPermission(t *testing.T) {
	server := peers.StartRedis(t)
	server.Do("ACL", "SETUSER", "relay", "on", ">secret", "~*", "&*", "+@all", "-zscore")
	s := settings(server)
	s.URLs[0] = "redis://relay:secret@" + server.Addr + "/0"
	sink := &layertest.LossSink{}
	b := newBroker(t, s)
	run(t, b, sink, "a")
	refused := func() bool {
		text, _ := server.Do("INFO", "commandstats").(string)
		_, stats, _ := strings.Cut(text, "cmdstat_zscore:")
		stats, _, _ = strings.Cut(stats, "\n")
		return stats != "" && !strings.Contains(stats, "rejected_calls=0")
	}
	server.Do("ZADD", "asgi:group:a", 1, "other")
	testkit.Eventually(t, "a look at the group", refused)
	for i := range 3 {
		server.Do("ZADD", "asgi:group:a", 1, fmt.Append(nil, "other", i))
		if err := b.Join(t.Context(), fmt.Sprint("b", i)); err != nil { // the same goroutine does both
			t.Fatal(err)
		}
	}
	if h := b.Health(); h.Repairs != 0 || h.Gaps != 0 || h.FaultyGroups != 0 {
		t.Errorf("%d repairs, %d gaps, %d groups with a fault: %s", h.Repairs, h.Gaps, h.FaultyGroups, h.Detail)
	}
	if _, err := b.Publish(t.Context(), "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the event", func() bool { return len(sink.Texts("a")) == 1 })
}

// Clients are told of a full mailbox after they got what was in it.
func TestLossIsReportedAfterEarlierEvents(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	s.Capacity = 3
	sink := &orderSink{gate: make(chan struct{}), lost: make(chan int64, 1)}
	b := newBroker(t, s)
	run(t, b, sink, "a")
	for i := range 10 {
		if _, err := b.Publish(t.Context(), "a", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	close(sink.gate)
	if n := <-sink.lost; n < int64(s.Capacity) {
		t.Errorf("told after %d events, want %d at least", n, s.Capacity)
	}
}

// orderSink notes how many events had come when something was lost.
type orderSink struct {
	layertest.LossSink
	gate   chan struct{}
	events atomic.Int64
	first  sync.Once
	lost   chan int64 // gets how many, once
}

// Deliver implements [relay.Sink].
func (s *orderSink) Deliver(events []relay.Event) {
	<-s.gate
	s.events.Add(int64(len(events)))
}

// Lost implements [relay.LossSink].
func (s *orderSink) Lost(relay.Loss) { s.first.Do(func() { s.lost <- s.events.Load() }) }

// A link that goes on at a former master knows since when it has been reading: nothing has expired.
func TestNothingExpiresWithAFailover(t *testing.T) {
	server := peers.StartRedis(t)
	b, sink := newBroker(t, settings(server)), &layertest.LossSink{}
	b.EndBatchesAtFormer(sink)
	if losses := sink.Of(relay.LossMailboxExpired); len(losses) > 0 {
		t.Errorf("told of %+v", losses)
	}
}

// A ring is left while one host is silent: only what that host keeps may be lost.
func TestLeavingARingWithASilentHost(t *testing.T) {
	good := peers.StartRedis(t)
	s := settings(good, good)
	s.URLs[1] = "redis://" + silent(t) + "/0"
	b, sink := newBroker(t, s), &layertest.LossSink{}
	run(t, b, sink, groupsOn(0, 3, redis.IndexOfTwo)...)
	away := groupsOn(1, 1, redis.IndexOfTwo)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Join(ctx, away...); err == nil {
		t.Fatal("joined on a silent host")
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.Close(ctx); err == nil {
		t.Fatal("left a silent host")
	}
	layertest.ExpectLoss(t, sink, relay.LossShutdown, false, away...)
}

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

func TestResumeOnAnotherNode(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g")
	publish("g", "0")
	at := a.positionOf(t, "g", "0")
	publish("g", numbered(1, 30)...)
	b := startKeeper(t, settings(server), "g")
	publish("g", numbered(30, 40)...)
	b.positionOf(t, "g", "<39>")
	if got := b.positionOf(t, "g", "<39>"); got != a.positionOf(t, "g", "<39>") {
		t.Errorf("the nodes give an event the positions %v and %v", got, a.positionOf(t, "g", "<39>"))
	}
	b.expectResume(t, "g", at, numbered(1, 40)...)
	a.expectResume(t, "g", at, numbered(1, 40)...)
}

// The membership of a node that stops stays until another node has adopted the mailbox, even if the history is short.
func TestShortHistoryOutlivesNode(t *testing.T) {
	server := peers.StartRedis(t)
	a := newKeeper(t, settings(server))
	short := everything.Rules[0]
	short.Age = time.Second
	if _, err := a.KeepHistory(relay.HistoryPolicy{Rules: []relay.HistoryRule{short}}); err != nil {
		t.Fatal(err)
	}
	run(t, a.Broker, a, "g")
	if err := a.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	client := server.Client()
	defer client.Close()
	list, err := client.ZRangeWithScores(context.Background(), "asgi:group:g", 0, -1).Result()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	score := list[0].Score
	if left := time.Until(time.UnixMicro(int64(score * 1e6)).Add(settings(server).GroupExpiry)); left < time.Minute {
		t.Errorf("emitters remove the membership after %v", left)
	}
}

// A node is killed between any two steps. Another one, which was no member before, misses nothing.
func TestKilledBetweenSteps(t *testing.T) {
	for _, c := range []struct {
		name string
		kill func(t *testing.T, server *peers.Redis, a *keeper, publish func(group string, texts ...string))
	}{
		{"messages wait", func(t *testing.T, server *peers.Redis, a *keeper, publish func(string, ...string)) {
			release := a.Hold()
			publish("g", "<1>")
			channel, inflight := a.Keys()
			testkit.Eventually(t, "a delivery", func() bool { return flight(server, inflight) == 1 && flight(server, channel) == 0 })
			publish("g", numbered(2, 9)...)
			a.CrashWhile(release)
			if flight(server, channel) != 7 || flight(server, inflight) != 1 {
				t.Fatal("the messages do not wait")
			}
		}},
		{"after the delivery", func(t *testing.T, server *peers.Redis, a *keeper, publish func(string, ...string)) {
			publish("g", numbered(1, 9)...)
			a.positionOf(t, "g", "<8>")
			a.Crash()
		}},
		{"when all is written", func(t *testing.T, server *peers.Redis, a *keeper, publish func(string, ...string)) {
			publish("g", numbered(1, 9)...)
			a.positionOf(t, "g", "<8>")
			channel, inflight := a.Keys()
			testkit.Eventually(t, "the writing", func() bool { return flight(server, channel)+flight(server, inflight) == 0 })
			a.Crash()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := peers.StartRedis(t)
			publish := publisher(t, server)
			a := startKeeper(t, settings(server), "g")
			publish("g", "<0>")
			at := a.positionOf(t, "g", "<0>")
			c.kill(t, server, a, publish)
			b := startKeeper(t, settings(server), "other")
			b.join(t, "g")
			b.expectResume(t, "g", at, numbered(1, 9)...)
			b.expectResume(t, "g", at, numbered(1, 9)...)
		})
	}
}

// Emitters of Python need no change.
func TestResumeWithPython(t *testing.T) {
	server := peers.StartRedis(t)
	python := peers.StartEmitter(t, server.URL)
	a := startKeeper(t, settings(server), "g")
	send := func(texts ...string) {
		for _, text := range texts {
			python.Send(peers.Event{Group: "g", Text: text})
		}
	}
	send("<0>")
	at := a.positionOf(t, "g", "<0>")
	send(numbered(1, 5)...)
	a.positionOf(t, "g", "<4>")
	release := a.Hold()
	send("<5>")
	channel, inflight := a.Keys()
	testkit.Eventually(t, "a delivery", func() bool {
		return flight(server, inflight) == 1 && flight(server, channel) == 0
	})
	send(numbered(6, 9)...)
	a.CrashWhile(release)
	b := startKeeper(t, settings(server), "g")
	send("<9>")
	b.positionOf(t, "g", "<9>")
	testkit.Eventually(t, "all events", func() error {
		texts, reason := b.resume(t, "g", at)
		if reason == nil && !slices.Equal(texts, numbered(1, 10)) {
			return fmt.Errorf("recovered %q", texts)
		}
		return reason
	})
}

// Where no relay was a member, events may be missing.
func TestNoMemberIsAGap(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a, b := startKeeper(t, settings(server), "g"), startKeeper(t, settings(server))
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>") // It is not in the history yet.
	a.Leave("g")
	testkit.Eventually(t, "the group to be left", func() bool { return members("g", server) == 0 })
	publish("g", "<1>")
	b.join(t, "g")
	if _, reason := b.resume(t, "g", at); reason == nil {
		t.Error("a resume without a member in between is complete")
	}
	channel, inflight := a.Keys()
	testkit.Eventually(t, "the writing", func() bool { return flight(server, channel)+flight(server, inflight) == 0 })
	if _, reason := b.resume(t, "g", at); !errors.Is(reason, relay.NotRecoveredGap) {
		t.Errorf("a resume without a member in between: %v", reason)
	}
}

// In a new group, clients can resume from the first event.
func TestFirstEventOfAGroup(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g")
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	publish("g", "<1>")
	a.positionOf(t, "g", "<1>")
	a.expectResume(t, "g", at, "<1>")
}

func TestNotAMemberIsUnavailable(t *testing.T) {
	server := peers.StartRedis(t)
	a := startKeeper(t, settings(server))
	if _, reason := a.resume(t, "g", relay.Position{Micros: 1}); !errors.Is(reason, relay.NotRecoveredUnavailable) {
		t.Errorf("a resume without a membership: %v", reason)
	}
}

// A node that ends leaves its mailbox to the successor.
func TestRestartMissesNothing(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g")
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	publish("g", "<1>")
	if err := a.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, inflight := a.Keys()
	if n := flight(server, inflight); n != 0 {
		t.Errorf("%d delivered messages are still in flight", n)
	}
	publish("g", numbered(2, 5)...)
	b := startKeeper(t, settings(server), "g")
	b.expectResume(t, "g", at, numbered(1, 5)...)
}

// AWX deletes all keys of the layer when it starts.
func TestWipedLayerIsAGap(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a, b := startKeeper(t, settings(server), "g"), startKeeper(t, settings(server), "g")
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	a.expectResume(t, "g", at)
	for _, k := range keys(server, "asgi*") {
		server.Do("DEL", k)
	}
	testkit.Eventually(t, "the memberships", func() bool { return members("g", server) == 2 })
	for name, k := range map[string]*keeper{"a": a, "b": b} {
		if _, reason := k.resume(t, "g", at); !errors.Is(reason, relay.NotRecoveredGap) {
			t.Errorf("%s: a resume across a wipe: %v", name, reason)
		}
	}
}

// A full Redis stores no history; the events still arrive, and the gap is known.
func TestHistoryThatCannotBeWritten(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g")
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	channel, inflight := a.Keys()
	testkit.Eventually(t, "the writing", func() bool { return flight(server, channel)+flight(server, inflight) == 0 })
	release := a.Hold()
	publish("g", "<1>")
	testkit.Eventually(t, "a delivery", func() bool { return flight(server, inflight) == 1 && flight(server, channel) == 0 })
	publish("g", "<2>")
	server.Do("CONFIG", "SET", "maxmemory", "1")
	release()
	a.positionOf(t, "g", "<2>")
	testkit.Eventually(t, "the removal", func() bool { return flight(server, channel)+flight(server, inflight) == 0 })
	server.Do("CONFIG", "SET", "maxmemory", "0")
	if _, reason := a.resume(t, "g", at); !errors.Is(reason, relay.NotRecoveredGap) {
		t.Errorf("a resume although the history was not written: %v", reason)
	}
}

// A delivery that takes long is written before the messages in flight expire.
func TestSlowDeliveryIsWritten(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g")
	release := a.Hold()
	defer release()
	publish("g", "<0>")
	testkit.Eventually(t, "the event in the history", func() bool {
		return server.Do("ZCOUNT", "edgerelay:history:asgi:g:g", "1", "+inf") == int64(1)
	})
}

// Live mailboxes of slow nodes are read, too.
func TestSlowNodeIsNoGap(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g")
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	release := a.Hold()
	defer release()
	publish("g", "<1>")
	channel, inflight := a.Keys()
	testkit.Eventually(t, "a delivery", func() bool { return flight(server, inflight) == 1 && flight(server, channel) == 0 })
	publish("g", numbered(2, 6)...)
	b := startKeeper(t, settings(server), "g")
	b.expectResume(t, "g", at, numbered(1, 6)...)
	a.expectResume(t, "g", at, numbered(1, 6)...)
}

// A client can come with a position that its new node has not read yet.
func TestPositionThatWaitsInTheMailbox(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a, b := startKeeper(t, settings(server), "g"), startKeeper(t, settings(server), "g")
	release := b.Hold()
	defer release()
	publish("g", "<0>")
	channel, inflight := b.Keys()
	testkit.Eventually(t, "a delivery", func() bool { return flight(server, inflight) == 1 && flight(server, channel) == 0 })
	publish("g", "<1>")
	at := a.positionOf(t, "g", "<1>")
	publish("g", "<2>")
	a.positionOf(t, "g", "<2>")
	testkit.Eventually(t, "the events in the history", func() bool {
		return server.Do("ZCOUNT", "edgerelay:history:asgi:g:g", "1", "+inf") == int64(3)
	})
	b.expectResume(t, "g", at, "<0>", "<2>") // <0> is within the slack for clocks.
}

// An emitter of channels_redis reads the members of a group, and then sends. A node that becomes a member in between
// does not get the event, and a client that resumes there must.
func TestEmitterThatHasReadTheMembersEarlier(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g")
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	b := newKeeper(t, settings(server))
	b.SetEmitterLag(2 * time.Second)
	run(t, b.Broker, b)
	resumed := make(chan error, 1)
	b.join(t, "g")
	go func() {
		texts, reason := b.resume(t, "g", at)
		if reason == nil && !slices.Equal(texts, []string{"<1>"}) {
			reason = fmt.Errorf("recovered %q", texts)
		}
		resumed <- reason
	}()
	// Another group has the members of before.
	server.Do("ZADD", "asgi:group:before", time.Now().Unix(), server.Do("ZRANGE", "asgi:group:g", 0, 0).([]any)[0])
	publish("before", "<1>")
	if err := <-resumed; err != nil {
		t.Error(err)
	}
}

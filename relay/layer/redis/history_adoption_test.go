package redis_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

func TestAdoption(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	dead := startQuickKeeper(t, settings(server), "g", "h")
	publish("g", "<0>")
	at := dead.positionOf(t, "g", "<0>")
	release := dead.Hold()
	publish("g", "<1>")
	channel, inflight := dead.Keys()
	testkit.Eventually(t, "a delivery", func() bool { return flight(server, inflight) == 1 && flight(server, channel) == 0 })
	publish("g", numbered(2, 5)...)
	publish("h", "only the dead node is a member")
	survivors := []*keeper{
		startQuickKeeper(t, settings(server), "g"), startQuickKeeper(t, settings(server)),
		startQuickKeeper(t, settings(server)),
	}
	publish("g", numbered(5, 8)...)
	survivors[0].positionOf(t, "g", "<7>")
	dead.CrashWhile(release)
	testkit.Eventually(t, "the dead node to be removed, and its group to be held", func() bool {
		return len(keys(server, channel)) == 0 && len(keys(server, inflight)) == 0 &&
			server.Do("SISMEMBER", "edgerelay:nodes:asgi", channel[len("asgi"):]) == int64(0) &&
			members("g", server) == 1 && members("h", server) == 1
	})
	texts, reason := survivors[0].resume(t, "g", at)
	if reason != nil {
		t.Error(reason)
	}
	if slices.Sort(texts); !slices.Equal(texts, numbered(1, 8)) {
		t.Errorf("the history has %q, want %q", texts, numbered(1, 8))
	}
}

// Emitters have removed a dead node's membership, which would tell the group of its messages.
func TestAdoptionWithoutMembership(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	dead := startQuickKeeper(t, settings(server), "g", "h")
	publish("g", "<0>")
	at := dead.positionOf(t, "g", "<0>")
	release := dead.Hold()
	publish("g", "<1>", "<2>")
	channel, _ := dead.Keys()
	name := fmt.Sprint(server.Do("ZRANGE", "asgi:group:g", 0, 0).([]any)[0])
	b := startQuickKeeper(t, settings(server), "g")
	dead.CrashWhile(release)
	server.Do("ZREM", "asgi:group:g", name)
	testkit.Eventually(t, "the dead node to be removed", func() bool {
		return server.Do("SISMEMBER", "edgerelay:nodes:asgi", channel[len("asgi"):]) == int64(0)
	})
	b.expectResume(t, "g", at, "<1>", "<2>")
}

// A group of which a dead node was the only member is received by the node that adopts, until a client comes back.
func TestGroupsOfADeadNodeAreHeld(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	dead := startQuickKeeper(t, settings(server), "g", "h")
	publish("g", "<0>")
	at := dead.positionOf(t, "g", "<0>")
	b, c := startQuickKeeper(t, settings(server), "h"), startQuickKeeper(t, settings(server))
	publish("g", "<1>")
	dead.Crash()
	channel, _ := dead.Keys()
	testkit.Eventually(t, "the dead node to be removed, and its group to be held", func() bool {
		return server.Do("SISMEMBER", "edgerelay:nodes:asgi", channel[len("asgi"):]) == int64(0) && members("g", server) == 1
	})
	publish("g", "<2>")
	testkit.Eventually(t, "the event", func() bool { return len(b.Texts("g"))+len(c.Texts("g")) >= 1 })
	c.join(t, "g")
	c.expectResume(t, "g", at, "<1>", "<2>")
	for _, k := range []*keeper{b, c} { // The engine's request does not end a held membership.
		k.join(t, "g")
		k.Leave("g")
	}
	publish("g", "<3>")
	testkit.Eventually(t, "the event", func() bool { return len(b.Texts("g"))+len(c.Texts("g")) >= 2 })
	b.join(t, "g")
	b.expectResume(t, "g", at, "<1>", "<2>", "<3>")
}

// Clients of the node that adopts get the events that they missed, and none twice.
func TestAdoptedEventsReachClientsOnce(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	dead := startQuickKeeper(t, settings(server), "g")
	release := dead.Hold()
	publish("g", "<0>")
	channel, inflight := dead.Keys()
	testkit.Eventually(t, "a delivery", func() bool { return flight(server, inflight) == 1 && flight(server, channel) == 0 })
	publish("g", numbered(1, 4)...)
	b := startQuickKeeper(t, settings(server), "g")
	publish("g", numbered(4, 8)...)
	dead.CrashWhile(release)
	testkit.Eventually(t, "all events", func() bool { return len(b.Texts("g")) >= 8 })
	testkit.Eventually(t, "the dead node to be removed", func() bool { return members("g", server) == 1 })
	publish("g", "<8>")
	b.positionOf(t, "g", "<8>")
	texts := b.Texts("g")
	if slices.Sort(texts); !slices.Equal(texts, numbered(0, 9)) {
		t.Errorf("the clients got %q, want each event once", texts)
	}
}

// A dead node's mailbox also has events that this node's own mailbox has. They come from there, so that peers get them,
// too.
func TestOnlyEventsBeforeAMembershipAreMissed(t *testing.T) {
	server := peers.StartRedis(t)
	dead := startQuickKeeper(t, settings(server), "g")
	b := startQuickKeeper(t, settings(server), "g")
	channel, _ := dead.Keys()
	ages := []time.Duration{-time.Minute, 0, 9 * time.Second, 11 * time.Second, time.Minute}
	if got := b.Missed("g", channel[len("asgi"):], ages...); !slices.Equal(got, ages[:3]) {
		t.Errorf("missed %v, want %v", got, ages[:3])
	}
}

// startWithoutBeats starts a node that beats only when it joins groups, and has it join one.
func startWithoutBeats(t *testing.T) (*peers.Redis, *keeper) {
	t.Helper()
	server := peers.StartRedis(t)
	k := newKeeper(t, settings(server))
	if err := k.StartWithoutBeats(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Crash() })
	k.join(t, "g")
	return server, k
}

// checkIsNode checks that a member of a group is among the nodes.
func checkIsNode(t *testing.T, server *peers.Redis, k *keeper) {
	t.Helper()
	channel, _ := k.Keys()
	if server.Do("SISMEMBER", "edgerelay:nodes:asgi", channel[len("asgi"):]) != int64(1) {
		t.Error("the node is a member, and not among the nodes")
	}
}

// A node beats before it is a member of a group with a history: another node would take it for dead, and mark a gap.
func TestBeatComesBeforeMembership(t *testing.T) {
	server, k := startWithoutBeats(t)
	checkIsNode(t, server, k)
	if unread := k.BeatUnread(fmt.Sprint(server.Do("GET", k.BeatKey()))); unread > testkit.Patience {
		t.Errorf("the mailbox of a node that has just started is unread for %v", unread)
	}
}

// After Redis has lost everything, a node beats before its memberships are back: a node that joins then would take it
// for dead.
func TestBeatComesBeforeMembershipAfterAFlush(t *testing.T) {
	server, k := startWithoutBeats(t)
	server.Do("FLUSHALL")
	testkit.Eventually(t, "the membership to be back", func() bool { return members("g", server) == 1 })
	checkIsNode(t, server, k)
}

// After a change of the policy, a node beats with the new patterns before it joins a group that has a history since:
// another node would take its mailbox for one without events for the history.
func TestBeatTellsNewPolicyBeforeMembership(t *testing.T) {
	server, k := startWithoutBeats(t)
	before := server.Do("GET", k.BeatKey())
	policy := relay.HistoryPolicy{Rules: []relay.HistoryRule{everything.Rules[0]}}
	policy.Rules[0].Pattern = "h*"
	if _, err := k.KeepHistory(policy); err != nil {
		t.Fatal(err)
	}
	k.join(t, "h")
	if server.Do("GET", k.BeatKey()) == before {
		t.Errorf("the node is a member, and its beat is %q as before", before)
	}
}

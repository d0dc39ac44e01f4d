package redis_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

func TestHistoryIsSwitchedOnAndOff(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a, b := newKeeper(t, settings(server)), newBroker(t, settings(server))
	run(t, a.Broker, a, "g")
	if h, err := b.KeepHistory(relay.HistoryPolicy{}); h != nil || err != nil {
		t.Errorf("no rules make the history %v, %v", h, err)
	}
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	_, inflight := a.Keys()
	testkit.Eventually(t, "the writing", func() bool { return flight(server, inflight) == 0 })
	h, err := a.KeepHistory(relay.HistoryPolicy{})
	if h != nil || err != nil {
		t.Fatalf("no rules make the history %v, %v", h, err)
	}
	publish("g", "<1>")
	testkit.Eventually(t, "the event", func() bool { return len(a.Texts("g")) == 2 })
	if a.history, err = a.KeepHistory(everything); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "an answer", func() bool {
		_, reason := a.resume(t, "g", at)
		return errors.Is(reason, relay.NotRecoveredGap)
	})
}

// Another pattern is no gap in groups that have a history all the time, on this node and on others.
func TestAnotherPatternIsNoGap(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g")
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	more := relay.HistoryPolicy{Rules: append([]relay.HistoryRule{{Pattern: "x*", HistoryLimits: relay.DefaultHistoryLimits}},
		everything.Rules...)}
	if _, err := a.KeepHistory(more); err != nil {
		t.Fatal(err)
	}
	publish("g", "<1>")
	a.positionOf(t, "g", "<1>")
	a.expectResume(t, "g", at, "<1>")
	testkit.Eventually(t, "the beat", func() bool { return strings.Contains(fmt.Sprint(server.Do("GET", a.BeatKey())), ",") })
	startKeeper(t, settings(server), "g").expectResume(t, "g", at, "<1>")
}

// A node that believed another one to keep the history looks into the mailbox after the other one has stopped doing so.
func TestOtherNodeSwitchesHistoryOff(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	a := startKeeper(t, settings(server), "g", "warm")
	b := newKeeper(t, settings(server))
	b.SetBeat(time.Hour, 35*time.Second, time.Hour)
	run(t, b.Broker, b, "warm")
	publish("g", "<0>")
	at := a.positionOf(t, "g", "<0>")
	_, inflight := a.Keys()
	testkit.Eventually(t, "the writing", func() bool { return flight(server, inflight) == 0 })
	if _, err := a.KeepHistory(relay.HistoryPolicy{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the beat", func() bool { return server.Do("GET", a.BeatKey()) == "1" })
	publish("g", "<1>")
	testkit.Eventually(t, "the event", func() bool {
		return len(a.Texts("g")) == 2 && flight(server, inflight) == 0
	})
	b.join(t, "g")
	if texts, reason := b.resume(t, "g", at); !errors.Is(reason, relay.NotRecoveredGap) {
		t.Errorf("recovered %q (%v) without what the other node has dropped", texts, reason)
	}
}

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// nodeFile is the Caddyfile of a node with a backplane that notices dead links soon.
func nodeFile(redisURL, peer string) string {
	return fmt.Sprintf(`{
	admin {$ADMIN}
	edgerelay {
		channel_layer redis %s {
			capacity 10000
			resync `+"`%s`"+`
		}
		auth none
		limits {
			queue_per_connection 64MiB
		}
		backplane {
			secret %q
			%s
			retry 1s
			ping 1s
			silence 3s
			queue_per_peer 64MiB
		}
	}
}
{$SITE} {
	edgerelay
}
`, redisURL, resyncFrame, clusterSecret, peer)
}

// The way between two nodes is down until the connection is given up, with events queued for it: they are counted where
// they were queued, the other node hears how many they were, and its clients are told once it is connected again.
func TestLossesOfABrokenLinkAreTold(t *testing.T) {
	t.Parallel()
	redis := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t)}
	from := &clusterNode{Relay: peers.StartRelay(t, nodeFile(redis[0].URL, "")), redis: redis[0]}
	link := testkit.StartProxy(t, strings.TrimPrefix(from.URL, "http://"))
	to := &clusterNode{Relay: peers.StartRelay(t, nodeFile(redis[1].URL, "peers http://"+link.Addr)), redis: redis[1]}
	emitter := peers.StartEmitter(t, redis[0].URL)
	to.awaitSources(t, 1)
	c := subscriber(t, to.URL, peers.Login{CSRF: "t", Session: "s"}, "other-1")
	testkit.Eventually(t, "the group at the other node", func() error {
		if m := emitter.Members(redis[0].URL, "other-1"); len(m) != 1 {
			return fmt.Errorf("%d members", len(m))
		}
		return nil
	})
	text := `"` + strings.Repeat("x", 100<<10) + `"`
	event := peers.Event{Group: "other-1", Text: text}
	emitter.Send(event)
	if got, err := c.Next(patience); err != nil || got != text {
		t.Fatalf("%.20q, %v", got, err)
	}
	link.Stall()
	for range 20 {
		emitter.Send(event, event, event, event, event) // 10 MB in all: more than the kernel's buffers take
	}
	testkit.Eventually(t, "the lost events to be counted", func() error {
		if n := metric(t, from.Relay, `edgerelay_lost_events_total{cause="peer_queue"}`); n == 0 {
			return fmt.Errorf("none counted")
		}
		return nil
	})
	lost := metric(t, from.Relay, `edgerelay_backplane_dropped_total{reason="link_lost"}`)
	if n := metric(t, from.Relay, `edgerelay_lost_events_total{cause="peer_queue"}`); n != lost || n > 100 {
		t.Errorf("%g events lost, %g dropped with the link", n, lost)
	}
	if !strings.Contains(from.Log(), "peer queue lost") {
		t.Error("no line in the log")
	}
	link.Resume()
	if _, err := awaitResync(c); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the other node to hear how many were lost", func() error {
		if n := metric(t, to.Relay, `edgerelay_lost_events_total{cause="peer"}`); n != lost {
			return fmt.Errorf("%g, want %g", n, lost)
		}
		return nil
	})
	expectLoss(t, to.Relay, "peer_link")
	emitter.Send(peers.Event{Group: "other-1", Text: `"after"`})
	for {
		got, err := c.Next(patience)
		if err != nil {
			t.Fatal(err)
		}
		if got == `"after"` {
			break
		}
	}
}

// A node's memberships are wiped: clients of another node that is fed by it are told, too.
func TestLossesOfAPeersLayerAreTold(t *testing.T) {
	t.Parallel()
	redis := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t)}
	from := peers.StartRelay(t, nodeFile(redis[0].URL, ""))
	to := &clusterNode{Relay: peers.StartRelay(t, nodeFile(redis[1].URL, "peers "+from.URL)), redis: redis[1]}
	emitter := peers.StartEmitter(t, redis[0].URL)
	to.awaitSources(t, 1)
	c := subscriber(t, to.URL, peers.Login{CSRF: "t", Session: "s"}, "other-1")
	testkit.Eventually(t, "the group at the other node", func() error {
		if m := emitter.Members(redis[0].URL, "other-1"); len(m) != 1 {
			return fmt.Errorf("%d members", len(m))
		}
		return nil
	})
	emitter.WipeGroups(redis[0].URL)
	if n, err := awaitResync(c); err != nil || n != 0 {
		t.Errorf("told after %d events, %v", n, err)
	}
	if metric(t, to.Relay, `edgerelay_losses_total{cause="peer"}`) == 0 {
		t.Error("the peer's loss is not counted")
	}
}

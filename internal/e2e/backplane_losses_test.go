package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
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
			queue_per_peer 2MiB
		}
	}
}
{$SITE} {
	edgerelay
}
`, redisURL, resyncFrame, clusterSecret, peer)
}

// startReceiver starts a node on the second Redis whose peer, on the first, is at a URL. It returns the node, an
// emitter beside the peer, and a client of the node that has subscribed to the group other-1.
func startReceiver(t *testing.T, redis []*peers.Redis, peer string) (*clusterNode, *peers.Layer, *wstest.Client) {
	t.Helper()
	node := &clusterNode{Relay: peers.StartRelay(t, nodeFile(redis[1].URL, "peers "+peer)), redis: redis[1]}
	emitter := peers.StartEmitter(t, redis[0].URL)
	node.awaitSources(t, 1)
	c := subscriber(t, node.URL, peers.Login{CSRF: "t", Session: "s"}, "other-1")
	testkit.Eventually(t, "the membership of the peer", func() error {
		if m := emitter.Members(redis[0].URL, "other-1"); len(m) != 1 {
			return fmt.Errorf("%d members", len(m))
		}
		return nil
	})
	return node, emitter, c
}

// A link stalls until it times out, with more events for it than its queue holds. After the reconnect, the sender sends
// the others again, counts the lost events, and reports their number to the receiver, whose clients get the resync
// frame.
func TestEventsLostWithALinkAreReported(t *testing.T) {
	t.Parallel()
	redis := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t)}
	from := peers.StartRelay(t, nodeFile(redis[0].URL, ""))
	link := testkit.StartProxy(t, strings.TrimPrefix(from.URL, "http://"))
	to, emitter, c := startReceiver(t, redis, "http://"+link.Addr)
	text := `"` + strings.Repeat("x", 100<<10) + `"`
	event := peers.Event{Group: "other-1", Text: text}
	emitter.Send(event)
	if got, err := c.Next(patience); err != nil || got != text {
		t.Fatalf("%.20q, %v", got, err)
	}
	link.Stall()
	const count = 100
	for range count / 5 {
		emitter.Send(event, event, event, event, event) // 10 MB in all: more than the queue and the kernel's buffers take
	}
	testkit.Eventually(t, "a full queue", func() error {
		if n := metric(t, from, `edgerelay_lost_events_total{cause="peer_queue"}`); n == 0 {
			return fmt.Errorf("none counted")
		}
		return nil
	})
	testkit.Eventually(t, "the break", func() error {
		if !strings.Contains(to.Log(), "peer disconnected, retrying") {
			return fmt.Errorf("the link is up")
		}
		return nil
	})
	link.Resume()
	n, err := awaitResync(c)
	if err != nil {
		t.Error(err)
	}
	emitter.Send(peers.Event{Group: "other-1", Text: `"after"`})
	for ; ; n++ {
		got, err := c.Next(patience)
		if err != nil {
			t.Fatal(err)
		}
		if got == `"after"` {
			break
		}
		if got == resyncFrame {
			n--
		}
	}
	testkit.Eventually(t, "each event delivered or reported", func() error {
		lost := metric(t, from, `edgerelay_lost_events_total{cause="peer_queue"}`)
		if told := metric(t, to.Relay, `edgerelay_lost_events_total{cause="peer"}`); told != lost || n+int(lost) != count {
			return fmt.Errorf("%d events came, %g are lost, the receiver knows of %g", n, lost, told)
		}
		return nil
	})
}

// A link breaks several times while events travel: each arrives once and in order, and no client is told of a loss. The
// events are in the history of both nodes, so a short break is no gap for a client that comes back, either.
func TestBreaksOfALinkLoseNothing(t *testing.T) {
	t.Parallel()
	redis := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t)}
	remembering := func(url, peer string) string {
		return strings.Replace(nodeFile(url, peer), "auth none", "auth none\n\t\thistory other-*\n\t\thistory_key a-secret-that-both-nodes-share", 1)
	}
	from := peers.StartRelay(t, remembering(redis[0].URL, ""))
	link := testkit.StartProxy(t, strings.TrimPrefix(from.URL, "http://"))
	to := &clusterNode{
		Relay: peers.StartRelay(t, remembering(redis[1].URL, "peers http://"+link.Addr)), redis: redis[1],
	}
	emitter := peers.StartEmitter(t, redis[0].URL)
	to.awaitSources(t, 1)
	c := subscriber(t, to.URL, peers.Login{CSRF: "t", Session: "s"}, "other-1")
	const rounds, burst = 4, 50
	for round := range rounds {
		for n := range burst {
			emitter.Send(peers.Event{Group: "other-1", Text: fmt.Sprint(round*burst + n)})
			if n == burst/2 {
				link.Cut()
			}
		}
	}
	for n := range rounds * burst {
		if got, err := c.Next(patience); err != nil || got != fmt.Sprint(n) {
			t.Fatalf("got %q, want %d; %v", got, n, err)
		}
	}
	for _, node := range []*peers.Relay{from, to.Relay} {
		for _, cause := range []string{"peer", "peer_link", "peer_queue"} {
			if n := metric(t, node, fmt.Sprintf(`edgerelay_losses_total{cause=%q}`, cause)); n != 0 {
				t.Errorf("%g losses: %s", n, cause)
			}
		}
	}
}

// The memberships of a node are wiped. The clients of a peer that receives events from the node get the resync frame,
// too.
func TestLossesOfAPeersLayerAreReported(t *testing.T) {
	t.Parallel()
	redis := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t)}
	from := peers.StartRelay(t, nodeFile(redis[0].URL, ""))
	to, emitter, c := startReceiver(t, redis, from.URL)
	emitter.WipeGroups(redis[0].URL)
	if n, err := awaitResync(c); err != nil || n != 0 {
		t.Errorf("told after %d events, %v", n, err)
	}
	if metric(t, to.Relay, `edgerelay_losses_total{cause="peer"}`) == 0 {
		t.Error("the peer's loss is not counted")
	}
}

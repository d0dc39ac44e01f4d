package backplane_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// dnsNodes starts nodes with addresses of their own and one port, as in a headless service.
func dnsNodes(t *testing.T, server *testkit.NameServer, count int) (nodes []*node, logs []*testkit.Buffer) {
	t.Helper()
	port := testkit.FreePort(t)
	var addresses []string
	for i := range count {
		ip := fmt.Sprint("127.0.0.", i+2)
		addresses = append(addresses, ip)
		layer := memory.NewLayer()
		n := newNodeAt(t, layer.Broker(), net.JoinHostPort(ip, strconv.Itoa(port)))
		n.layer = layer
		nodes = append(nodes, n)
	}
	server.SetAddresses(addresses...)
	for _, n := range nodes {
		logs = append(logs, n.start(func(s *backplane.Settings) {
			s.Advertise = n.server.URL
			s.Discoveries = []backplane.Discovery{&discovery.DNS{
				Name: "relay.example.com.", Scheme: "http", Port: port, Every: 20 * time.Millisecond,
				Resolver: server.Resolver(), Log: quiet,
			}}
		}))
	}
	for _, n := range nodes {
		n.awaitSources(count - 1)
	}
	return nodes, logs
}

// A name server names three of four nodes at random: no link ends, and no event is missing.
func TestSubsetsInDNSEndNoLinks(t *testing.T) {
	leakCheck(t)
	server := testkit.StartNameServer(t)
	nodes, logs := dnsNodes(t, server, 4)
	var clients []*client
	for _, n := range nodes {
		clients = append(clients, n.client("g-1"))
	}
	settled := make([]string, len(logs))
	for i, log := range logs {
		settled[i] = log.String()
	}
	server.Choose(func(all []netip.Addr) []netip.Addr {
		leave := rand.N(len(all))
		return append(all[:leave], all[leave+1:]...)
	})
	want := map[string]bool{}
	for i := range 40 {
		server.AwaitQueries(t, 4*8) // for each node about four answers
		text := fmt.Sprint(i)
		nodes[i%4].emit("g-1", text)
		want[text] = true
	}
	for _, c := range clients {
		c.exactly(t, want)
	}
	for i, log := range logs {
		since := strings.TrimPrefix(log.String(), settled[i])
		since = strings.Join(slices.DeleteFunc(strings.SplitAfter(since, "\n"), func(line string) bool {
			return strings.Contains(line, "redundant") // both nodes have dialed, and one link of two stays
		}), "")
		if strings.Contains(since, "peer left") || strings.Contains(since, "disconnected") ||
			strings.Contains(since, "peer removed") {
			t.Errorf("links of %s ended:\n%s", nodes[i].server.URL, since)
		}
	}
}

// A node that is gone from DNS and from the network is dialed for several answers more, and then no longer.
func TestNodeGoneFromDNSIsLeft(t *testing.T) {
	leakCheck(t)
	server := testkit.StartNameServer(t)
	nodes, logs := dnsNodes(t, server, 3)
	server.Choose(func(all []netip.Addr) []netip.Addr { return all[:2] })
	server.AwaitQueries(t, 200)
	for i, n := range nodes[:2] {
		if n.sources() != 2 {
			t.Fatalf("a node with a healthy link was left:\n%s", logs[i])
		}
	}
	nodes[2].close()
	for _, n := range nodes[:2] {
		testkit.Eventually(t, "the node to be left", func() error {
			for _, p := range n.plane.Peers() {
				if p.URL == nodes[2].server.URL {
					return fmt.Errorf("still dialed: %+v", p)
				}
			}
			return nil
		})
	}
}

// An operator removes a peer from the list: what is queued for it arrives, and it is told that this node leaves.
func TestRemovedPeerIsLeftAtOnceAfterAFlush(t *testing.T) {
	leakCheck(t)
	a, b := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	logB := b.start()
	logA := a.start(peersOf(b.server.URL))
	a.awaitSources(1)
	b.awaitSources(1)
	c := b.client("g-1")
	want := map[string]bool{}
	for i := range 3000 {
		text := fmt.Sprint(i, strings.Repeat(" ", 2000))
		a.emit("g-1", text)
		want[text] = true
	}
	testkit.Eventually(t, "events in the queue of the peer", func() error {
		for _, p := range a.plane.Peers() {
			if p.EventsOut > 0 || p.Queued > 0 {
				return nil
			}
		}
		return fmt.Errorf("%+v", a.plane.Peers())
	})
	received := func() uint64 { return a.hub.Stats().EventsFromLayer }
	testkit.Eventually(t, "all events read from the layer", func() error {
		if n := received(); n < 3000 {
			return fmt.Errorf("%d of 3000", n)
		}
		return nil
	})
	s := backplane.Settings{Secrets: backplane.Secrets{secret}}
	if err := a.plane.Apply(s); err != nil {
		t.Fatal(err)
	}
	c.exactly(t, want)
	for log, text := range map[*testkit.Buffer]string{
		logA: "peer removed", logB: `StatusGoingAway and reason = \"peer removed\"`,
	} {
		testkit.Eventually(t, text, func() error {
			if !strings.Contains(log.String(), text) {
				return fmt.Errorf("log:\n%s", log)
			}
			return nil
		})
	}
	if dropped := a.plane.Stats().Dropped; dropped["link_lost"] != 0 {
		t.Errorf("dropped: %v", dropped)
	}
	if peers := a.plane.Peers(); len(peers) != 0 {
		t.Errorf("peers: %+v", peers)
	}
}

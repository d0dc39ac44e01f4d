package backplane_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// comeAndGo checks that nodes which find each other by the discovery from make exchange events while one node
// leaves and another joins, and that the links of the other nodes stay.
func comeAndGo(t *testing.T, make func(i int) (*node, option)) {
	t.Helper()
	var nodes []*node
	join := func() {
		n, o := make(len(nodes))
		n.start(o)
		nodes = append(nodes, n)
	}
	for range 3 {
		join()
	}
	for _, n := range nodes {
		n.awaitSources(2)
	}
	first, second := nodes[0].client("g-1"), nodes[1].client("g-1")
	nodes[2].emit("g-1", "1")
	nodes[2].close() // takes back what it announced
	for _, n := range nodes[:2] {
		n.awaitSources(1)
		testkit.Eventually(t, "the stopped node is not dialed", func() error {
			for _, p := range n.plane.Peers() {
				if p.URL == nodes[2].server.URL {
					return fmt.Errorf("%s still dials the node that is gone", n.server.URL)
				}
			}
			return nil
		})
	}
	join()
	for _, n := range []*node{nodes[0], nodes[1], nodes[3]} {
		n.awaitSources(2)
	}
	third := nodes[3].client("g-1")
	nodes[0].emit("g-1", "2")
	nodes[3].emit("g-1", "3")
	first.exactly(t, set([]string{"1", "2", "3"}))
	second.exactly(t, set([]string{"1", "2", "3"}))
	third.exactly(t, set([]string{"2", "3"}))
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestNodesFindEachOtherInRedis(t *testing.T) {
	leakCheck(t)
	redis := peers.StartRedis(t)
	comeAndGo(t, func(int) (*node, option) {
		n := newNode(t, memory.NewLayer())
		return n, func(s *backplane.Settings) {
			s.Advertise = n.server.URL
			s.Discoveries = []backplane.Discovery{&discovery.Redis{
				URL: redis.URL, Advertise: n.server.URL, Every: 200 * time.Millisecond, TTL: 5 * time.Second, Log: quiet,
			}}
		}
	})
}

func TestNodesFindEachOtherInPostgres(t *testing.T) {
	leakCheck(t)
	postgres := peers.StartPostgres(t)
	port := testkit.FreePort(t)
	comeAndGo(t, func(i int) (*node, option) {
		ip := fmt.Sprint("127.0.0.", i+2) // as on several machines: one port, several addresses
		layer := memory.NewLayer()
		n := newNodeAt(t, layer.Broker(), net.JoinHostPort(ip, strconv.Itoa(port)))
		n.layer = layer
		return n, func(s *backplane.Settings) {
			s.Discoveries = []backplane.Discovery{&discovery.Postgres{
				DSN: postgres.DSN, Hostname: fmt.Sprint("web-", i), IP: ip, Scheme: "http", Port: port,
				Every: 300 * time.Millisecond, Silence: 5 * time.Second, Log: quiet,
			}}
		}
	})
}

package continuity

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/oracle"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// caddyfile is a node's configuration.
func caddyfile(redisURL, more string) string {
	return fmt.Sprintf(`{
	admin {$ADMIN}
	skip_install_trust
	log {
		level INFO
	}
	edgerelay {
		channel_layer redis {
			url %s
			capacity 10000
			group_expiry 157784760s
		}
		auth none
		history job_events-* {
			count 5000
			size 8MiB
		}
		limits {
			connections_per_user 0
			connections_per_address 0
			subscribe_rate 0
			queue_per_connection 8MiB
		}
		%s
	}
}
{$SITE} {
	edgerelay
	respond ok
}
`, redisURL, strings.ReplaceAll(more, "\n", "\n\t\t"))
}

// site is the nodes, and the clients on them.
type site struct {
	t       *testing.T
	oracle  *oracle.Oracle
	clients []*oracle.Client
	running sync.WaitGroup

	mu    sync.Mutex
	nodes []*node
}

// node is a relay that runs or does not.
type node struct {
	*peers.Relay
	caddyfile string
	up        bool // guarded by the site's mu
}

// addNode starts a node.
func (s *site) addNode(caddyfile string) *node {
	n := &node{Relay: peers.StartRelay(s.t, caddyfile), caddyfile: caddyfile, up: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
	return n
}

// urls returns the addresses of the nodes that run.
func (s *site) urls() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		if n.up {
			list = append(list, n.URL)
		}
	}
	return list
}

// kill ends a node as kill -9 does.
func (s *site) kill(n *node) {
	s.setUp(n, false)
	n.Kill()
}

// restart starts a node again.
func (s *site) restart(n *node) {
	n.Restart(n.caddyfile)
	s.setUp(n, true)
}

func (s *site) setUp(n *node, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.up = up
}

// open starts clients, each with some of the groups.
func (s *site) open(clients, groups, each int) {
	for i := range clients {
		var own []int
		for k := range each {
			own = append(own, (i+k*groups/each)%groups)
		}
		c := oracle.NewClient(s.oracle, i, own, s.urls)
		s.clients = append(s.clients, c)
		s.running.Go(c.Run)
	}
}

// churn cuts one client in ten at random, about once every three seconds each.
func (s *site) churn(ctx context.Context) {
	for i := 0; i < len(s.clients); i += 10 {
		c := s.clients[i]
		chance := rand.New(rand.NewPCG(uint64(i), 2))
		s.running.Go(func() {
			for ctx.Err() == nil {
				testkit.Pause(ctx.Done(), time.Duration(500+chance.IntN(5000))*time.Millisecond)
				c.Cut()
			}
		})
	}
}

// close stops the clients.
func (s *site) close() {
	for _, c := range s.clients {
		c.Stop()
	}
	s.running.Wait()
}

// wipe deletes the keys of the channel layer, as AWX does when it starts.
func wipe(t *testing.T, r *peers.Redis) {
	client := r.Client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for scan := client.Scan(ctx, 0, "asgi:*", 1000).Iterator(); scan.Next(ctx); {
		if err := client.Del(ctx, scan.Val()).Err(); err != nil {
			t.Errorf("wipe: %v", err)
			return
		}
	}
}

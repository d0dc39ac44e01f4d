package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

const clusterSecret = "cluster sécret"

// clusterNode is a relay with a Redis and an emitter of its own.
type clusterNode struct {
	*peers.Relay
	redis   *peers.Redis
	emitter *peers.Layer
}

// clusterFile is the Caddyfile of a node of a cluster.
func clusterFile(redisURL string, urls ...string) string {
	backplane := ""
	if len(urls) > 0 {
		backplane = fmt.Sprintf(`
		backplane {
			secret %q
			peers %s
			retry 1s
			subscribe_wait 5s
		}`, clusterSecret, strings.Join(urls, " "))
	}
	return fmt.Sprintf(`{
	admin {$ADMIN}
	edgerelay {
		channel_layer redis {
			url %s
			capacity 10000
		}
		auth none
		limits {
			queue_per_connection 64MiB
		}%s
	}
}
{$SITE} {
	edgerelay
}
`, redisURL, backplane)
}

// startCluster starts relays that know each other, and themselves, and waits until each listens to all others.
func startCluster(t *testing.T, redises []*peers.Redis) []*clusterNode {
	t.Helper()
	var nodes []*clusterNode
	var urls []string
	layers := map[*peers.Redis]bool{}
	for _, r := range redises {
		n := &clusterNode{Relay: peers.StartRelay(t, clusterFile(r.URL)), redis: r}
		n.emitter = peers.StartEmitter(t, r.URL)
		nodes = append(nodes, n)
		urls = append(urls, n.URL)
		layers[r] = true
	}
	for _, n := range nodes {
		if err := n.Load(clusterFile(n.redis.URL, urls...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		n.awaitSources(t, len(layers)-1)
	}
	return nodes
}

// peerState is what the admin API tells of a peer.
type peerState struct {
	URL, Address, State, Dialect string
	Source                       bool
	SameLayer                    bool `json:"same_layer"`
	Since                        time.Time
	Groups                       int
	Dropped                      uint64
	Faults                       uint64
}

func (n *clusterNode) peers() ([]peerState, error) {
	resp, err := http.Get(n.Admin + "/edgerelay/peers")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var status struct{ Peers []peerState }
	return status.Peers, json.NewDecoder(resp.Body).Decode(&status)
}

func (n *clusterNode) awaitSources(t *testing.T, want int) {
	t.Helper()
	testkit.Eventually(t, "a full mesh", func() error {
		list, err := n.peers()
		if err != nil {
			return err
		}
		got := 0
		for _, p := range list {
			if p.Source && p.State == "connected" {
				got++
			}
		}
		if got != want {
			return fmt.Errorf("%s listens to %d layers, want %d", n.URL, got, want)
		}
		return nil
	})
}

// watch reads a client's events until want have come or the connection ends.
func watch(c *wstest.Client, want int) (texts []string, err error) {
	for len(texts) < want {
		text, err := c.Next(patience)
		if err != nil {
			return texts, fmt.Errorf("after %d of %d events: %w", len(texts), want, err)
		}
		texts = append(texts, text)
	}
	return texts, nothingMore(c)
}

// expectOnce checks that texts are the numbers 0 to count-1, each once, and those of each of the sources in order.
func expectOnce(texts []string, count, sources int) error {
	seen := make([]bool, count)
	last := make([]int, sources)
	for _, text := range texts {
		var event struct{ N, From int }
		if err := json.Unmarshal([]byte(text), &event); err != nil {
			return err
		}
		if seen[event.N] {
			return fmt.Errorf("event %d came twice", event.N)
		}
		seen[event.N] = true
		if event.N < last[event.From] {
			return fmt.Errorf("event %d of node %d came after %d", event.N, event.From, last[event.From])
		}
		last[event.From] = event.N
	}
	for n, ok := range seen {
		if !ok {
			return fmt.Errorf("event %d is missing", n)
		}
	}
	return nil
}

// 10,000 events, emitted round robin on three relays with a Redis each: every client of every node gets each once.
func TestBackplaneThreeRelays(t *testing.T) {
	nodes := startCluster(t, []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t)})
	exchange(t, nodes, 3000)
}

// Relays that share a Redis and have a backplane besides deliver once; so do those on the other side of it.
func TestBackplaneSharedRedis(t *testing.T) {
	x, y := peers.StartRedis(t), peers.StartRedis(t)
	nodes := startCluster(t, []*peers.Redis{x, x, y, y})
	exchange(t, nodes, 2000)
	for _, n := range nodes {
		list, err := n.peers()
		if err != nil {
			t.Fatal(err)
		}
		same := 0
		for _, p := range list {
			if p.SameLayer && p.State == "connected" {
				same++
			}
		}
		if same == 0 {
			t.Errorf("%s does not know that a peer shares its Redis: %+v", n.URL, list)
		}
	}
}

// exchange emits count events round robin and expects each once at two clients of each node.
func exchange(t *testing.T, nodes []*clusterNode, count int) {
	t.Helper()
	const group = "jobs-status_changed"
	var clients []*wstest.Client
	for _, n := range nodes {
		for range 2 {
			clients = append(clients, subscriber(t, n.URL, peers.Login{CSRF: "t", Session: "s"}, group))
		}
	}
	var wg sync.WaitGroup
	results := make(chan error, len(clients))
	for _, c := range clients {
		wg.Go(func() {
			texts, err := watch(c, count)
			results <- errors.Join(err, expectOnce(texts, count, len(nodes)))
		})
	}
	began := time.Now()
	for i, n := range nodes {
		var events []peers.Event
		for k := i; k < count; k += len(nodes) {
			events = append(events, peers.Event{
				Group: group,
				Text:  fmt.Sprintf(`{"n": %d, "from": %d, "stdout": %q}`, k, i, strings.Repeat("x", k%1500)),
			})
		}
		wg.Go(func() { n.emitter.Send(events...) })
	}
	wg.Wait()
	t.Logf("%d events on %d nodes to %d clients in %v", count, len(nodes), len(clients),
		time.Since(began).Round(time.Millisecond))
	for range clients {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// A node that dies under load delays no other node and comes back by itself.
func TestBackplaneNodeKilled(t *testing.T) {
	var redises []*peers.Redis
	for range 5 {
		redises = append(redises, peers.StartRedis(t))
	}
	nodes := startCluster(t, redises)
	const group, count = "job_events-1", 1500
	const interval = 4 * time.Millisecond
	victim := nodes[4]
	var watchers sync.WaitGroup
	type arrival struct {
		at   time.Time
		text string
	}
	arrivals := make([][]arrival, 4)
	var first atomic.Int64 // events at the first node
	for i, n := range nodes[:4] {
		c := subscriber(t, n.URL, peers.Login{CSRF: "t", Session: "s"}, group)
		watchers.Go(func() {
			for len(arrivals[i]) < 4*count {
				text, err := c.Next(patience)
				if err != nil {
					t.Errorf("a client of node %d after %d events: %v", i, len(arrivals[i]), err)
					return
				}
				arrivals[i] = append(arrivals[i], arrival{time.Now(), text})
				if i == 0 {
					first.Add(1)
				}
			}
		})
	}
	var paces []func() peers.Paced
	for i, n := range nodes[:4] {
		paces = append(paces, n.emitter.Pace(group, i*count, count, interval))
	}
	reached := func(n int64) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprint(n, " events at a node"), func() error {
			if got := first.Load(); got < n {
				return fmt.Errorf("%d so far", got)
			}
			return nil
		})
	}
	reached(count)
	victim.Kill()
	reached(2 * count)
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL)
	}
	victim.Restart(clusterFile(victim.redis.URL, urls...))
	victim.awaitSources(t, 4)
	for _, n := range nodes[:4] {
		n.awaitSources(t, 4)
	}
	for _, wait := range paces {
		if p := wait(); len(p.Failed) > 0 {
			t.Errorf("%d sends failed", len(p.Failed))
		}
	}
	watchers.Wait()
	for i, list := range arrivals {
		seen := map[string]bool{}
		longest := time.Duration(0)
		for k, a := range list {
			if seen[a.text] {
				t.Errorf("node %d: %s came twice", i, a.text)
			}
			seen[a.text] = true
			if k > 0 {
				longest = max(longest, a.at.Sub(list[k-1].at))
			}
		}
		t.Logf("node %d: %d events, the longest pause %v", i, len(list), longest.Round(time.Millisecond))
		if longest > time.Second {
			t.Errorf("node %d: a pause of %v", i, longest)
		}
	}
	// The node that came back gets and gives events again.
	c := subscriber(t, victim.URL, peers.Login{CSRF: "t", Session: "s"}, "jobs-summary")
	nodes[0].emitter.Send(peers.Event{Group: "jobs-summary", Text: `{"to": "victim"}`})
	if err := expectTexts(c, []string{`{"to": "victim"}`}); err != nil {
		t.Error(err)
	}
	c = subscriber(t, nodes[0].URL, peers.Login{CSRF: "t", Session: "s"}, "jobs-summary")
	victim.emitter.Send(peers.Event{Group: "jobs-summary", Text: `{"from": "victim"}`})
	if err := expectTexts(c, []string{`{"from": "victim"}`}); err != nil {
		t.Error(err)
	}
}

// A reload leaves connections to peers alone; what is published through the admin API reaches all nodes; strangers
// get 403.
func TestBackplaneReloadPublishRefuse(t *testing.T) {
	nodes := startCluster(t, []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t)})
	var before []peerState
	testkit.Eventually(t, "no node is being dialed", func() (err error) { // both dial, and one connection is redundant
		if before, err = nodes[0].peers(); err != nil {
			return err
		}
		if i := slices.IndexFunc(before, func(p peerState) bool { return p.State == "connecting" }); i >= 0 {
			return fmt.Errorf("%+v", before[i])
		}
		return nil
	})
	changed := strings.Replace(clusterFile(nodes[0].redis.URL, nodes[0].URL, nodes[1].URL),
		"queue_per_connection 64MiB", "queue_per_connection 32MiB", 1)
	if err := nodes[0].Load(changed); err != nil {
		t.Fatal(err)
	}
	after, err := nodes[0].peers()
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("peers before the reload:\n%+v\nafter:\n%+v", before, after)
	}
	c := subscriber(t, nodes[1].URL, peers.Login{CSRF: "t", Session: "s"}, "jobs-summary")
	publishHTTP(t, nodes[0].Relay, "jobs-summary", `{"a":1}`)
	publishCommand(t, nodes[0].Relay, "jobs-summary", `{"a":2}`)
	if err := expectTexts(c, []string{`{"a":1}`, `{"a":2}`}); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/websocket/broadcast/", "/websocket/relay", "/prefix/websocket/broadcast"} {
		for name, header := range map[string]http.Header{
			"none":  {},
			"wrong": {"Secret": {"HMAC-SHA256 1700000000:00"}},
		} {
			_, resp, err := wstest.Dial(t, nodes[0].URL+path, header)
			if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s with header %s: %v, %v", path, name, resp, err)
			}
		}
	}
	// Without a backplane the paths are not the relay's.
	if err := nodes[0].Load(clusterFile(nodes[0].redis.URL)); err != nil {
		t.Fatal(err)
	}
	if _, resp, err := wstest.Dial(t, nodes[0].URL+"/websocket/broadcast/", nil); err == nil || resp == nil ||
		resp.StatusCode == http.StatusForbidden {
		t.Errorf("without a backplane: %v, %v", resp, err)
	}
}

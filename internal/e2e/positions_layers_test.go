package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// layerSite is openSite with another channel layer, and a history of jobs-*.
func layerSite(layer string) string {
	site := openSite("", "history jobs-*")
	begin, rest, _ := strings.Cut(site, "channel_layer redis {")
	_, rest, _ = strings.Cut(rest, "}\n")
	return begin + "channel_layer " + layer + "\n" + rest
}

// expectResumed resumes in jobs-a with the positions of a client, and compares reason and missed events.
func expectResumed(t *testing.T, r *peers.Relay, have map[string][]string, reason string, missed ...string) *positionClient {
	t.Helper()
	c := positionsOf(t, r, maps.Clone(have))
	f := c.resume("jobs-a")["jobs-a"]
	if f.Recovered == nil || *f.Recovered != (reason == "") || f.Reason != reason || *f.Events != len(missed) {
		t.Fatalf("resumed: %s, want reason %q and %d events", f.frame, reason, len(missed))
	}
	c.expectEvents("jobs-a", missed...)
	return c
}

// The streams of the cluster layer survive the nodes, and clients resume on any node. A standing client misses nothing
// while its node's connections to Redis break, and while the node is reloaded.
func TestClientsResumeOnAClusterLayer(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedisCluster(t, 3, 0)
	site := layerSite("redis_cluster " + strings.Join(redis.Addresses(), " "))
	one, two := peers.StartRelay(t, site), peers.StartRelay(t, site)
	standing, leaving := positionsOf(t, one, nil), positionsOf(t, one, nil)
	standing.resume("jobs-a")
	leaving.resume("jobs-a")
	publishHTTP(t, two, "jobs-a", `{"n":0}`)
	standing.expectEvents("jobs-a", `{"n":0}`)
	leaving.expectEvents("jobs-a", `{"n":0}`)
	have := leaving.leave()
	var missed []string
	for i := range 50 {
		if i%10 == 5 {
			for _, m := range redis.Masters {
				m.Do("CLIENT", "KILL", "TYPE", "pubsub")
			}
		}
		if i == 30 {
			reload(t, one, site)
		}
		missed = append(missed, fmt.Sprintf(`{"n":%d}`, i+1))
		publishHTTP(t, []*peers.Relay{one, two}[i%2], "jobs-a", missed[i])
	}
	standing.expectEvents("jobs-a", missed...)
	expectResumed(t, two, have, "", missed...)
	one.Kill()
	publishHTTP(t, two, "jobs-a", `{"last":1}`)
	one.Restart(site)
	again := expectResumed(t, one, standing.have, "", `{"last":1}`)
	publishHTTP(t, two, "jobs-a", `{"live":1}`)
	again.expectEvents("jobs-a", `{"live":1}`)
}

// The pub/sub layer keeps a ring per node: a client resumes on its node, is told the truth on another one, and about
// interrupted subscriptions. A reload loses nothing; a restart forgets the ring.
func TestClientsResumeOnAPubSubLayer(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	site := layerSite("redis_pubsub " + redis.URL)
	one, two := peers.StartRelay(t, site), peers.StartRelay(t, site)
	standing, leaving := positionsOf(t, one, nil), positionsOf(t, one, nil)
	standing.resume("jobs-a")
	leaving.resume("jobs-a")
	publishHTTP(t, one, "jobs-a", `{"n":0}`)
	leaving.expectEvents("jobs-a", `{"n":0}`)
	have := leaving.leave()
	missed := []string{`{"n":1}`, `{"n":2}`, `{"n":3}`}
	for _, text := range missed {
		publishHTTP(t, two, "jobs-a", text)
	}
	standing.expectEvents("jobs-a", append([]string{`{"n":0}`}, missed...)...)
	if err := expectResumed(t, one, have, "", missed...).Close(1000); err != nil {
		t.Error(err)
	}
	_ = expectResumed(t, two, have, "unknown_position").Close(1000)
	redis.Do("CLIENT", "KILL", "TYPE", "pubsub")
	f := standing.next("gap")
	if !slices.Equal(f.Groups, []string{"jobs-a"}) || f.Reason != "interrupted" || f.Position != "" {
		t.Errorf("after an interruption: %s", f.frame)
	}
	have = expectResumed(t, one, have, "gap").leave() // with the position of the gap
	publishHTTP(t, two, "jobs-a", `{"n":4}`)
	standing.expectEvents("jobs-a", `{"n":4}`)
	again := expectResumed(t, one, have, "", `{"n":4}`)

	reload(t, one, site)
	publishHTTP(t, two, "jobs-a", `{"n":5}`)
	again.expectEvents("jobs-a", `{"n":5}`)
	standing.expectEvents("jobs-a", `{"n":5}`)
	have = again.leave()
	one.Kill()
	one.Restart(site)
	expectResumed(t, one, have, "unknown_position")
}

// reload loads a site with another history in addition.
func reload(t *testing.T, r *peers.Relay, site string) {
	t.Helper()
	if err := r.Load(strings.Replace(site, "auth none", "auth none\nhistory other-*", 1)); err != nil {
		t.Fatal(err)
	}
}

// The memory layer's ring is exact, and a reload keeps it. A restart forgets it, and says so.
func TestClientsResumeOnAMemoryLayer(t *testing.T) {
	t.Parallel()
	site := layerSite("memory")
	r := peers.StartRelay(t, site)
	c := positionsOf(t, r, nil)
	c.resume("jobs-a")
	publishHTTP(t, r, "jobs-a", `{"n":0}`)
	c.expectEvents("jobs-a", `{"n":0}`)
	have := c.leave()
	var missed []string
	for i := range 100 {
		missed = append(missed, fmt.Sprintf(`{"n":%d}`, i+1))
		publishHTTP(t, r, "jobs-a", missed[i])
		if i == 50 {
			reload(t, r, site)
		}
	}
	_ = expectResumed(t, r, have, "", missed...).Close(1000)
	testkit.Eventually(t, "the history to be visible", func() bool {
		return strings.Contains(fetch(t, r.Admin+"/edgerelay/status"), `"ring"`)
	})
	r.Kill()
	r.Restart(site)
	expectResumed(t, r, have, "unknown_position")
}

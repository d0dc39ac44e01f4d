package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
)

// formerVariable names an environment variable with the path of an earlier build of the relay. Without it, the nodes of
// [TestRollingUpgrade] all run the build under test, which shows that nodes can be replaced in turn.
const formerVariable = "EDGERELAY_FORMER_CADDY"

// mixedSite is a site of two nodes on one Redis and a node on another, which a backplane joins. All share a storage
// with the plugin tag.
type mixedSite struct {
	t         *testing.T
	a, b, far *peers.Relay
	caddyfile func(r *peers.Relay) string
	have      map[string][]string // the positions of a client that comes and goes
	n         int                 // events so far
}

func newMixedSite(t *testing.T, former string) *mixedSite {
	t.Helper()
	near, away := peers.StartRedis(t), peers.StartRedis(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "tag.wasm")
	write(t, file, tagger(t, "one1"))
	s := &mixedSite{t: t}
	s.caddyfile = func(r *peers.Relay) string {
		redis, links := near.URL, "http://127.0.0.1:9"
		if r != nil && r == s.far {
			redis, links = away.URL, s.a.URL+" "+s.b.URL
		} else if s.far != nil {
			links = s.far.URL
		}
		more := fmt.Sprintf("history jobs-* tags-*\nhistory_key a-secret-that-all-nodes-share-0123456789\n"+
			"%s\nbackplane {\nsecret %q\nretry 1s\nsubscribe_wait 5s\npeers %s\n}",
			plugin("tag", file, "groups tags-*", "grant emit kv metrics clock"), clusterSecret, links)
		return strings.Replace(openSite(redis, more), "skip_install_trust",
			"skip_install_trust\n\tpersist_config off\n\tstorage file_system "+filepath.Join(dir, "shared"), 1)
	}
	s.a, s.b, s.far = peers.StartRelay(t, s.caddyfile(nil)), peers.StartRelay(t, s.caddyfile(nil)), peers.StartRelay(t, s.caddyfile(nil))
	for _, r := range []*peers.Relay{s.a, s.far} {
		r.Replace(former, s.caddyfile(r))
	}
	s.load(s.b)
	return s
}

func (s *mixedSite) load(r *peers.Relay) {
	s.t.Helper()
	if err := r.Load(s.caddyfile(r)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *mixedSite) nodes() []*peers.Relay { return []*peers.Relay{s.a, s.b, s.far} }

// awaitLinks waits until events flow in each direction of the backplane.
func (s *mixedSite) awaitLinks() {
	s.t.Helper()
	(&clusterNode{Relay: s.far}).awaitSources(s.t, 1)
	testkit.Eventually(s.t, "a link to the far layer", func() error {
		sources := 0
		for _, r := range []*peers.Relay{s.a, s.b} {
			list, err := (&clusterNode{Relay: r}).peers()
			if err != nil {
				return err
			}
			for _, p := range list {
				if p.Source && p.State == "connected" {
					sources++
				}
			}
		}
		if sources == 0 {
			return errors.New("none")
		}
		return nil
	})
}

// hears expects an event at a client. After a link broke, gap frames may come before it. A replay may begin with events
// up to the number before, from before the client's positions; live events never repeat.
func (s *mixedSite) hears(c *positionClient, linkBroke bool, before int, text string) {
	s.t.Helper()
	for linkBroke {
		got, err := c.Next(patience)
		var f positioned
		if err != nil || json.Unmarshal([]byte(got), &f) != nil {
			s.t.Fatalf("%q, %v; want %s", got, err, text)
		}
		var event struct{ N int }
		_ = json.Unmarshal(f.Event, &event) // a gap has none
		switch {
		case f.Type == "gap" || f.Type == "event" && event.N <= before:
		case f.Type == "event" && string(f.Event) == text:
			c.have["jobs-a"] = append(c.have["jobs-a"], f.Position)
			return
		default:
			s.t.Fatalf("%s, want %s", got, text)
		}
	}
	c.expectEvents("jobs-a", text)
}

// flows checks that an event of each node reaches clients of all nodes, once and in order, and that a client that was
// away gets the events on both nodes of its Redis. A link that broke in the meantime may be a gap, of which it is told.
func (s *mixedSite) flows(when string, linkBroke bool) {
	s.t.Helper()
	s.awaitLinks()
	before := s.n
	var clients []*positionClient
	for _, r := range s.nodes() {
		c := positionsOf(s.t, r, nil)
		c.resume("jobs-a")
		clients = append(clients, c)
	}
	var texts []string
	for _, r := range s.nodes() {
		s.n++
		texts = append(texts, fmt.Sprintf(`{"n":%d}`, s.n))
		publishHTTP(s.t, r, "jobs-a", texts[len(texts)-1])
		for _, c := range clients {
			s.hears(c, linkBroke, 0, texts[len(texts)-1])
		}
	}
	for _, r := range []*peers.Relay{s.a, s.b} {
		if s.have == nil {
			break
		}
		c := positionsOf(s.t, r, maps.Clone(s.have))
		f := c.resume("jobs-a")["jobs-a"]
		switch {
		case f.Recovered != nil && *f.Recovered && (*f.Events == len(texts) || linkBroke):
			for _, text := range texts {
				s.hears(c, linkBroke, before, text)
			}
		case !linkBroke || f.Reason != "gap":
			s.t.Fatalf("%s: resumed at %s: %s, want %d events", when, r.URL, f.frame, len(texts))
		}
		_ = c.Close(1000)
	}
	s.have = clients[0].leave()
	for _, c := range clients[1:] {
		_ = c.Close(1000)
	}
}

// settle waits until clients resume on both nodes of the Redis: the start of a node marks positions up to two seconds
// ahead of it as those of a gap.
func (s *mixedSite) settle() {
	s.t.Helper()
	testkit.Eventually(s.t, "clients resume", func() error {
		c := positionsOf(s.t, s.a, nil)
		c.resume("jobs-a")
		s.n++
		text := fmt.Sprintf(`{"n":%d}`, s.n)
		publishHTTP(s.t, s.a, "jobs-a", text)
		s.hears(c, true, 0, text)
		s.have = c.leave()
		for _, r := range []*peers.Relay{s.a, s.b} {
			c := positionsOf(s.t, r, maps.Clone(s.have))
			f := c.resume("jobs-a")["jobs-a"]
			_ = c.Close(1000)
			if f.Recovered == nil || !*f.Recovered {
				return fmt.Errorf("resumed at %s: %s", r.URL, f.frame)
			}
		}
		return nil
	})
}

// runs waits until all nodes run a version of the plugin.
func (s *mixedSite) runs(word string) {
	s.t.Helper()
	for i, r := range s.nodes() {
		testkit.Eventually(s.t, fmt.Sprintf("node %d runs %s", i, word), func() error {
			if row := pluginRowOf(s.t, r, "tag"); row.Hash != plugins.Hash(tagger(s.t, word)) {
				return fmt.Errorf("%.12s runs, refused: %q", row.Hash, row.Refused)
			}
			return nil
		})
	}
}

// change changes the plugin by a node's admin API.
func (s *mixedSite) change(r *peers.Relay, method, path string, body []byte) {
	s.t.Helper()
	if code, text := pluginCall(s.t, r, method, path, body); code != http.StatusOK {
		s.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
}

// tries has the first of some nodes try a candidate on these nodes, and the last decide about it. Builds without
// canaries are none of them: their nodes go on with the module that is deployed.
func (s *mixedSite) tries(word, end string, nodes ...*peers.Relay) {
	s.t.Helper()
	s.change(nodes[0], http.MethodPut, "tag?canary=50%25&for=1h", tagger(s.t, word))
	(&canarySite{relays: nodes}).awaitCanaries(s.t, pluginhost.CanaryRunning)
	s.change(nodes[len(nodes)-1], http.MethodPost, "tag/"+end, nil)
}

// Nodes of an earlier build and of this one run beside each other, by one Redis and by a backplane: events flow both
// ways, clients resume on either, and both follow each other's deployments and canaries. The earlier nodes are replaced
// in turn, and put back.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	former, current := os.Getenv(formerVariable), peers.RelayBinary(t)
	if former == "" {
		former = current
	}
	s := newMixedSite(t, former)
	s.flows("mixed", true)
	s.runs("one1")
	s.change(s.a, http.MethodPut, "tag", tagger(t, "two2"))
	s.runs("two2")
	s.change(s.b, http.MethodPut, "tag", tagger(t, "tre3"))
	s.runs("tre3")
	s.tries("for4", "promote", s.b)
	s.runs("for4")
	s.tries("fiv5", "rollback", s.b)
	s.runs("for4")

	s.settle()
	s.flows("before the upgrade", false)
	for _, r := range []*peers.Relay{s.a, s.far} {
		r.Replace(current, s.caddyfile(r))
		s.flows("after an upgrade", true) // a node that starts marks the history of its Redis
		s.runs("for4")
	}
	s.tries("six6", "promote", s.nodes()...)
	s.runs("six6")
	for _, r := range s.nodes() {
		r.Replace(former, s.caddyfile(r))
		s.flows("after a way back", true)
		s.runs("six6")
	}
	s.change(s.b, http.MethodPost, "tag/rollback", nil)
	s.runs("for4")
}

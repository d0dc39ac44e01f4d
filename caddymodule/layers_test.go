package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// A client of two groups is told once of a gap of the pub/sub layer, and hears the next event.
func TestResync(t *testing.T) {
	redis := peers.StartRedis(t)
	s := newSite(t)
	s.mustLoad("auth none\nchannel_layer redis_pubsub "+redis.URL+" {\nresync `{\"resync\": true}`\n}", "edgerelay")
	c := s.dial("/websocket/", csrf)
	next(t, c, `{"accept": true, "user": 1}`)
	if err := c.Send(`{"groups": {"jobs": ["summary", "status_changed"]}, "xrftoken": "t"}`); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(patience); err != nil {
		t.Fatal(err)
	}
	redis.KillClients()
	next(t, c, `{"resync": true}`)
	if status, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": 1}`); status != 200 {
		t.Errorf("publish: %d %s", status, body)
	}
	next(t, c, "1")
	answer, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if body, err := io.ReadAll(answer.Body); err != nil || !strings.Contains(string(body), "edgerelay_channel_layer_gaps_total 1") {
		t.Errorf("no metric of the gap (%v)", err)
	}
}

// New keys and a new password reach the open layer with a reload: the same broker, the same membership, no event lost.
func TestSecretsAreRotatedByReload(t *testing.T) {
	redis := peers.StartRedis(t)
	redis.Do("ACL", "SETUSER", "relay", "on", ">one", "~*", "&*", "+@all")
	s := newSite(t)
	layer := func(password, keys string) string {
		t.Setenv("ADV_KEY_1", "key one")
		t.Setenv("ADV_KEY_2", "key two")
		return "auth none\nchannel_layer redis redis://relay:" + password + "@" + redis.Addr + " {\nsymmetric_encryption_keys " + keys + "\n}"
	}
	s.mustLoad(layer("one", "{env.ADV_KEY_1}"), "edgerelay")
	c := s.subscribe("jobs-summary")
	broker := node.Current().Hub.Broker()
	python := peers.StartLayer(t, peers.CoreLayer, map[string]any{"hosts": []string{redis.URL}, "symmetric_encryption_keys": []string{"key two"}})
	members := redis.Do("ZRANGE", "asgi:group:jobs-summary", 0, -1)
	s.mustLoad(layer("one", "{env.ADV_KEY_1} {env.ADV_KEY_2}"), "edgerelay")
	python.Send(peers.Event{Group: "jobs-summary", Text: "1"})
	next(t, c, "1")
	redis.Do("ACL", "SETUSER", "relay", ">two", "<one")
	s.mustLoad(layer("two", "{env.ADV_KEY_2}"), "edgerelay")
	redis.Do("CLIENT", "KILL", "USER", "relay")
	python.Send(peers.Event{Group: "jobs-summary", Text: "2"})
	next(t, c, "2")
	if now := redis.Do("ZRANGE", "asgi:group:jobs-summary", 0, -1); len(now.([]any)) != 1 || now.([]any)[0] != members.([]any)[0] {
		t.Errorf("the member %v became %v", members, now)
	}
	if node.Current().Hub.Broker() != broker {
		t.Error("the broker was exchanged")
	}
}

// A failover closes no client, and all get the first event after it.
func TestFailoverOfASite(t *testing.T) {
	first := peers.StartRedis(t, "--repl-diskless-sync-delay", "0")
	_ = peers.StartReplica(t, first)
	sentinels := peers.StartSentinels(t, "mymaster", first, 1, 3, "")
	s := newSite(t)
	s.mustLoad("auth none\nchannel_layer redis {\nsentinel {\nmaster mymaster\naddresses "+strings.Join(sentinels.Addrs, " ")+"\n}\n}", "edgerelay")
	var clients []*wstest.Client
	for range 20 {
		clients = append(clients, s.subscribe("jobs-summary"))
	}
	first.Kill()
	deadline := time.Now().Add(3 * patience) // three sentinels have to agree
	for n := 0; ; n++ {
		status, body := s.post("/edgerelay/publish", fmt.Sprintf(`{"group": "jobs-summary", "data": %d}`, n))
		if status != http.StatusOK {
			if time.Now().After(deadline) {
				t.Fatalf("%d %s", status, body)
			}
			continue
		}
		for _, c := range clients {
			next(t, c, fmt.Sprint(n))
		}
		return
	}
}

// Every Caddyfile in docs/channel-layers.md is one.
func TestSnippetsOfChannelLayers(t *testing.T) {
	page, err := os.ReadFile("../docs/channel-layers.md")
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllSubmatch(page, -1)
	if len(snippets) < 9 {
		t.Errorf("%d snippets", len(snippets))
	}
	for _, s := range snippets {
		if _, err := adapt(global("auth none\n" + string(s[1]))); err != nil {
			t.Errorf("%s\n%v", s[1], err)
		}
	}
}

package caddymodule

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// The layer of a Redis Cluster in Caddy: events, a new password by reload into the open layer, and a gap that the
// client is told of.
func TestRedisCluster(t *testing.T) {
	c := peers.StartRedisCluster(t, 3, 0)
	acl := func(password string) {
		for _, m := range c.Masters {
			m.Do("ACL", "SETUSER", "relay", "reset", "on", ">"+password, "~edgerelay:*", "&edgerelay:*", "+@all", "-@admin")
		}
	}
	acl("one")
	s := newSite(t)
	layer := func(variable string) string {
		return "auth none\nchannel_layer redis_cluster " + strings.Join(c.Addresses(), " ") + " {\nusername relay\npassword {env." + variable + "}\nresync `{\"resync\": true}`\n}"
	}
	t.Setenv("ADV_ONE", "one")
	t.Setenv("ADV_TWO", "two")
	s.mustLoad(layer("ADV_ONE"), "edgerelay")
	client := s.subscribe("jobs-summary")
	publish := func(data string) {
		t.Helper()
		if status, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": `+data+`}`); status != 200 || !strings.Contains(body, `"members":1`) {
			t.Errorf("publish: %d %s", status, body)
		}
	}
	publish("1")
	next(t, client, "1")
	status, report := s.post("/edgerelay/doctor", "")
	for _, address := range c.Addresses() {
		if status != 200 || !strings.Contains(report, address+" responds within") {
			t.Errorf("doctor does not check %s: %d %s", address, status, report)
		}
	}
	broker := node.Current().Hub.Broker()
	acl("two")
	s.mustLoad(layer("ADV_TWO"), "edgerelay")
	if node.Current().Hub.Broker() != broker {
		t.Error("the broker was exchanged")
	}
	for _, m := range c.Masters {
		m.Do("CLIENT", "KILL", "USER", "relay")
	}
	next(t, client, `{"resync": true}`)
	publish("2")
	next(t, client, "2")
	answer, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if body, err := io.ReadAll(answer.Body); err != nil || !strings.Contains(string(body), "edgerelay_channel_layer_gaps_total 1") {
		t.Errorf("no metric of the gap (%v)", err)
	}
}

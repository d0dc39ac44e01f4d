package caddymodule

import (
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// A function keeps values and sets alarms in Redis, and in the process where there is none. A reload keeps both.
func TestFunctionHasSharedStateAndAlarms(t *testing.T) {
	redis, other := peers.StartRedis(t), peers.StartRedis(t)
	for name, options := range map[string]string{
		"memory":   "",
		"redis":    "channel_layer redis " + redis.URL,
		"pubsub":   "channel_layer redis_pubsub " + redis.URL,
		"settings": fmt.Sprintf("functions {\nstate %s\nstate_prefix own\nstate_keys 10\n}", other.URL),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			config := options + fmt.Sprintf("\nauth none\nplugin f %s {\ngrant shared alarms\n"+
				"fetch https://example.com\njoin room_*\npublish room_* alarms results\n}", pluginFile(t, "function"))
			route := "edgerelay {\nroute /ws/{room}/ {\nfunction f\n}\nroute /watch/ {\ngroups alarms\n}\n}"
			s.mustLoad(config, route)
			watcher := s.dialRoute("/watch/", nil)
			a := s.dialRoute("/ws/room_1/", nil)
			a.next("welcome")
			a.send(`{"do":"set","key":"k","value":"v","context":"1"}`)
			a.next("1 0 ")
			a.send(`{"do":"add","key":"n","delta":5,"context":"2"}`)
			a.next("2 0 5")
			s.mustLoad(config+"\ntrace_events 1000", route)
			a.send(`{"do":"get","key":"k","context":"3"}`)
			a.next("3 0 v")
			a.send(`{"do":"swap","key":"k","expected":"w","value":"x","context":"4"}`)
			a.next("4 2 v")
			a.send(`{"do":"alarm","key":"name","value":"payload","at":100,"context":"5"}`)
			a.next("5 0 ")
			watcher.next("namepayload")
			testkit.Eventually(t, "the alarm is counted", func() bool {
				return s.scrape()["edgerelay_state_alarms_total"] != nil && s.scrape().sum("edgerelay_state_alarms_total") == 1
			})
		})
	}
	if keys := other.Do("KEYS", "*").([]any); len(keys) == 0 {
		t.Error("the Redis of the setting state has no keys")
	}
}

func TestFunctionsSettingsAreChecked(t *testing.T) {
	s := newSite(t)
	for _, options := range []string{
		"state nonsense", "state_prefix x", "state redis://127.0.0.1:1\nstate_prefix {}", "state_timeout 1ms",
		"alarm_lease 1s", "alarm_lease 2h",
	} {
		if err := s.load(s.file("auth none\nfunctions {\n"+options+"\n}", `respond "next"`)); err == nil {
			t.Errorf("%s: accepted", options)
		}
	}
}

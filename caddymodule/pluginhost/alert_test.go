package pluginhost

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/guests"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// TestAlertByOneNode: two nodes without clients get the event of a failed job, and the server gets one message.
func TestAlertByOneNode(t *testing.T) {
	var messages atomic.Int32
	bodies := make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		messages.Add(1)
		bodies <- string(body)
	}))
	defer server.Close()
	wasm := guests.BuildGo(t, filepath.Join(guests.Root, "examples", "plugins", "alert-fetch"))
	store := &sharedStore{values: map[string]string{}}
	nodes := []*site{newSite(t), newSite(t)}
	for _, s := range nodes {
		s.write(wasm)
		s.plugin.Groups, s.plugin.Watch = []string{"jobs-*"}, []string{"jobs-status_changed"}
		s.plugin.Fetch = &Fetch{Addresses: []string{server.URL}, Private: []string{"127.0.0.1"}, Methods: []string{"POST"}}
		s.plugin.Config = json.RawMessage(`{"webhook": "` + server.URL + `/services/x", "site": "https://awx.example.com"}`)
		s.start()
		s.UseServices(func(v *plugins.Services) { v.Shared = store })
	}
	send := func(payload string) {
		for _, s := range nodes {
			s.hub.Deliver([]relay.Event{{Group: "jobs-status_changed", Text: []byte(payload)}})
		}
	}
	send(`{"group_name":"jobs","status":"successful","unified_job_id":6}`)
	send(`{"group_name":"jobs","status":"failed","unified_job_id":7}`)
	if got, want := <-bodies, `{"text":"job 7 ended: failed https://awx.example.com/#/jobs/playbook/7"}`; got != want {
		t.Errorf("the message is %s, want %s", got, want)
	}
	testkit.Eventually(t, "the other node leaves the message to the first", func() bool {
		return nodes[0].Fetches()["p"].Claimed+nodes[1].Fetches()["p"].Claimed == 1
	})
	send(`{"group_name":"jobs","status":"failed","unified_job_id":7}`) // again
	testkit.Eventually(t, "both nodes leave the second message", func() bool {
		return nodes[0].Fetches()["p"].Claimed+nodes[1].Fetches()["p"].Claimed == 3
	})
	if n := messages.Load(); n != 1 {
		t.Errorf("%d messages", n)
	}
}

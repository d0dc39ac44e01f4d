package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// An operator watches a group without clients. The events do not count as lost, and the list of groups shows the tail.
func TestTailCountsNeitherClientsNorLosses(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, openSite(redis.URL, ""))
	emitter := peers.StartEmitter(t, redis.URL)
	answer, err := http.Get(r.Admin + "/edgerelay/groups/other-1/tail")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	var events []peers.Event
	for i := range 20 {
		events = append(events, peers.Event{Group: "other-1", Text: fmt.Sprint(i)})
	}
	emitter.Send(events...)
	for range events {
		if !lines.Scan() {
			t.Fatalf("the tail ended: %v", lines.Err())
		}
	}
	if metrics := fetch(t, r.Admin+"/metrics"); !strings.Contains(metrics,
		`edgerelay_events_dropped_total{reason="no_client"} 0`+"\n") {
		t.Error("events that were shown count as no_client")
	}
	var page struct {
		Groups []struct {
			Group              string
			Subscribers, Tails int
		}
	}
	if err := json.Unmarshal([]byte(fetch(t, r.Admin+"/edgerelay/groups")), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Groups) != 1 || page.Groups[0].Subscribers != 0 || page.Groups[0].Tails != 1 {
		t.Errorf("groups %+v, want one with a tail and no client", page.Groups)
	}
}

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/plugins"
)

// canarySite are relays that share a storage, and send events of groups to a client each.
type canarySite struct {
	*stage
	caddyfile string
	relays    []*peers.Relay
	clients   []*wstest.Client
	groups    []string
	sent      int
	received  []int // by client
	// candidate counts the events that the candidate has decided, by group.
	candidate map[string]int
}

// newCanarySite starts relays with a plugin that marks events.
func newCanarySite(t *testing.T, relays, groups int) *canarySite {
	s := &canarySite{stage: newStage(t), candidate: map[string]int{}}
	s.caddyfile = strings.Replace(s.withPlugins(plugin("tag", guest(t, "filter"), "groups tags-*", "on_error last_good",
		"grant emit kv metrics clock")),
		"persist_config off", "persist_config off\nstorage file_system "+filepath.Join(t.TempDir(), "shared"), 1)
	for i := range groups {
		s.groups = append(s.groups, fmt.Sprint("tags-", i))
	}
	for range relays {
		s.start(t)
	}
	return s
}

func (s *canarySite) start(t *testing.T) {
	r := peers.StartRelay(t, s.caddyfile)
	s.relays = append(s.relays, r)
	s.clients = append(s.clients, subscriber(t, r.URL, s.logins[peers.Alice], s.groups...))
	s.received = append(s.received, s.sent)
}

// send sends events round the groups. One in ten makes the actor fail.
func (s *canarySite) send(n int) {
	events := make([]peers.Event, n)
	for i := range events {
		what := "pass"
		if (s.sent/len(s.groups))%10 == 9 { // each group has its turn
			what = "error"
		}
		events[i] = peers.Event{
			Group: s.groups[s.sent%len(s.groups)], Text: fmt.Sprintf(`{"n": %d, "do": %q}`, s.sent, what),
		}
		s.sent++
	}
	s.emitter.Send(events...)
}

// receive checks that each client gets each event once, in the order of its group.
func (s *canarySite) receive(t *testing.T) {
	t.Helper()
	for i, c := range s.clients {
		last := map[string]int{}
		for ; s.received[i] < s.sent; s.received[i]++ {
			text, err := c.Next(patience)
			if err != nil {
				t.Fatalf("relay %d, %d of %d events: %v", i, s.received[i], s.sent, err)
			}
			rest, marked := strings.CutPrefix(text, `{"seen":true,`)
			var ev struct{ N int }
			if err := json.Unmarshal([]byte("{"+strings.TrimPrefix(rest, "{")), &ev); err != nil {
				t.Fatalf("relay %d sent %q", i, text)
			}
			group := s.groups[ev.N%len(s.groups)]
			if before, ok := last[group]; ok && ev.N != before+len(s.groups) {
				t.Fatalf("relay %d: %s has event %d after %d", i, group, ev.N, before)
			}
			last[group] = ev.N
			if !marked {
				s.candidate[group]++
			}
		}
	}
}

// canary returns the canary as a relay shows it.
func canaryOf(t *testing.T, r *peers.Relay) pluginhost.CanaryStatus {
	t.Helper()
	var p struct{ Canary pluginhost.CanaryStatus }
	if err := json.Unmarshal([]byte(fetch(t, r.Admin+"/edgerelay/plugins/tag")), &p); err != nil {
		t.Fatal(err)
	}
	return p.Canary
}

// awaitCanaries waits until the canary is in a phase on all relays, and runs there if the phase is running.
func (s *canarySite) awaitCanaries(t *testing.T, phase pluginhost.CanaryPhase) {
	t.Helper()
	for i, r := range s.relays {
		testkit.Eventually(t, fmt.Sprintf("the canary is %s on relay %d", phase, i), func() error {
			c := canaryOf(t, r)
			if c.Phase != phase || c.Here != (phase == pluginhost.CanaryRunning) {
				return fmt.Errorf("it is %s, here %t", c.Phase, c.Here)
			}
			return nil
		})
	}
}

// TestFailingCanaryIsTakenBack: a candidate that fails one event in ten is taken back on both relays within ten
// seconds, at 50 events a second. No event is lost, doubled or out of order, and other groups never see the candidate.
func TestFailingCanaryIsTakenBack(t *testing.T) {
	s := newCanarySite(t, 2, 10)
	s.send(20)
	s.receive(t)
	code, body := pluginCall(t, s.relays[0], http.MethodPut, "tag?canary=30%25&for=10m&max_errors=1%25", guestBytes(t, "actor"))
	if code != http.StatusOK {
		t.Fatalf("PUT: %d %s", code, body)
	}
	s.awaitCanaries(t, pluginhost.CanaryRunning)
	if code, body := pluginCall(t, s.relays[1], http.MethodPut, "tag/canary?share=50%25", nil); code != http.StatusOK {
		t.Fatalf("another share: %d %s", code, body)
	}
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ended := 0; ended < len(s.relays); {
		if time.Since(began) > time.Minute {
			t.Fatalf("the canary is %+v", canaryOf(t, s.relays[0]))
		}
		<-tick.C
		s.send(10)
		s.receive(t)
		ended = 0
		for _, r := range s.relays {
			if canaryOf(t, r).Phase == pluginhost.CanaryReturned {
				ended++
			}
		}
	}
	took := time.Since(began)
	t.Logf("taken back on both relays after %v and %d events: %s", took.Round(100*time.Millisecond), s.sent,
		canaryOf(t, s.relays[0]).Reason)
	if took > 10*time.Second {
		t.Errorf("the candidate was taken back after %v, want 10s", took)
	}
	if n := len(s.candidate); n == 0 || n == len(s.groups) {
		t.Errorf("the candidate has decided for %d of %d groups, want some", n, len(s.groups))
	}
	decided := fmt.Sprint(s.candidate)
	s.send(100)
	s.receive(t)
	if after := fmt.Sprint(s.candidate); after != decided {
		t.Errorf("the candidate still decides: %s, before %s", after, decided)
	}
	for _, c := range s.clients {
		if err := nothingMore(c); err != nil {
			t.Error(err)
		}
	}
}

// TestGoodCanaryIsPromoted: while the share changes under load, each client gets each event once and in order. A relay
// that joins takes part, and the candidate becomes the module of all relays.
func TestGoodCanaryIsPromoted(t *testing.T) {
	s := newCanarySite(t, 2, 10)
	good := guestBytes(t, "pass") // events pass unmarked
	try := func(query string) {
		t.Helper()
		code, body := pluginCall(t, s.relays[0], http.MethodPut, "tag?max_slowdown=0&"+query, good)
		if code != http.StatusOK {
			t.Fatalf("PUT: %d %s", code, body)
		}
	}
	try("canary=20%25")
	s.awaitCanaries(t, pluginhost.CanaryRunning)
	for _, share := range []string{"40", "60", "20", "80", "50"} {
		s.send(200)
		if code, body := pluginCall(t, s.relays[1], http.MethodPut, "tag/canary?share="+share+"%25", nil); code != http.StatusOK {
			t.Fatalf("another share: %d %s", code, body)
		}
		s.send(200)
		s.receive(t)
	}
	s.start(t)
	s.awaitCanaries(t, pluginhost.CanaryRunning)
	s.send(400)
	s.receive(t)
	if code, body := pluginCall(t, s.relays[2], http.MethodPost, "tag/rollback", nil); code != http.StatusOK {
		t.Fatalf("rollback: %d %s", code, body)
	}
	s.awaitCanaries(t, pluginhost.CanaryReturned)
	try("canary=50%25&for=2s")
	s.send(400)
	s.receive(t)
	s.awaitCanaries(t, pluginhost.CanaryPromoted)
	testkit.Eventually(t, "all relays run the candidate", func() error {
		var list admin.PluginNodes
		if err := json.Unmarshal([]byte(fetch(t, s.relays[0].Admin+"/edgerelay/plugin-nodes")), &list); err != nil {
			return err
		}
		if len(list.Nodes) != 3 || len(list.Plugins) != 1 || !list.Plugins[0].Converged {
			return fmt.Errorf("the nodes are %+v", list)
		}
		for _, n := range list.Nodes {
			if len(n.Plugins) != 1 || n.Plugins[0].Hash != plugins.Hash(good) {
				return errors.New("another module runs on " + n.ID)
			}
		}
		return nil
	})
	s.send(100)
	s.receive(t)
	for _, c := range s.clients {
		if err := nothingMore(c); err != nil {
			t.Error(err)
		}
	}
}

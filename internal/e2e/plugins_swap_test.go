package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// A running plugin is swapped again and again under traffic: no event is lost or out of order. The traffic ends when
// enough swaps are done, however long a swap takes.
func TestEventsSurvivePluginSwaps(t *testing.T) {
	s := newStage(t)
	r := peers.StartRelay(t, strings.Replace(s.withPlugins(plugin("tag", guest(t, "filter"), "groups tags-*")),
		"auth awx", "limits {\nqueue_per_connection 64MiB\n}\nauth awx", 1))
	c := subscriber(t, r.URL, s.logins[peers.Alice], "tags-1")
	versions := map[string][]byte{"seen": tagger(t, "seen"), "swap": tagger(t, "swap")}
	const swaps = 60
	var swapped atomic.Int64
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for n := range swaps {
			word := []string{"swap", "seen"}[n%2]
			if code, body := pluginCall(t, r, http.MethodPut, "tag", versions[word]); code != http.StatusOK {
				t.Errorf("PUT: %d %s", code, body)
			}
			swapped.Add(1)
		}
	})
	defer swapping.Wait() // before the test ends, even if it fails
	// A part is sent when at most inFlight others are not yet received: over capacity, the emitter itself would drop.
	const part, inFlight = 250, 16
	sent, received := 0, 0
	send := func() {
		events := make([]peers.Event, part)
		for i := range events {
			events[i] = peers.Event{Group: "tags-1", Text: fmt.Sprintf(`{"n": %d}`, sent+i)}
		}
		s.emitter.Send(events...)
		sent += part
	}
	begin := time.Now()
	seen := map[string]int{}
	for {
		for swapped.Load() < swaps && sent < received+inFlight*part {
			send()
		}
		if received == sent {
			break
		}
		text, err := c.Next(patience)
		if err != nil {
			t.Fatalf("event %d: %v; the relay counts\n%s", received, err, figures(t, r))
		}
		word, rest, ok := strings.Cut(strings.TrimPrefix(text, `{"`), `":true,`)
		if !ok || versions[word] == nil || rest != fmt.Sprintf(`"n": %d}`, received) {
			t.Fatalf("event %d is %q", received, text)
		}
		seen[word]++
		received++
	}
	if seen["seen"] == 0 || seen["swap"] == 0 {
		t.Errorf("events by version: %v, want some of both", seen)
	}
	t.Logf("%d events in %v with %d swaps: %v", received, time.Since(begin).Round(time.Millisecond), swaps, seen)
	if err := nothingMore(c); err != nil {
		t.Error(err)
	}
}

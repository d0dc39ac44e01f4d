package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// A running plugin is swapped again and again under traffic: no event is lost or out of order.
func TestPluginSwap(t *testing.T) {
	s := newStage(t)
	r := peers.StartRelay(t, strings.Replace(s.withPlugins(plugin("tag", guest(t, "filter"), "groups tags-*")),
		"auth awx", "limits {\nqueue_per_connection 64MiB\n}\nauth awx", 1))
	c := subscriber(t, r.URL, s.logins[peers.Alice], "tags-1")
	versions := map[string][]byte{"seen": tagger(t, "seen"), "swap": tagger(t, "swap")}
	const count = 20_000
	events := make([]peers.Event, count)
	for i := range events {
		events[i] = peers.Event{Group: "tags-1", Text: fmt.Sprintf(`{"n": %d}`, i)}
	}
	begin := time.Now()
	swapped := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		for {
			for _, word := range []string{"swap", "seen"} {
				select {
				case <-stop:
					swapped <- n
					return
				default:
				}
				if code, body := pluginCall(t, r, http.MethodPut, "tag", versions[word]); code != http.StatusOK {
					t.Errorf("PUT: %d %s", code, body)
				}
				n++
			}
		}
	}()
	// A part is sent when at most four are on their way: over capacity, the emitter itself would drop.
	const part = 1000
	room := make(chan struct{}, 4)
	go func() {
		for events := range slices.Chunk(events, part) {
			room <- struct{}{}
			s.emitter.Send(events...)
		}
	}()
	seen := map[string]int{}
	for i := range count {
		text, err := c.Next(patience)
		if err != nil {
			t.Fatalf("event %d: %v; the relay counts\n%s", i, err, figures(t, r))
		}
		word, rest, ok := strings.Cut(strings.TrimPrefix(text, `{"`), `":true,`)
		if !ok || versions[word] == nil || rest != fmt.Sprintf(`"n": %d}`, i) {
			t.Fatalf("event %d is %q", i, text)
		}
		seen[word]++
		if (i+1)%part == 0 {
			<-room
		}
	}
	took := time.Since(begin)
	close(stop)
	n := <-swapped
	if seen["seen"] == 0 || seen["swap"] == 0 {
		t.Errorf("events by version: %v, want some of both", seen)
	}
	t.Logf("%d events in %v with %d swaps: %v, none lost or out of order", count, took.Round(time.Millisecond), n, seen)
	if err := nothingMore(c); err != nil {
		t.Error(err)
	}
}

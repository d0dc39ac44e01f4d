package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// 10,000 events from Python: every client gets exactly the texts of its groups, each
// group's in the order in which they were emitted, none lost and none doubled.
func TestDelivery(t *testing.T) {
	s := newStage(t)
	// How slow a reader may be is not the question here.
	r := peers.StartRelay(t, strings.Replace(s.relayFile(), "auth awx",
		"limits {\n\t\t\tqueue_per_connection 64MiB\n\t\t}\n\t\tauth awx", 1))
	relay := site{name: "relay", url: r.URL, relay: true}
	s.deliver(t, relay, 10_000, 24)
}

func (s *stage) deliver(t *testing.T, where site, count, clients int) {
	t.Helper()
	groups := []string{
		"job_events-42", "job_events-44", "workflow_events-7",
		"ad_hoc_command_events-5", "jobs-status_changed", "jobs-summary",
	}
	events := make([]peers.Event, count)
	for i := range events {
		// Uneven: some groups are busier than others; sizes of 0.1 to 2 KiB.
		group := groups[(i*i+i/7)%len(groups)]
		events[i] = peers.Event{Group: group, Text: fmt.Sprintf(
			`{"counter": %d,  "group_name": %q, "stdout": "\u001b[0;32mok: [höst]\u001b[0m %s"}`,
			i, group, strings.Repeat("x", i*37%1900))}
	}

	var wg sync.WaitGroup
	results := make(chan error, clients)
	for i := range clients {
		// From one group to all of them, in every combination of neighbours.
		mine := map[string]bool{}
		for j := range 1 + i%len(groups) {
			mine[groups[(i+j)%len(groups)]] = true
		}
		var names []string
		texts := map[string][]string{}
		for _, g := range groups {
			if mine[g] {
				names = append(names, g)
			}
		}
		total := 0
		for _, e := range events {
			if mine[e.Group] {
				texts[e.Group] = append(texts[e.Group], e.Text)
				total++
			}
		}
		c := subscriber(t, where.url, s.logins[peers.Alice], names...)
		wg.Go(func() {
			if err := expectGroups(c, texts, total); err != nil {
				results <- fmt.Errorf("client %d of %q: %w", i, names, err)
			}
		})
	}
	begin := time.Now()
	for chunk := range slices.Chunk(events, 250) {
		s.emitter.Send(chunk...)
	}
	emitted := time.Since(begin)
	wg.Wait()
	close(results)
	for err := range results {
		t.Error(err)
	}
	t.Logf("%d events emitted in %v, the last one delivered %v later", count, emitted, time.Since(begin)-emitted)
}

// expectGroups expects total frames, each of them the next text of its group, and
// nothing more.
func expectGroups(c *wstest.Client, texts map[string][]string, total int) error {
	for i := range total {
		got, err := c.Next(patience)
		if err != nil {
			return fmt.Errorf("event %d of %d: %w", i, total, err)
		}
		_, after, _ := strings.Cut(got, `"group_name": "`)
		group, _, _ := strings.Cut(after, `"`)
		next := texts[group]
		if len(next) == 0 {
			return fmt.Errorf("event %d of %d: nothing more of its group was to come: %.200q", i, total, got)
		}
		if got != next[0] {
			return fmt.Errorf("event %d of %d:\ngot  %.200q\nwant %.200q", i, total, got, next[0])
		}
		texts[group] = next[1:]
	}
	return nothingMore(c)
}

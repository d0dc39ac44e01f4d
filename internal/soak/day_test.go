package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// A day of a site with 200 browsers, played as fast as it goes, leaves nothing behind. An hour has 3,600 events, a
// third of them to all browsers and the rest to twenty new jobs, 2,400 changes of page and 50 reconnects.
func TestDay(t *testing.T) {
	const browsers, hours, jobs = 200, 24, 20
	events, changes, reconnects := scaled(t, 3600, 0.01), scaled(t, 2400, 0.01), scaled(t, 50, 0.01)
	e := startEndurance(t, "hours")

	settings := redis.DefaultSettings()
	settings.URLs = []string{e.redis.URL}
	emitter, err := redis.New(settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = emitter.Close(context.Background()) }()

	crowd := make([]*browser, browsers)
	for i := range crowd {
		crowd[i] = openBrowser(t, e.relay.URL)
	}
	t.Cleanup(func() {
		for _, b := range crowd {
			b.raw.Close()
		}
	})
	random := rand.New(rand.NewPCG(1, 2))
	for hour := 1; hour <= hours; hour++ {
		job := func() string { return fmt.Sprint("job_events-", hour*jobs+random.IntN(jobs)) }
		for n := range events {
			group := everyPage
			if n%3 != 0 {
				group = job()
			}
			if _, err := emitter.Publish(t.Context(), group, text(group, n, false)); err != nil {
				t.Fatal(err)
			}
			// The rest of the hour is spread over its events.
			for range share(changes, n, events) {
				if err := crowd[random.IntN(browsers)].open(everyPage, job()); err != nil {
					t.Fatal(err)
				}
			}
			for range share(reconnects, n, events) {
				i := random.IntN(browsers)
				crowd[i].raw.Close()
				crowd[i] = openBrowser(t, e.relay.URL)
			}
		}
		for _, b := range crowd { // at night all job pages are closed, and the relay leaves their groups
			if err := b.open(everyPage); err != nil {
				t.Fatal(err)
			}
		}
		e.rest(hour, browsers)
	}
	m, err := metrics(e.relay)
	if err != nil {
		t.Fatal(err)
	}
	if m["edgerelay_deliveries_total"] == 0 {
		t.Error("no event was delivered")
	}
	// A browser that reconnects may have an event under way.
	if missed := m["edgerelay_deliveries_missed_total"]; missed > browsers*hours {
		t.Errorf("%.0f deliveries were missed", missed)
	}
}

// share is how many of total things happen at step n of steps when they are spread evenly.
func share(total, n, steps int) int { return total*(n+1)/steps - total*n/steps }

// everyPage is the group of the events that every browser shows.
const everyPage = "jobs-status_changed"

// browser is a client that changes its page, and with it its groups.
type browser struct {
	raw      *wstest.Raw
	answered chan string
	ended    chan error
}

func openBrowser(t *testing.T, url string) *browser {
	t.Helper()
	raw, err := wstest.DialRaw(url+"/websocket/", "csrftoken=t")
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{raw: raw, answered: make(chan string, 1), ended: make(chan error, 1)}
	go func() {
		for {
			text, err := raw.Next(0)
			if err != nil {
				b.ended <- err
				return
			}
			if strings.HasPrefix(text, `{"groups_current"`) || strings.HasPrefix(text, `{"error"`) {
				b.answered <- text
			}
		}
	}()
	return b
}

// open replaces the browser's groups and waits for the relay's answer.
func (b *browser) open(groups ...string) error {
	var list []string
	for _, group := range groups {
		kind, item, _ := strings.Cut(group, "-")
		list = append(list, fmt.Sprintf("%q: [%q]", kind, item))
	}
	if err := b.raw.Send(fmt.Sprintf(`{"groups": {%s}, "xrftoken": "t"}`, strings.Join(list, ", "))); err != nil {
		return err
	}
	select {
	case answer := <-b.answered:
		if !strings.Contains(answer, groups[len(groups)-1]) {
			return fmt.Errorf("subscribing to %q: %.200s", groups, answer)
		}
		return nil
	case err := <-b.ended:
		return fmt.Errorf("subscribing to %q: %w", groups, err)
	case <-time.After(30 * time.Second):
		return errors.New("subscribing: no answer")
	}
}

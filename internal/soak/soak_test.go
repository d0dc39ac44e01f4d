//go:build soak

package soak

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// short is the length of the test without SOAK.
const short = 10 * time.Second

// TestSoak runs for the duration in the environment variable SOAK. It writes profiles of the heaps at every rest to the
// folder in SOAK_HEAPS.
func TestSoak(t *testing.T) {
	length := short
	if given := os.Getenv("SOAK"); given != "" {
		var err error
		if length, err = time.ParseDuration(given); err != nil {
			t.Fatalf("SOAK is how long to run, such as 60m: %v", err)
		}
	}
	k := newSoak(t, length >= 5*time.Minute)
	t.Logf("%s: the site runs", time.Now().Format(time.TimeOnly))
	began := time.Now()
	// The first play has each fault, so that pools and caches are filled at the first rest.
	k.play(min(5*time.Minute, length/time.Duration(k.plays)))
	k.rest()
	for range k.plays {
		k.play(length / time.Duration(k.plays))
		k.rest()
	}
	k.report(time.Since(began))
}

// soak is a run of the test.
type soak struct {
	*site
	long     bool
	plays    int // with faults; the relay rests between them
	events   *plain
	parts    []part
	readings []reading         // at rest
	first    map[string]string // the profiles of the nodes' heaps at the first rest
}

func newSoak(t *testing.T, long bool) *soak {
	k := &soak{long: long, plays: 1}
	if long {
		k.plays = 6
	}
	// In a short run, histories end soon after their last event.
	k.site = startSite(t, max(5*time.Second, k.scale(30*time.Second)))
	k.trouble = &trouble{s: k.site, kill: long, scale: k.scale}
	k.events = newPlain(k.site, k.scale)
	k.parts = append([]part{
		k.events,
		&rooms{s: k.site},
		&orders{s: k.site, emitter: k.emitter(k.store)},
		&chats{s: k.site},
		&backendClients{s: k.site},
		&deploys{s: k.site, every: k.scale(13 * time.Second)},
		&operators{s: k.site, scale: k.scale},
	}, k.resumingParts()...)
	return k
}

// scale returns the interval of a long run, or in a short one a part of it.
func (k *soak) scale(d time.Duration) time.Duration {
	if k.long {
		return d
	}
	return d / 10
}

// play runs all parts for a time, under faults.
func (k *soak) play(length time.Duration) {
	traffic, stop := context.WithCancel(context.Background())
	defer stop()
	var parts sync.WaitGroup
	var stopped time.Time // set before traffic ends
	for _, p := range k.parts {
		parts.Go(func() {
			p.run(traffic)
			if took := time.Since(stopped); took > 10*time.Second {
				k.t.Logf("%s: %T was judged after %v", time.Now().Format(time.TimeOnly), p, took.Round(time.Second))
			}
		})
	}
	faults, mended := context.WithTimeout(context.Background(), length)
	defer mended()
	k.trouble.run(faults)
	testkit.Pause(nil, settle+time.Second) // a last quiet time
	stopped = time.Now()
	stop()
	parts.Wait()
	k.t.Logf("%s: a play of %v has ended", time.Now().Format(time.TimeOnly), length)
}

// report prints what has happened, and fails the test for what has not.
func (k *soak) report(took time.Duration) {
	events := k.events.table()
	counts := k.trouble.work()
	for _, p := range k.parts {
		counts = append(counts, p.work()...)
	}
	published, delivered := k.traffic()
	fmt.Printf("\n%s\n%v: %d events published, %d deliveries judged,\n%s\n\n%s\n", events, took.Round(time.Second), published,
		delivered, tell(counts), k.table())
	for _, p := range k.parts {
		if r, ok := p.(*resuming); ok {
			fmt.Println(r.losses())
		}
	}
	if names := idle(counts, k.long); len(names) > 0 {
		k.t.Errorf("not everything has happened: %q", names)
	}
}

// traffic returns the events that were published, and those that clients received, of all parts.
func (k *soak) traffic() (published, delivered int64) {
	for _, p := range k.parts {
		switch p := p.(type) {
		case *plain:
			published, delivered = published+int64(p.total.published), delivered+int64(p.total.delivered)
		case *resuming:
			published, delivered = published+int64(p.total.Published), delivered+int64(p.total.Received)
		case *chats:
			published, delivered = published+p.said.Load(), delivered+p.heard.Load()
		}
	}
	return published, delivered
}

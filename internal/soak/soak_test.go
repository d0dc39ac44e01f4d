//go:build soak

package soak

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// short is the length of the test without SOAK.
const short = 10 * time.Second

// TestSoak runs for the duration in the environment variable SOAK.
func TestSoak(t *testing.T) {
	length := short
	if given := os.Getenv("SOAK"); given != "" {
		var err error
		if length, err = time.ParseDuration(given); err != nil {
			t.Fatalf("SOAK is how long to run, such as 60m: %v", err)
		}
	}
	long := length >= 5*time.Minute
	scale := func(d time.Duration) time.Duration { // of intervals
		if long {
			return d
		}
		return d / 10
	}
	const groups, rate, crowd, dawdlers = 12, 300, 30, 6

	store := peers.StartRedis(t)
	secret := "backplane { \n secret soak \n peers %s \n }"
	elsewhere := peers.StartRedis(t)
	far := peers.StartRelay(t, caddyfile(elsewhere.URL, fmt.Sprintf(secret, "http://127.0.0.1:1")))
	plugin := filepath.Join(peers.Root(t), "examples", "plugins", "quiet", "plugin.wasm")
	file := func(variant int) string {
		return caddyfile(store.URL, fmt.Sprintf(`limits {
			groups_per_connection %d
			connections_per_user 0
			queue_per_connection 128KiB
		}
		plugin quiet %s {
			groups job_events-*
		}
		`, 50+variant%2, plugin)+fmt.Sprintf(secret, far.URL))
	}
	r := peers.StartRelay(t, file(0))
	nearFile := caddyfile(store.URL, "limits {\nconnections_per_user 0\n}")
	near := peers.StartRelay(t, nearFile)
	farFile := caddyfile(elsewhere.URL, fmt.Sprintf(secret, r.URL))
	if err := far.Load(farFile); err != nil {
		t.Fatal(err)
	}

	settings := redis.DefaultSettings()
	settings.URLs, settings.Capacity, settings.GroupExpiry = []string{store.URL}, 10_000, 157784760*time.Second
	emitter, err := redis.New(settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = emitter.Close(context.Background()) }()

	tr := &trouble{t: t, relay: r, redis: store, file: file}
	var ledgers []*ledger
	for i := range groups {
		ledgers = append(ledgers, &ledger{group: fmt.Sprint("job_events-", i)})
	}
	var g guests
	// play runs traffic for a time, with faults if troubled.
	play := func(length time.Duration, troubled bool) {
		var witnesses []*wstest.Raw
		var ends []<-chan error
		for _, l := range ledgers {
			raw, ended, err := witness(r.URL, l)
			if err != nil {
				t.Fatal(err)
			}
			witnesses, ends = append(witnesses, raw), append(ends, ended)
		}
		ctx, stop := context.WithTimeout(context.Background(), length)
		defer stop()
		sending, stopSending := context.WithCancel(context.Background())
		defer stopSending()
		var guests, events sync.WaitGroup
		events.Go(func() { emit(sending, emitter, ledgers, rate) })
		guests.Go(func() { shout(ctx, emitter) })
		for range crowd {
			guests.Go(func() { g.comeAndGo(ctx, []string{r.URL, near.URL}, groups) })
		}
		for i := range dawdlers {
			guests.Go(func() { g.dawdle(ctx, r.URL, fmt.Sprint(loud, "-", i%2), min(length/2, 10*time.Second)) })
		}
		if troubled {
			guests.Go(func() { tr.reload(ctx, scale(8*time.Second)) })
			guests.Go(func() { tr.swap(ctx, scale(13*time.Second)) })
			guests.Go(func() { tr.restartRedis(ctx, scale(45*time.Second)) })
			guests.Go(func() { tr.comeAndGo(ctx, near, nearFile, scale(29*time.Second), long) })
			guests.Go(func() { tr.comeAndGo(ctx, far, farFile, scale(37*time.Second), long) })
		}
		guests.Wait()
		testkit.Pause(nil, settle+time.Second) // a last quiet time
		stopSending()
		events.Wait()
		testkit.Pause(nil, time.Second) // for the last event; what is missing then is found out below
		for i, ended := range ends {
			select {
			case err := <-ended:
				t.Errorf("the witness of %s was cut off: %v", ledgers[i].group, err)
			default:
			}
			witnesses[i].Close()
		}
	}
	// rest waits until the relay is idle and dead nodes are removed.
	rest := func(what string, within time.Duration) (v vitals) {
		t.Helper()
		testkit.EventuallyWithin(t, within, what, func() (err error) {
			if v, err = measure(t, r, store); err != nil {
				return err
			}
			slices.Sort(v.keys)
			live := 0
			for _, k := range v.keys {
				switch {
				case strings.HasPrefix(k, "edgerelay:node:"):
					live++
				case strings.HasPrefix(k, "asgi:group:job_events-"), strings.HasPrefix(k,
					"asgispecific."), strings.HasPrefix(k, "edgerelay:bury:"):
					return fmt.Errorf("redis holds %q", v.keys)
				} // all else is the backplane's groups, or handled and goes with the next event
			}
			if v.connections != 0 || live != 2 {
				return fmt.Errorf("%d connections, %d nodes", v.connections, live)
			}
			return nil
		})
		return v
	}

	play(2*time.Second, false) // once through, so that what is made once is there
	before := rest("the relay at rest before", 20*time.Second)
	began := time.Now()
	play(length, true)
	patience := 20 * time.Second
	if long {
		patience = 90 * time.Second // the killed are buried within about a minute
	}
	after := rest("the relay at rest afterwards", patience)

	m, err := metrics(r)
	if err != nil {
		t.Fatal(err)
	}
	slow := int(m[`edgerelay_losses_total{cause="overrun"}`])
	var total account
	out := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, a account) {
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, a.published, a.delivered, a.plugin, a.refused,
			a.withRedis, a.full, a.unknown)
	}
	fmt.Fprintf(out, "group\tpublished\tdelivered\tby plugin\trefused\twith redis\tfull\tunknown\t\n")
	for _, l := range ledgers {
		a, faults := l.close(tr.outages)
		row(l.group, a)
		total.add(a)
		for _, f := range faults {
			t.Error(f)
		}
	}
	row("all", total)
	_ = out.Flush()
	fmt.Printf("\n%v: %d reloads, %d plugin swaps, %d redis restarts, %d neighbours ended; %d guests served, %d "+
		"turned away while a server was down, %d full queues of slow clients\n\n",
		time.Since(began).Round(time.Second), tr.reloads.Load(), tr.swaps.Load(), tr.restarts.Load(), tr.ends.Load(), g.served.Load(), g.failed.Load(), slow)
	fmt.Fprintf(out, "at rest\tgoroutines\tfiles\theap MiB\tresident MiB\tkeys\t\n")
	for _, v := range []struct {
		name string
		vitals
	}{{"before", before}, {"after", after}} {
		fmt.Fprintf(out, "%s\t%d\t%d\t%.1f\t%.1f\t%d\t\n", v.name, v.goroutines, v.files, mib(v.heap), mib(v.resident),
			len(v.keys))
	}
	_ = out.Flush()

	if total.unknown != 0 {
		t.Errorf("%d events are lost and nobody knows why", total.unknown)
	}
	if total.delivered == 0 || total.plugin == 0 || tr.reloads.Load() == 0 || tr.swaps.Load() == 0 ||
		tr.restarts.Load() == 0 || tr.ends.Load() == 0 || slow == 0 {
		t.Error("not everything has happened")
	}
	// Pooled connections to Redis and to peers come and go.
	if after.goroutines > before.goroutines+15 {
		t.Errorf("%d goroutines before, %d after", before.goroutines, after.goroutines)
		if stacks, err := get(r.Admin + "/debug/pprof/goroutine?debug=1"); err == nil {
			_, _ = io.WriteString(os.Stdout, stacks)
		}
	}
	if after.files > before.files+15 {
		t.Errorf("%d files before, %d after", before.files, after.files)
	}
	if after.heap > before.heap*5/4+8<<20 {
		t.Errorf("%.1f MiB of heap before, %.1f after", mib(before.heap), mib(after.heap))
	}
	if d := int(m[`edgerelay_plugin_verdicts_total{plugin="quiet",verdict="drop"}`]); d < total.plugin {
		t.Errorf("the plugin counts %d events that it dropped, of %d", d, total.plugin)
	}
}

package browser

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// offlineGroup is the group of the tests' page.
const offlineGroup = "jobs-status_changed"

// A browser whose network is off for a while gets what it missed, in order, and its page says so. OFFLINE is how long,
// 20s by `make soak`; without it, the network is off until some events have been published.
func TestClientMissesNothing(t *testing.T) {
	const settings = "auth none\n\t\thistory * {\n\t\tcount 100000\n\t\tsize 64MiB\n\t\t}\n\t\tchannel_layer "
	t.Run("memory", func(t *testing.T) {
		s := clientSiteWith(t, settings+"memory", "edgerelay\n\tedgerelay_demo")
		missNothing(t, s, func(n int) error {
			resp, err := http.Post(s.URL+"publish", "application/json",
				bytes.NewReader(fmt.Appendf(nil, `{"group": %q, "data": {"n": %d}}`, offlineGroup, n)))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("publish: %s", resp.Status)
			}
			return nil
		})
	})
	t.Run("redis", func(t *testing.T) {
		redis := peers.StartRedis(t)
		emitter := peers.StartEmitter(t, redis.URL)
		missNothing(t, clientSiteWith(t, settings+"redis "+redis.URL, "edgerelay"), func(n int) error {
			emitter.Send(peers.Event{Group: offlineGroup, Text: fmt.Sprintf(`{"n": %d}`, n)})
			return nil
		})
	})
}

// missNothing takes a page off the network while events are published.
func missNothing(t *testing.T, s *site, publish func(n int) error) {
	t.Helper()
	var off time.Duration
	if full := os.Getenv("OFFLINE"); full != "" {
		var err error
		if off, err = time.ParseDuration(full); err != nil {
			t.Fatal(err)
		}
	}
	s.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(s.URL+"client.html"))
	page.Wait(t, soon, `window.groups?.join() === "`+offlineGroup+`"`)
	e := startEmitting(t, 10*time.Millisecond, publish)
	defer e.stop()
	page.Wait(t, soon, `events.length >= 10`)
	page.Do(t, networkOff(true))
	before := e.sent.Load()
	began := time.Now()
	page.Wait(t, soon, `states.includes("waiting 1006")`)
	page.Script(t, `offline = events.length`)
	testkit.EventuallyWithin(t, time.Minute, "events are published while the network is off", func() error {
		if n := e.sent.Load() - before; n < 50 || time.Since(began) < off {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})
	if !page.Holds(t, `events.length === offline && client.state !== "open"`) {
		t.Fatal("the network was not off")
	}
	page.Do(t, networkOff(false))

	page.Wait(t, soon, `said.length > 0`)
	during := e.sent.Load()
	testkit.EventuallyWithin(t, soon, "events are published afterwards", func() error {
		if n := e.sent.Load() - during; n < 20 {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})
	all := e.stop()
	page.Wait(t, soon, fmt.Sprintf(`events.at(-1).n === %d`, all-1))
	if !page.Holds(t, fmt.Sprintf(`events.length === %d && events.every(({ n }, i) => n === i)`, all)) {
		got, err := chromedp.Run(page.Context, chromedp.Evaluate[string](`events.map(({ n }) => n).join(" ")`))
		t.Errorf("not each event once and in order: %s (%v)", got, err)
	}
	said, err := chromedp.Run(page.Context, chromedp.Evaluate[string](`said.join(", ")`))
	var missed int64
	if _, scan := fmt.Sscanf(said, "recovered "+offlineGroup+" %d", &missed); scan != nil || missed < 50 {
		t.Errorf("the page said %q (%v) after %d events without a network", said, err, during-before)
	}
	t.Logf("%s; %d events in all, the network off for %v", said, all, time.Since(began).Round(time.Second))
}

// emitting publishes numbered events, one after another.
type emitting struct {
	sent       atomic.Int64
	end, ended chan struct{}
	once       sync.Once
}

// startEmitting publishes an event each interval until stop.
func startEmitting(t *testing.T, interval time.Duration, publish func(n int) error) *emitting {
	t.Helper()
	e := &emitting{end: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(e.ended)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-e.end:
				return
			case <-tick.C:
			}
			if err := publish(int(e.sent.Load())); err != nil {
				t.Errorf("publishing: %v", err)
				return
			}
			e.sent.Add(1)
		}
	}()
	return e
}

// stop ends the emitter, if it has not, and returns the number of its events.
func (e *emitting) stop() int64 {
	e.once.Do(func() { close(e.end) })
	<-e.ended
	return e.sent.Load()
}

// networkOff switches the browser's network off or on, open websockets included.
func networkOff(off bool) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		conditions := network.Conditions{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}
		_, enable := cdp.Call(ctx, target, network.Enable, network.EnableParams{})
		_, emulate := cdp.Call(ctx, target, network.EmulateNetworkConditionsByRule,
			network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{&conditions}})
		_, tell := cdp.Call(ctx, target, network.OverrideNetworkState,
			network.OverrideNetworkStateParams{Offline: off, DownloadThroughput: -1, UploadThroughput: -1})
		return cmp.Or(enable, emulate, tell)
	})
}

// Daphne does not know the subprotocol, and Chromium then fails the handshake. The client connects without it at once,
// and after a lost connection it says that events may be missing.
func TestClientOnDaphne(t *testing.T) {
	redis := peers.StartRedis(t)
	controller := peers.StartController(t, redis.URL)
	emitter := peers.StartEmitter(t, redis.URL)
	login := controller.Login(peers.Admin)
	s := clientSiteWith(t, "channel_layer memory\n\t\tauth none",
		"reverse_proxy /websocket/* "+controller.Addr()+" {\n\t\theader_up Cookie \"awx_sessionid="+login.Session+"; csrftoken=of-this-page\"\n\t}")
	s.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(s.URL+"client.html"))
	page.Wait(t, soon, `window.groups?.join() === "jobs-status_changed"`)
	if !page.Holds(t, `sockets === 2 && states.join() === "open"`) {
		t.Error("the client did not try without the subprotocol at once")
	}
	emitter.Send(peers.Event{Group: "jobs-status_changed", Text: `{"group_name": "jobs", "status": "running"}`})
	page.Wait(t, soon, `events.length === 1 && events[0].status === "running"`)

	controller.Kill()
	page.Wait(t, soon, `states.includes("waiting 1006")`)
	controller.Restart()
	page.Script(t, `dispatchEvent(new Event("online"))`)
	page.Wait(t, soon, `again === 1 && said.join() === "gap jobs-status_changed no_history"`)
}

package browser

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// promptly is how long a page may be without events in any network: five seconds by `make matrix`. A machine that runs
// other tests at the same time says nothing about that, and gets as long as everywhere.
var promptly = func() time.Duration {
	if os.Getenv("MATRIX") == "full" {
		return 5 * time.Second
	}
	return soon
}()

// pace is the time between two events: so few that a proxy takes long to fill its buffers.
const pace = 250 * time.Millisecond

// tabs opens tabs in a browser.
type tabs interface{ Tab(testing.TB) Tab }

// TestDoors is the matrix of browsers and networks. Firefox takes part with MATRIX=full, by `make matrix`.
func TestDoors(t *testing.T) {
	n := startNetworks(t)
	inBrowser := func(name string, open func(t *testing.T) tabs) {
		t.Run(name, func(t *testing.T) {
			browser := open(t)
			t.Run("networks", func(t *testing.T) { testNetworks(t, n, name, browser) })
			t.Run("tabs", func(t *testing.T) { testTabs(t, n, browser) })
			t.Run("journey", func(t *testing.T) { testJourney(t, n, browser) })
		})
	}
	inBrowser("Chromium", func(t *testing.T) tabs { return n.chromium(t) })
	if os.Getenv("MATRIX") == "full" {
		inBrowser("Firefox", func(t *testing.T) tabs { return OpenFirefox(t) })
	}
}

// In each network, pages get events within five seconds from the start of the client, each once.
func testNetworks(t *testing.T, n *networks, name string, browser tabs) {
	e := startEmitting(t, pace, n.publish)
	defer e.stop()
	for _, c := range []struct{ network, options, door, protocol string }{
		{"plain", `{}`, "websocket", "http/1.1"},
		{"h1", `{}`, "websocket", "http/1.1"},
		{"h2", `{}`, "websocket", "h2"},
		{"h3", `{}`, "websocket", "h3"},
		{"h1", `{"doors":["stream"]}`, "stream", "http/1.1"},
		{"h2", `{"doors":["stream"]}`, "stream", "h2"},
		{"h3", `{"doors":["stream"]}`, "stream", "h3"},
		{"h2", `{"doors":["poll"]}`, "poll", "h2"},
		{"h3", `{"doors":["poll"]}`, "poll", "h3"},
		{"stripping", `{}`, "stream", "http/1.1"},
		{"buffering", `{}`, "poll", "http/1.1"},
	} {
		if name == "Firefox" && c.network == "h3" {
			continue // it needs a trusted certificate for HTTP/3
		}
		tab := browser.Tab(t)
		tab.Go(t, n.url[c.network]+"/doors.html?options="+url.QueryEscape(c.options))
		tab.Wait(t, soon, `events.length >= 3`)
		at := c.network + " " + c.options
		first, err := strconv.ParseFloat(tab.Value(t, `window.first`), 64)
		if err != nil || first > float64(promptly.Milliseconds()) {
			t.Errorf("%s: the first event came after %.0f ms (%v)", at, first, err)
		}
		tab.Wait(t, soon, fmt.Sprintf(`client.door === %q`, c.door)) // a busy browser may begin with another one
		if got := tab.Value(t, `[...protocols()].join()`); !strings.Contains(got, c.protocol) {
			t.Errorf("%s: the browser speaks %s, want %s", at, got, c.protocol)
		}
		if faults := tab.Value(t, `faults()`); faults != "0" {
			t.Errorf("%s: %s holes, doubles and gaps: %s", at, faults, tab.Value(t, `events + " " + gaps`))
		}
		t.Logf("%s: %s, first event after %.0f ms", at, c.door, first)
		tab.Value(t, `client.close()`)
	}
}

// Seven tabs behind a proxy without WebSockets leave each other, and the page, connections: browsers open six to a host
// over HTTP/1.1.
func testTabs(t *testing.T, n *networks, browser tabs) {
	e := startEmitting(t, pace, n.publish)
	defer e.stop()
	doors := map[string]int{}
	var tabs []Tab
	for range 7 {
		tab := browser.Tab(t)
		tab.Go(t, n.url["stripping"]+"/doors.html")
		tab.Wait(t, soon, `events.length >= 3`)
		tabs = append(tabs, tab)
	}
	for _, tab := range tabs {
		tab.Value(t, `(window.before = events.length)`)
	}
	for i, tab := range tabs {
		tab.Wait(t, promptly, `events.length > before + 3`)
		if faults := tab.Value(t, `faults()`); faults != "0" {
			t.Errorf("tab %d: %s holes, doubles and gaps: %s", i, faults,
				tab.Value(t, `events + " " + gaps + " " + doors + " " + states`))
		}
		doors[tab.Value(t, `client.door`)]++
	}
	if doors["stream"] != 4 || doors["poll"] != 3 {
		t.Errorf("doors: %v, want 4 streams and 3 polls", doors)
	}
	tabs[0].Value(t, `fetch("doors.html").then(() => (window.fetched = true))`)
	tabs[0].Wait(t, promptly, `window.fetched`)
	for _, tab := range tabs {
		tab.Value(t, `client.close()`)
	}
}

// A page goes from network to network while events flow: it has each event once and in order, and is never without
// events for more than five seconds.
func testJourney(t *testing.T, n *networks, browser tabs) {
	host := func(network string) string { return strings.TrimPrefix(n.url[network], "http://") }
	way := testkit.StartProxy(t, host("plain"))
	e := startEmitting(t, pace, n.publish)
	defer e.stop()
	tab := browser.Tab(t)
	tab.Go(t, "http://"+way.Addr+`/doors.html?options=`+url.QueryEscape(`{"comeback":500,"stable":500}`))
	tab.Wait(t, soon, `events.length >= 3`)
	var slowest time.Duration
	for _, step := range []struct {
		network, door string
		cut           bool
	}{
		{"stripping", "stream", true},
		{"buffering", "poll", true},
		{"stripping", "stream", false},
		{"plain", "websocket", false},
		{"buffering", "poll", true},
		{"plain", "websocket", true},
		{"buffering", "poll", true},
		{"stripping", "stream", true},
	} {
		way.Redirect(host(step.network))
		began := time.Now()
		if step.cut {
			way.Cut()
		}
		sent := e.sent.Load()
		tab.Wait(t, soon, fmt.Sprintf(`events.at(-1) > %d`, sent))
		took := time.Since(began)
		slowest = max(slowest, took)
		if took > promptly {
			t.Errorf("to %s: no event for %v; %s", step.network, took, tab.Value(t, `states.join(", ")`))
		}
		tab.Wait(t, soon, fmt.Sprintf(`client.door === %q`, step.door))
	}
	all := e.stop()
	tab.Wait(t, soon, fmt.Sprintf(`events.at(-1) === %d`, all-1))
	if faults := tab.Value(t, `faults()`); faults != "0" {
		t.Errorf("%s holes, doubles and gaps: %s", faults, tab.Value(t, `events + " " + gaps`))
	}
	t.Logf("%d events by %s; at most %v without any", all, tab.Value(t, `doors.join(", ")`), slowest)
	tab.Value(t, `client.close()`)
}

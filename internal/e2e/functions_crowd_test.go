package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// Clients of a function disconnect all at once, twice, and are drained at last. The function learns of the end of each,
// or it is counted that the function was too busy; meanwhile, other clients get their events. No goroutine and no
// memory stays.
func TestFunctionClientsDisconnectAtOnce(t *testing.T) {
	clients := 300
	if os.Getenv("EDGERELAY_FUNCTIONS") == "full" {
		clients = 10_000
	}
	config := routesOn("memory\nlimits {\nconnections_per_user 0\nconnections_per_address 0\n}\ndrain 100ms\n"+
		plugin("f", guest(t, "function"), "grant shared alarms", "fetch https://example.com", "join room_*",
			"publish room_* closed results alarms"),
		"route /ws/{room}/ {\nfunction f\n}\nroute /watch/ {\ngroups marks\n}\n")
	c := &leavingCrowd{t: t, relay: peers.StartRelay(t, config), clients: clients}
	var err error
	if c.watcher, err = dialRoute(c.relay, "/watch/"); err != nil {
		t.Fatal(err)
	}
	c.gather()
	c.cut()
	before := c.state() // tables have grown to their size
	c.gather()
	c.cut()
	after := c.state()
	testkit.Eventually(t, "no goroutine stays", func() error {
		if after = c.state(); after.goroutines > before.goroutines+10 {
			return fmt.Errorf("%.0f goroutines, %.0f before", after.goroutines, before.goroutines)
		}
		return nil
	})
	if more := after.heap - before.heap; more > 4<<20+256*float64(clients) {
		t.Errorf("%.0f bytes stay of %d clients", more, clients)
	}
	c.gather()
	if status, text := call(t, http.MethodPost, c.relay.Admin+"/edgerelay/drain", nil); status != http.StatusAccepted {
		t.Fatal(status, text)
	}
	if err := each(clients, func(i int) error {
		_, err := c.open[i].Next(testkit.Patience)
		var closed wstest.ClosedError
		if !errors.As(err, &closed) || closed.Code != 1012 {
			return fmt.Errorf("client %d: %w, want the close code 1012", i, err)
		}
		c.open[i].Close()
		return nil
	}); err != nil {
		t.Error(err)
	}
	c.accounted()
	t.Logf("%d clients, three times: %.0f calls were not made because the function was busy; heap %.1f MiB before, %.1f after",
		clients, c.metric(`edgerelay_plugin_calls_busy_total{plugin="f"}`), before.heap/(1<<20), after.heap/(1<<20))
}

// leavingCrowd is clients of a function that leave.
type leavingCrowd struct {
	t       *testing.T
	relay   *peers.Relay
	clients int
	watcher *routeClient
	open    []*wstest.Raw
	came    int // clients so far
	marks   int
}

// gather connects all clients.
func (c *leavingCrowd) gather() {
	c.t.Helper()
	c.open = make([]*wstest.Raw, c.clients)
	if err := each(c.clients, func(i int) (err error) {
		c.open[i], err = dialFunction(c.relay, "room_"+strconv.Itoa(i/10))
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	c.came += c.clients
}

// cut resets all connections, while a group of other clients goes on.
func (c *leavingCrowd) cut() {
	c.t.Helper()
	for _, conn := range c.open {
		if tcp, ok := conn.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
	began, worst := time.Now(), time.Duration(0)
	for range 20 {
		sent := time.Now()
		publishHTTP(c.t, c.relay, "marks", "1")
		c.marks++
		testkit.Eventually(c.t, "an event while clients leave", func() bool {
			c.watcher.mu.Lock()
			defer c.watcher.mu.Unlock()
			return len(c.watcher.odd) == c.marks
		})
		worst = max(worst, time.Since(sent))
	}
	c.accounted()
	c.t.Logf("%d clients were gone after %v; an event took %v meanwhile at most", c.clients, time.Since(began), worst)
}

// accounted waits until on_connect and on_close of all clients so far have run, or were counted as not made.
func (c *leavingCrowd) accounted() {
	c.t.Helper()
	testkit.EventuallyWithin(c.t, testkit.Scale(time.Minute), "on_close of each client", func() error {
		calls := c.metric(`edgerelay_plugin_calls_total{plugin="f"}`)
		busy := c.metric(`edgerelay_plugin_calls_busy_total{plugin="f"}`)
		if want := float64(2 * c.came); calls+busy != want {
			return fmt.Errorf("%.0f calls and %.0f that were not made, want %.0f in all", calls, busy, want)
		}
		return nil
	})
}

// relayState is what a process needs.
type relayState struct{ goroutines, heap float64 }

// state returns what the relay needs after a garbage collection.
func (c *leavingCrowd) state() relayState {
	c.t.Helper()
	heap, _, err := c.relay.Memory()
	if err != nil {
		c.t.Fatal(err)
	}
	return relayState{c.metric("go_goroutines"), float64(heap)}
}

// metric returns the value of a metric.
func (c *leavingCrowd) metric(name string) float64 {
	c.t.Helper()
	for line := range strings.Lines(fetch(c.t, c.relay.Admin+"/metrics")) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return value
		}
	}
	c.t.Fatalf("no metric %s", name)
	return 0
}

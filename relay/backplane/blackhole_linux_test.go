package backplane_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	lines "github.com/edgerelay/edgerelay/internal/mesh/wire"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// wired is two nodes in network namespaces of their own, so that packets between their kernels pass a switch.
type wired struct {
	s              *lines.Switch
	dialer, dialed *node
	log            *testkit.Buffer // of the dialer
}

// The ports of the switch.
const (
	portDialer = "a"
	portDialed = "b"
)

func newWired(t *testing.T) *wired {
	t.Helper()
	lines.Need(t)
	w := &wired{s: lines.NewSwitch(1)}
	t.Cleanup(w.s.Close)
	var spaces [2]*lines.Namespace
	for i, port := range []string{portDialer, portDialed} {
		ns, err := lines.NewNamespace("plane" + port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ns.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := ns.Join(w.s, port, fmt.Sprintf("10.0.0.%d/24", i+1)); err != nil {
			t.Fatal(err)
		}
		spaces[i] = ns
	}
	var listener net.Listener
	if err := spaces[1].Do(func() (err error) {
		listener, err = net.Listen("tcp", "10.0.0.2:8000")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	layer := memory.NewLayer()
	w.dialed = newNodeBehind(t, layer.Broker(), listener)
	w.dialed.layer = layer
	w.dialer = newNode(t, memory.NewLayer())
	w.dialer.prepare = func(b *backplane.Backplane) { b.DialThrough(spaces[0].Do) }
	defaults := func(s *backplane.Settings) { s.Retry, s.Ping, s.Silence = 0, 0, 0 }
	w.dialed.start(defaults)
	w.log = w.dialer.start(defaults, peersOf(w.dialed.server.URL))
	w.dialer.awaitSources(1)
	w.dialed.awaitSources(1)
	return w
}

// incompressible returns a text with a number and bytes that no compressor makes shorter.
func incompressible(n, size int) string {
	b := make([]byte, size/2)
	_, _ = rand.Read(b)
	return fmt.Sprintf("job-1 %d %s", n, hex.EncodeToString(b))
}

// The network swallows large packets and says nothing: new links with smaller packets are made until everything passes.
func TestLargePacketsVanish(t *testing.T) {
	for _, c := range []struct {
		name       string
		up, down   bool // the directions in which packets vanish; up is from the dialing node
		fromDialer bool // the dialing node emits
		counter    bool // the other node emits as well, all the time, small events
	}{
		{"both ways", true, true, false, false},
		{"from the dialer", true, false, true, false},
		{"from the dialer, which hears events all the time", true, false, true, true},
		{"to the dialer", false, true, false, false},
		{"to the dialer, which emits all the time", false, true, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWired(t)
			from, to := w.dialed, w.dialer
			if c.fromDialer {
				from, to = w.dialer, w.dialed
			}
			got, other := to.client("job-1"), from.client("job-2")
			to.awaitConfirmed(from)
			from.awaitConfirmed(to)
			small := lines.Rule{MTU: 600}
			if c.up {
				w.s.Set(portDialer, portDialed, small)
			}
			if c.down {
				w.s.Set(portDialed, portDialer, small)
			}
			began := time.Now()
			want := map[string]bool{}
			for i := range 20 {
				text := incompressible(i, 5<<10)
				want[text] = true
				from.emit("job-1", text)
			}
			countered := map[string]bool{}
			testkit.Eventually(t, "all events over small packets", func() error {
				if c.counter {
					text := fmt.Sprint("counter ", len(countered))
					countered[text] = true
					to.emit("job-2", text)
				}
				if n := got.count(); n < len(want) {
					return fmt.Errorf("%d of %d events", n, len(want))
				}
				return nil
			})
			t.Logf("everything arrived %v after the fault", time.Since(began).Round(100*time.Millisecond))
			got.exactly(t, want)
			other.exactly(t, countered)
			lowered := 0
			for _, p := range w.dialer.plane.Peers() {
				if p.State == backplane.StateConnected {
					lowered = p.SegmentBytes
				}
			}
			if lowered != 536 || !strings.Contains(w.log.String(), "trying smaller packets") {
				t.Errorf("segments of %d bytes, want 536, and a line in the log", lowered)
			}
		})
	}
}

// A line with long round trips, and one that is full all the time, are slow and not dead: no second link is made.
func TestSlowLinesDoNotStall(t *testing.T) {
	for name, rule := range map[string]lines.Rule{
		"round trips of 500 ms": {Delay: 250 * time.Millisecond},
		"1 Mbit/s":              {Rate: 1_000_000},
		"both":                  {Rate: 1_000_000, Delay: 250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWired(t)
			got := w.dialer.client("job-1")
			w.dialer.awaitConfirmed(w.dialed)
			w.s.SetBoth(portDialer, portDialed, rule)
			count := 0
			for end := time.Now().Add(8 * time.Second); time.Now().Before(end); { // about 2 Mbit/s
				w.dialed.emit("job-1", incompressible(count, 10<<10))
				count++
				testkit.Pause(nil, 40*time.Millisecond)
			}
			if got.count() == 0 {
				t.Error("nothing arrives")
			}
			if log := w.log.String(); strings.Contains(log, "stalled") || strings.Count(log, "peer connected") != 1 {
				t.Errorf("the link counts as stalled after %d events", count)
			}
		})
	}
}

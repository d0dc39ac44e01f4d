package backplane_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// overTLS makes a web node that is dialed over TLS, and the option of a node that trusts it.
func overTLS(t *testing.T) (*webPeer, option) {
	w, server := startWebPeer(t, (*httptest.Server).StartTLS)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return w, func(s *backplane.Settings) { s.TLS = &tls.Config{RootCAs: roots} }
}

// The same over TLS, where the kernel counts bytes that the node cannot see: the events of a break come, in order.
func TestWebNodeOverTLSGetsTheEventsOfABreak(t *testing.T) {
	leakCheck(t)
	w, trusting := overTLS(t)
	n := newNode(t, memory.NewLayer())
	n.start(peersOf(w.url), trusting)
	n.awaitGroups(2)
	n.emitEvents(0, 10, 100)
	w.exactly(10)
	testkit.Eventually(t, "an answer to what was sent", func() error { // the kernel has nothing in flight
		if p := n.plane.Peers()[0]; p.RTT == 0 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	w.away.Store(true)
	w.kill()
	n.awaitNoPeer()
	n.emitEvents(10, 200, 100)
	w.away.Store(false)
	w.exactly(200)
	if s := n.plane.Stats(); s.Dropped["link_lost"]+s.Dropped["queue_full"]+s.Dropped["expired"] != 0 || s.EventsOut != 200 {
		t.Errorf("dropped: %v; %d events sent", s.Dropped, s.EventsOut)
	}
}

// A link over TLS times out while its bytes are in both kernels. Encrypted bytes are more than those of the events, so
// that some events count as lost that have arrived. None comes twice or out of order, and each that is missing is
// counted.
func TestWebNodeOverTLSThatStallsGetsNoEventTwice(t *testing.T) {
	leakCheck(t)
	w, trusting := overTLS(t)
	n := newNode(t, memory.NewLayer())
	const count = 12_000
	lost := stallWebNode(t, w, n, count, trusting)
	last := -1
	for _, e := range w.events() {
		number, err := strconv.Atoi(strings.TrimPrefix(e, "event "))
		if err != nil || number <= last {
			t.Fatalf("%q after event %d (%v)", e, last, err)
		}
		last = number
	}
	if out := n.plane.Stats().EventsOut; out > count || out < count-lost {
		t.Errorf("%d events count as sent and %d as lost, of %d", out, lost, count)
	}
}

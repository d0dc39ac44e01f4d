package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// meshNode is a relay in this process. It keeps its address when it is restarted.
type meshNode struct {
	t        *testing.T
	layer    *memory.Layer
	hub      *hub.Hub
	plane    atomic.Pointer[backplane.Backplane]
	server   *httptest.Server
	url      string
	settings backplane.Settings
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newMeshNode(t *testing.T, layer *memory.Layer, address string) *meshNode {
	t.Helper()
	n := &meshNode{t: t, layer: layer}
	n.listen(address)
	n.settings = backplane.Settings{
		Secrets: backplane.Secrets{"secret"}, Name: n.server.Listener.Addr().String(),
		Retry: 200 * time.Millisecond, ProbeWait: 100 * time.Millisecond,
	}
	return n
}

func (n *meshNode) listen(address string) {
	n.t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		n.t.Fatal(err)
	}
	n.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		endpoint, ok := backplane.Endpoint(r.URL.Path)
		if plane := n.plane.Load(); ok && plane != nil {
			if status := plane.Serve(w, r, endpoint); status != 0 {
				http.Error(w, http.StatusText(status), status)
			}
			return
		}
		http.NotFound(w, r)
	}))
	_ = n.server.Listener.Close()
	n.server.Listener = listener
	n.server.Start()
	n.url = n.server.URL
}

func (n *meshNode) start(discoveries ...backplane.Discovery) {
	n.t.Helper()
	n.hub = hub.New(quiet)
	if err := n.hub.SetBroker(context.Background(), n.layer.Broker()); err != nil {
		n.t.Fatal(err)
	}
	if discoveries != nil {
		n.settings.Discoveries = discoveries
	}
	plane, err := backplane.New(n.hub, n.settings, quiet)
	if err != nil {
		n.t.Fatal(err)
	}
	n.plane.Store(plane)
	plane.Start()
	n.t.Cleanup(func() { n.stop(plane) })
}

func (n *meshNode) stop(plane *backplane.Backplane) {
	if !n.plane.CompareAndSwap(plane, nil) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = plane.Close(ctx)
	_ = n.hub.Close(ctx)
	n.server.Close()
}

// list is the discovery of nodes that an operator has named.
func list(urls ...string) backplane.Discovery {
	var s backplane.Static
	for _, u := range urls {
		s = append(s, backplane.Target{URL: u, Dialect: backplane.Auto})
	}
	return s
}

// startPython starts a server that behaves like a Python node of one generation.
func startPython(t *testing.T, endpoint string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, endpoint) {
			http.NotFound(w, r)
			return
		}
		if _, _, err := (backplane.Secrets{"secret"}).Verify(r.Header.Get("secret"), time.Now()); err != nil {
			w.WriteHeader(http.StatusForbidden) // a relay's challenge
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// scrape gathers the metrics of a node, with names in place of addresses: series and values.
func (n *meshNode) scrape(names *strings.Replacer) map[string]float64 {
	n.t.Helper()
	plane := n.plane.Load()
	if plane == nil {
		return nil // the node is down, and Prometheus gets no answer
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(planeCollector{plane})
	families, err := registry.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	series := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := ""
			for _, l := range m.Label {
				labels += fmt.Sprintf(",%s=%q", l.GetName(), names.Replace(l.GetValue()))
			}
			value := m.GetGauge().GetValue()
			if m.Counter != nil {
				value = m.Counter.GetValue()
			}
			series[f.GetName()+"{"+labels] = value
		}
	}
	return series
}

type planeCollector struct{ plane *backplane.Backplane }

func (planeCollector) Describe(chan<- *prometheus.Desc) {}

func (c planeCollector) Collect(ch chan<- prometheus.Metric) { collectBackplane(ch, c.plane) }

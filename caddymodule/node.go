package caddymodule

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

const (
	nodeKey = "node"
	// moveWait is how long a change of the channel layer may hold up a reload.
	moveWait = 10 * time.Second
	// closeWait is how long clients have to take their leave when the relay stops.
	closeWait = 5 * time.Second
	// startWait is how long a handshake waits for the first configuration to be in force.
	startWait = 10 * time.Second
	// leaveWait is how long peers have to take what waits for them then.
	leaveWait = 3 * time.Second
)

// nodes holds the one node of this process. It lives as long as any configuration uses it, so websockets survive reloads.
var nodes = caddy.NewUsagePool()

// node is what outlives configurations: the hub with its sessions, and the channel layer.
type node struct {
	hub *hub.Hub
	log *slog.Logger
	out *logOutlet
	// close ends the node; later calls wait for the first.
	close func() error
	// frameSize is the limit in force; one function for all connections.
	frameSize func() int
	poller    *netpoll.Poller // of all clients' connections
	checkTLS  func() error

	directTLSFailed atomic.Bool // logged

	rejected [rejections]atomic.Uint64 // handshakes, by reason
	clients  awx.Shared
	logged   *logMeter
	events   eventTracer

	crowd   crowd
	waiting waitingConns

	unknownAddress atomic.Bool // it has been logged that clients' addresses are unknown

	awxMetrics atomic.Bool // in force
	awxPeers   *awxPeers

	started   time.Time
	monitor   *monitor
	overviews overviews

	consoleTails consoleTails
	examining    sync.Mutex // held during an examination; one at a time is enough

	mu         sync.Mutex
	attached   []*nodeConfig // the last one is in force
	configured chan struct{} // closed once there has been one
	place      string        // of the open broker

	stopPace    atomic.Pointer[hub.Pace]            // at which clients leave at the end; nil: at once
	plane       atomic.Pointer[backplane.Backplane] // nil if none is configured
	planeConfig *planeConfig                        // in force; guarded by mu
	plugins     atomic.Pointer[pluginHost]          // nil until a configuration has plugins
}

func newNode() (caddy.Destructor, error) {
	out := &logOutlet{}
	out.to.Store(slog.Default())
	limited := newThrottled(out)
	log := slog.New(limited)
	n := &node{hub: hub.New(log), log: log, out: out, logged: limited.book, awxPeers: newAWXPeers(), started: time.Now(), configured: make(chan struct{})}
	n.clients.Log = log
	n.hub.SetProtocol(awx.Protocol{})
	n.monitor = newMonitor(n.hub, func(now time.Time) { n.consoleTails.closeIdle(now.Add(-consoleTailIdle)) })
	n.close = sync.OnceValue(n.shutDown)
	n.frameSize = func() int { return n.hub.Limits().FrameSize }
	n.poller, n.checkTLS = netpoll.New(), netpoll.CheckTLS
	return n, nil
}

// wsOptions are the options of a client's websocket that begins with a greeting.
func (n *node) wsOptions(greeting []byte) ws.Options {
	return ws.Options{Poller: n.poller, MessageLimit: n.frameSize, Greeting: greeting}
}

// current returns the node of this process, nil if no configuration has one.
func current() *node {
	var n *node
	nodes.Range(func(_, value any) bool {
		n, _ = value.(*node)
		return n == nil
	})
	return n
}

// attach puts c in force.
func (n *node) attach(c *nodeConfig) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.applyPlugins(c); err != nil { // first: if they are refused, nothing has changed
		return err
	}
	if err := n.apply(c); err != nil {
		if last := len(n.attached) - 1; last >= 0 { // some of it may be in force already
			err = errors.Join(err, n.apply(n.attached[last]))
			n.restorePlugins(n.attached[last])
		}
		return err
	}
	n.attached = append(n.attached, c)
	select {
	case <-n.configured:
	default:
		close(n.configured)
	}
	c.tellFiles()
	return nil
}

// awaitConfig waits for the first configuration to be in force. Caddy starts apps in no order, and the HTTP server may be up before
// there is an authorizer, which would deny the first clients their groups.
func (n *node) awaitConfig(ctx context.Context) error {
	select {
	case <-n.configured:
		return nil
	default:
	}
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case <-n.configured:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("no configuration is in force after " + startWait.String())
	}
}

// logFirst sends log records to a logger until a configuration is in force: what is said before that belongs into
// Caddy's log, too.
func (n *node) logFirst(log *slog.Logger) {
	if !n.hasConfig() {
		n.out.to.Store(log)
	}
}

// hasConfig tells whether a configuration is in force.
func (n *node) hasConfig() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.attached) > 0
}

// detach withdraws c.
func (n *node) detach(c *nodeConfig) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, other := range n.attached {
		if other != c {
			continue
		}
		last := i == len(n.attached)-1
		n.attached = append(n.attached[:i:i], n.attached[i+1:]...)
		if last && len(n.attached) > 0 {
			now := n.attached[len(n.attached)-1]
			n.restorePlugins(now)
			return n.apply(now)
		}
		return nil
	}
	return nil
}

// apply makes the hub follow c. n.mu is held.
func (n *node) apply(c *nodeConfig) error {
	// First of all, for the site may be served already: whoever it lets in is asked about by the same.
	n.hub.SetLimits(c.Limits)
	n.hub.SetRecheckGrace(c.RecheckGrace)
	n.hub.SetAuthorizer(c.Authorizer, c.Recheck)
	if r, ok := c.Layer.(Resyncer); ok {
		n.hub.SetResync(r.ResyncText())
	}
	if place := c.Layer.Place(); place != n.place {
		broker, err := c.Layer.Open(n.log)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), moveWait)
		defer cancel()
		if err := n.hub.SetBroker(ctx, broker); err != nil {
			if n.hub.Broker() != broker {
				return err
			}
			n.log.Warn("the former channel layer could not be left in order", "error", err)
		}
		n.place = place
	} else if err := c.Layer.Apply(n.hub.Broker()); err != nil {
		return err
	}
	n.out.to.Store(c.Log)
	n.stopPace.Store(c.StopPace)
	n.hub.Trace(c.TraceEvents, n.events.report)
	n.awxMetrics.Store(c.AWXMetrics)
	n.applyDirectTLS(c.DirectTLS)
	return n.applyBackplane(c.Backplane)
}

// applyDirectTLS applies the setting direct_tls. A self-test that fails is logged once per process.
func (n *node) applyDirectTLS(on bool) {
	n.poller.SetDirectTLS(on)
	if !on {
		return
	}
	if err := n.checkTLS(); err != nil && !n.directTLSFailed.Swap(true) {
		n.log.Warn("direct TLS unavailable; idle connections need more memory",
			"error", err, "remedy", "build with a Go release that this version of edgerelay supports")
	}
}

// Handle implements [caddyevents.Handler]: when the process is about to end, clients are told at once. Caddy's HTTP
// server would hold Destruct up for as long as requests are under way.
func (n *node) Handle(context.Context, caddy.Event) error {
	if caddy.Exiting() {
		go func() { _ = n.close() }()
	}
	return nil
}

// Destruct closes all websockets, at the pace of the configuration that was in force last, and leaves the channel layer.
func (n *node) Destruct() error { return n.close() }

// shutDown does the work of close, which runs it once.
func (n *node) shutDown() error {
	n.drainForStop()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	n.monitor.stop()
	began, open := time.Now(), n.hub.Stats().Sessions
	err := n.hub.Close(ctx)
	n.poller.Close()
	if plane := n.plane.Load(); plane != nil { // after the hub: what it still had is on its way to peers
		leaving, cancel := context.WithTimeout(context.Background(), leaveWait)
		defer cancel()
		if err := plane.Close(leaving); err != nil {
			n.log.Warn("the backplane could not be left in order; peers notice by themselves", "error", err)
		}
	}
	if h := n.plugins.Load(); h != nil {
		err = errors.Join(err, h.close())
	}
	if open > 0 {
		n.log.Info("all websockets are closed", "count", open, "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// register adds the node's metrics to a configuration's registry, which is new with each.
func (n *node) register(r *prometheus.Registry) {
	if r == nil {
		return
	}
	for _, c := range []prometheus.Collector{collector{n}, awxCollector{n}} {
		if err := r.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			n.log.Error("metrics are not available", "error", err)
		}
	}
}

// logOutlet passes log records to the logger of the configuration in force.
type logOutlet struct {
	to    atomic.Pointer[slog.Logger]
	from  *logOutlet
	attrs []slog.Attr
}

func (o *logOutlet) target() slog.Handler {
	for o.from != nil {
		o = o.from
	}
	return o.to.Load().Handler()
}

// Enabled implements [slog.Handler].
func (o *logOutlet) Enabled(ctx context.Context, level slog.Level) bool {
	return o.target().Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (o *logOutlet) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(o.attrs...)
	return o.target().Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (o *logOutlet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logOutlet{from: o, attrs: append(o.attrs[:len(o.attrs):len(o.attrs)], attrs...)}
}

// WithGroup implements [slog.Handler]; groups are not used here.
func (o *logOutlet) WithGroup(string) slog.Handler { return o }

package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

const (
	poolKey = "node"
	// moveWait is how long a change of the channel layer may hold up a reload.
	switchTimeout = 10 * time.Second
	// closeWait is how long clients have to take their leave when the relay stops.
	closeTimeout = 5 * time.Second
	// startWait is how long a handshake waits for the first configuration to be in force.
	configTimeout = 10 * time.Second
	// leaveWait is how long peers have to take what waits for them then.
	backplaneCloseTimeout = 3 * time.Second
)

// pool holds the one node of this process. The node lives as long as any configuration uses it, so that connections
// survive reloads.
var pool = caddy.NewUsagePool()

// Acquire returns the node of this process and creates it on first use. Each caller ends its use with [Release].
func Acquire() (*Node, error) {
	value, _, err := pool.LoadOrNew(poolKey, newNode)
	if err != nil {
		return nil, err
	}
	return value.(*Node), nil
}

// Release ends a use that [Acquire] began. The last one closes the node, with all connections.
func Release() error {
	_, err := pool.Delete(poolKey)
	return err
}

// Node is what outlives configurations: the hub with its sessions, and the channel layer.
type Node struct {
	Hub       *hub.Hub
	Log       *slog.Logger
	logOutlet *logOutlet
	// close ends the node; later calls wait for the first.
	close func() error
	// frameSize is the limit in force; one function for all connections.
	frameSize func() int

	Rejections [reject.ReasonCount]atomic.Uint64 // handshakes, by reason
	AWX        awx.Shared
	throttle   *logThrottle

	descriptors descriptorGuard
	conns       requestlessConns

	unknownAddress atomic.Bool // it has been logged that clients' addresses are unknown

	AWXMetrics atomic.Bool // in force

	Started time.Time
	Monitor *Monitor

	extensionsMu sync.Mutex
	extensions   map[any]any

	poller   *netpoll.Poller // of all clients' connections
	checkTLS func() error

	directTLSFailed atomic.Bool // logged

	mu         sync.Mutex
	attached   []*Config     // the last one is in force
	configured chan struct{} // closed once there has been one
	layerPlace string        // of the open broker

	DrainPace       atomic.Pointer[hub.Pace]            // at which clients leave at the end; nil: at once
	Backplane       atomic.Pointer[backplane.Backplane] // nil if none is configured
	backplaneConfig *Backplane                          // in force; guarded by mu
	Plugins         atomic.Pointer[pluginhost.Host]     // nil until a configuration has plugins
}

func newNode() (caddy.Destructor, error) {
	out := &logOutlet{}
	out.to.Store(slog.Default())
	limited := newThrottledHandler(out)
	log := slog.New(limited)
	n := &Node{
		Hub: hub.New(log), Log: log, logOutlet: out, throttle: limited.throttle, Started: time.Now(), configured: make(chan struct{}),
	}
	n.AWX.Log = log
	n.Hub.SetProtocol(awx.Protocol{})
	n.Monitor = newMonitor(n.Hub)
	n.poller, n.checkTLS = netpoll.New(), netpoll.CheckTLS
	n.close = sync.OnceValue(n.shutDown)
	n.frameSize = func() int { return n.Hub.Limits().FrameSize }
	return n, nil
}

// current returns the node of this process, nil if no configuration has one.
func Current() *Node {
	var n *Node
	pool.Range(func(_, value any) bool {
		n, _ = value.(*Node)
		return n == nil
	})
	return n
}

// attach puts c in force.
func (n *Node) Attach(c *Config) error {
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
	c.logDescriptorLimit()
	return nil
}

// awaitConfig waits for the first configuration to be in force. Caddy starts apps in no order, and the HTTP server may be up before
// there is an authorizer, which would deny the first clients their groups.
// See docs/decisions/caddy.md#why-does-a-handshake-wait-for-the-first-configuration
func (n *Node) AwaitConfig(ctx context.Context) error {
	select {
	case <-n.configured:
		return nil
	default:
	}
	timer := time.NewTimer(configTimeout)
	defer timer.Stop()
	select {
	case <-n.configured:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("no configuration is in force after " + configTimeout.String())
	}
}

// logFirst sends log records to a logger until a configuration is in force: what is said before that belongs into
// Caddy's log, too.
func (n *Node) SetInitialLogger(log *slog.Logger) {
	if !n.HasConfig() {
		n.logOutlet.to.Store(log)
	}
}

// hasConfig tells whether a configuration is in force.
func (n *Node) HasConfig() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.attached) > 0
}

// detach withdraws c.
func (n *Node) Detach(c *Config) error {
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

// Current returns the configuration in force, nil if there is none.
func (n *Node) Current() *Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.attached) == 0 {
		return nil
	}
	return n.attached[len(n.attached)-1]
}

// apply makes the hub follow c. n.mu is held.
func (n *Node) apply(c *Config) error {
	// First of all, for the site may be served already: whoever it lets in is asked about by the same.
	n.Hub.SetLimits(c.Limits)
	n.Hub.SetRecheckGrace(c.RecheckGrace)
	n.Hub.SetAuthorizer(c.Authorizer, c.Recheck)
	resync := "" // a layer without the setting ends that of the layer before
	if r, ok := c.Layer.(guest.Resyncer); ok {
		resync = r.ResyncText()
	}
	n.Hub.SetResync(resync)
	if place := c.Layer.Place(); place != n.layerPlace {
		broker, err := c.Layer.Open(n.Log)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), switchTimeout)
		defer cancel()
		if err := n.Hub.SetBroker(ctx, broker); err != nil {
			if n.Hub.Broker() != broker {
				return err
			}
			n.Log.Warn("the former channel layer could not be left in order", "error", err)
		}
		n.layerPlace = place
	} else if err := c.Layer.Apply(n.Hub.Broker()); err != nil {
		return err
	}
	n.logOutlet.to.Store(c.Log)
	n.DrainPace.Store(c.DrainPace)
	n.Hub.Trace(c.TraceEvents, c.ReportJourney)
	n.AWXMetrics.Store(c.AWXMetrics)
	n.applyDirectTLS(c.DirectTLS)
	return n.applyBackplane(c.Backplane)
}

// applyDirectTLS applies the setting direct_tls. A self-test that fails is logged once per process.
func (n *Node) applyDirectTLS(on bool) {
	n.poller.SetDirectTLS(on)
	if !on {
		return
	}
	if err := n.checkTLS(); err != nil && !n.directTLSFailed.Swap(true) {
		n.Log.Warn("direct TLS unavailable; idle connections need more memory",
			"error", err, "remedy", "build with a Go release that this version of edgerelay supports")
	}
}

// WSOptions returns the options of a client's websocket that begins with a greeting.
func (n *Node) WSOptions(greeting []byte) ws.Options {
	return ws.Options{Poller: n.poller, MessageLimit: n.frameSize, Greeting: greeting}
}

// Handle implements [caddyevents.Handler]: when the process is about to end, clients are told at once. Caddy's HTTP
// server would hold Destruct up for as long as requests are under way.
// See docs/decisions/caddy.md#why-are-clients-told-of-a-stop-on-the-stopping-event
func (n *Node) Handle(context.Context, caddy.Event) error {
	if caddy.Exiting() {
		go func() { _ = n.close() }()
	}
	return nil
}

// Destruct closes all websockets, at the pace of the configuration that was in force last, and leaves the channel layer.
func (n *Node) Destruct() error { return n.close() }

// shutDown does the work of close, which runs it once.
func (n *Node) shutDown() error {
	n.drainBeforeClose()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	n.Monitor.stop()
	began, open := time.Now(), n.Hub.Stats().Sessions
	err := n.Hub.Close(ctx)
	n.poller.Close()
	if plane := n.Backplane.Load(); plane != nil { // after the hub: what it still had is on its way to peers
		leaving, cancel := context.WithTimeout(context.Background(), backplaneCloseTimeout)
		defer cancel()
		if err := plane.Close(leaving); err != nil {
			n.Log.Warn("the backplane could not be left in order; peers notice by themselves", "error", err)
		}
	}
	if h := n.Plugins.Load(); h != nil {
		err = errors.Join(err, h.Close())
	}
	if open > 0 {
		n.Log.Info("all websockets are closed", "count", open, "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// tellUnknownAddress logs, once, that no limit per address holds.
func (n *Node) WarnUnknownAddress() {
	if !n.unknownAddress.Swap(true) {
		n.Log.Warn("client addresses are unknown; limits per address do not apply",
			"remedy", "set trusted_proxies_unix in Caddy's option servers, and let the proxy in front send X-Forwarded-For")
	}
}

// Keep returns what is kept with the node under a key, and outlives configurations like the node; on first use create
// makes it.
func (n *Node) Extension(key any, create func() any) any {
	n.extensionsMu.Lock()
	defer n.extensionsMu.Unlock()
	value, ok := n.extensions[key]
	if !ok {
		if n.extensions == nil {
			n.extensions = map[any]any{}
		}
		value = create()
		n.extensions[key] = value
	}
	return value
}

// logOutlet passes log records to the logger of the configuration in force.
// See docs/decisions/caddy.md#why-do-log-records-follow-the-current-configuration
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

// SuppressedLogLines returns the number of log lines that the throttle has suppressed since the start.
func (n *Node) SuppressedLogLines() uint64 { return n.throttle.suppressed.Load() }

// EvictedConnections returns the number of connections without a request that were closed to free descriptors.
func (n *Node) EvictedConnections() uint64 { return n.conns.evicted.Load() }

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
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/history/ring"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/transport/httpstream"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/sse"
)

const (
	poolKey = "node"
	// switchTimeout bounds the time that a change of the channel layer delays a reload.
	switchTimeout = 10 * time.Second
	// closeTimeout bounds the time for clients' close frames when the relay stops.
	closeTimeout = 5 * time.Second
	// configTimeout bounds the time that a handshake waits for the first configuration.
	configTimeout = 10 * time.Second
	// backplaneCloseTimeout bounds the time for events that are queued for peers when the relay stops.
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

// Node is the part of the relay that outlives configurations: the hub with its sessions, the channel layer, the
// backplane and the plugins. All methods are safe for concurrent use.
type Node struct {
	// Hub fans events out to the sessions.
	Hub *hub.Hub
	// Log writes to the log of the current configuration, throttled by message.
	Log       *slog.Logger
	logOutlet *logOutlet
	logTail   logTail
	// close closes the node; later calls wait for the first.
	close func() error
	// frameSize returns the current limit; one function serves all connections.
	frameSize func() int

	// Rejections counts rejected handshakes by reason.
	Rejections [reject.ReasonCount]atomic.Uint64
	// StreamSockets are the open WebSockets over HTTP/2 and HTTP/3, of all configurations.
	StreamSockets httpstream.Set
	// AWX is the state that all clients of the AWX protocol share.
	AWX      awx.Shared
	throttle *logThrottle

	acceptPause atomic.Int64 // nanoseconds
	descriptors descriptorGuard
	conns       requestlessConns

	unknownAddress atomic.Bool // logged that the clients' addresses are unknown
	startLogged    atomic.Bool // logged that the relay has started

	// AWXMetrics is the current value of the setting awx_metrics.
	AWXMetrics atomic.Bool

	// Started is the time of the node's creation.
	Started time.Time
	// Monitor keeps the rates of the last two minutes.
	Monitor *Monitor

	extensionsMu sync.Mutex
	extensions   map[any]any

	// Streams accepts responses that stay open.
	Streams  *sse.Server
	poller   *netpoll.Poller // of all clients' connections
	checkTLS func() error

	directTLSFailed atomic.Bool   // logged
	connectState    atomic.Uint32 // logged; see logConnect

	mu         sync.Mutex    // guards attached, layerPlace, ring and backplaneConfig
	attached   []*Config     // the last one is current
	configured chan struct{} // closed by the first configuration
	layerPlace string        // of the open broker
	ring       *ring.Ring    // the history, if the layer keeps none itself

	// DrainPace is the pace at which clients are evicted when the relay stops; nil evicts all at once.
	DrainPace atomic.Pointer[hub.Pace]
	// Backplane is nil if none is configured. The current configuration is backplaneConfig, guarded by mu.
	Backplane       atomic.Pointer[backplane.Backplane]
	backplaneConfig *Backplane
	// Routes are the routes of the current configuration.
	Routes Routes
	// Backends are the backends of all routes.
	Backends Backends
	// Presence follows the users of routes with presence.
	Presence Presence
	// State is the shared state of plugins.
	State State
	// Plugins is nil until a configuration has plugins.
	Plugins atomic.Pointer[pluginhost.Host]
}

// newNode is the constructor for pool.
func newNode() (caddy.Destructor, error) {
	out := &logOutlet{}
	out.to.Store(slog.Default())
	n := &Node{logOutlet: out, Started: time.Now(), configured: make(chan struct{})}
	limited := newThrottledHandler(newKeepingHandler(out, &n.logTail))
	log := slog.New(limited)
	n.Hub, n.Log, n.throttle = hub.New(log), log, limited.throttle
	n.AWX.Log = log
	n.Hub.SetProtocol(awx.Protocol{})
	n.Presence.node, n.State.node = n, n
	n.Monitor = newMonitor(n.Hub)
	n.poller, n.checkTLS = netpoll.New(), netpoll.CheckTLS
	n.Streams = sse.NewServer(n.poller)
	n.close = sync.OnceValue(n.shutDown)
	n.frameSize = func() int { return n.Hub.Limits().FrameSize }
	return n, nil
}

// Current returns the node of this process, or nil if no configuration uses the relay.
func Current() *Node {
	var n *Node
	pool.Range(func(_, value any) bool {
		n, _ = value.(*Node)
		return n == nil
	})
	return n
}

// Attach makes c the current configuration. On an error, the configuration before stays current.
func (n *Node) Attach(c *Config) error {
	for {
		plan, err := n.planPlugins(c) // without n.mu: modules may take long to compile
		if err != nil {
			return err
		}
		err = n.attach(c, plan)
		if plan != nil {
			plan.Close()
		}
		if !errors.Is(err, pluginhost.ErrStale) {
			return err
		}
	}
}

// attach makes c and the plan of its plugins current.
func (n *Node) attach(c *Config, plan *pluginhost.Plan) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.installPlugins(plan); err != nil { // first: a rejected plugin leaves everything unchanged
		return err
	}
	if err := n.apply(c); err != nil {
		if last := len(n.attached) - 1; last >= 0 { // a part may have been applied
			err = errors.Join(err, n.apply(n.attached[last]))
			n.settlePlugins(n.attached[last])
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

// AwaitConfig waits until a configuration is current. Caddy starts apps in no particular order: without the wait, the
// HTTP server could serve clients before the hub has an authorizer, and deny their groups.
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
		return errors.New("no configuration applied within " + configTimeout.String())
	}
}

// SetInitialLogger sets the logger for records before the first configuration is applied.
func (n *Node) SetInitialLogger(log *slog.Logger) {
	if !n.HasConfig() {
		n.logOutlet.to.Store(log)
	}
}

// HasConfig reports whether a configuration is current.
func (n *Node) HasConfig() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.attached) > 0
}

// Detach removes c. If c was current, the configuration attached before becomes current again.
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
			n.settlePlugins(now)
			return n.apply(now)
		}
		if len(n.attached) > 0 {
			now := n.attached[len(n.attached)-1]
			if h := n.Plugins.Load(); h != nil && h.HasOthers(now.Plugins) {
				n.settlePlugins(now)
			}
		}
		return nil
	}
	return nil
}

// Current returns the current configuration, or nil.
func (n *Node) Current() *Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.attached) == 0 {
		return nil
	}
	return n.attached[len(n.attached)-1]
}

// apply applies c to the hub, the channel layer and the backplane. The caller holds n.mu.
func (n *Node) apply(c *Config) error {
	// First, because a new site may already serve clients: the authorizer that admits a client must also recheck it.
	n.Hub.SetLimits(c.Limits)
	n.poller.SetUnackedTimeout(c.Limits.Silence)
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
			n.Log.Warn("former channel layer not left", "error", err)
		}
		n.layerPlace = place
		n.ring = nil // events between the layers are unknown
	} else if err := c.Layer.Apply(n.Hub.Broker()); err != nil {
		return err
	}
	if err := n.applyHistory(c.History); err != nil {
		return err
	}
	if err := n.Hub.SetCompression(c.Compression); err != nil {
		return err
	}
	n.logOutlet.to.Store(c.Log)
	n.DrainPace.Store(c.DrainPace)
	n.Hub.Trace(c.TraceEvents, c.ReportJourney)
	n.AWXMetrics.Store(c.AWXMetrics)
	n.applyDirectTLS(c.DirectTLS)
	n.logStart()
	n.logConnect(c.ExtendedConnect)
	if err := n.applyBackplane(c.Backplane); err != nil {
		return err
	}
	n.Presence.apply(c.Presence)
	if err := n.State.apply(c); err != nil {
		return err
	}
	n.applyRoutes(c.Routes)
	return nil
}

// Handle implements [caddyevents.Handler]. When the process is about to exit, it closes the node at once: Caddy's HTTP
// server delays Destruct while requests are under way.
// See docs/decisions/caddy.md#why-are-clients-told-of-a-stop-on-the-stopping-event
func (n *Node) Handle(context.Context, caddy.Event) error {
	if caddy.Exiting() {
		go func() { _ = n.close() }()
	}
	return nil
}

// Destruct implements [caddy.Destructor]. It closes all WebSockets, at the pace of the last configuration, and leaves
// the channel layer.
func (n *Node) Destruct() error { return n.close() }

// shutDown does the work of close, which runs it once.
func (n *Node) shutDown() error {
	n.drainBeforeClose()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	n.Monitor.stop()
	began, open := time.Now(), n.Hub.Stats().Sessions
	n.Presence.close() // before the hub leaves the channel layer
	n.State.stopAlarms()
	// Clients that are not logged in yet are no sessions, and Caddy would wait for their handlers.
	n.StreamSockets.Evict(0, relay.CloseGoingAway, "the server is going away")
	err := n.Hub.Close(ctx)
	n.poller.Close()
	if failed := n.Backends.close(); failed != nil {
		n.Log.Warn("backend not told of all ends", "error", failed)
	}
	n.State.close()
	if plane := n.Backplane.Load(); plane != nil { // after the hub, whose last events are queued for peers
		leaving, cancel := context.WithTimeout(context.Background(), backplaneCloseTimeout)
		defer cancel()
		if err := plane.Close(leaving); err != nil {
			n.Log.Warn("backplane not left, peers time out", "error", err)
		}
	}
	if h := n.Plugins.Load(); h != nil {
		err = errors.Join(err, h.Close())
	}
	if open > 0 {
		n.Log.Info("websockets closed", "count", open, "duration", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// WarnUnknownAddress logs, once per process, that limits per address do not apply.
func (n *Node) WarnUnknownAddress() {
	if !n.unknownAddress.Swap(true) {
		n.Log.Warn("client addresses are unknown; limits per address do not apply",
			"remedy", "set trusted_proxies_unix in Caddy's option servers, "+
				"and let the proxy in front send X-Forwarded-For")
	}
}

// Extension returns the value under key, which another package keeps with the node across configurations. The first
// call creates the value.
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

// SuppressedLogLines returns the number of log lines that the throttle has suppressed since the start.
func (n *Node) SuppressedLogLines() uint64 { return n.throttle.suppressed.Load() }

// EvictedConnections returns the number of connections without a request that were closed to free descriptors.
func (n *Node) EvictedConnections() uint64 { return n.conns.evicted.Load() }

// Package caddymodule adds the relay to Caddy: the app `edgerelay` ([App]), the handler of WebSocket upgrades
// ([Handler]), the endpoints of the admin API, metrics and commands. Only this package and the packages below import
// Caddy.
package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/composite"
	"github.com/edgerelay/edgerelay/relay/transport/httpstream"
)

func init() {
	caddy.RegisterModule(App{})
}

// App configures the relay. All sites share one app: WebSockets, groups and the channel layer live as long as the
// process, and a new configuration applies to open connections, too. In a Caddyfile it is the global option edgerelay.
type App struct {
	// ChannelLayer is the source of events: a module of edgerelay.channel_layers. Default: memory.
	ChannelLayerRaw json.RawMessage `json:"channel_layer,omitempty" caddy:"namespace=edgerelay.channel_layers inline_key=kind" caddyfile:"<kind> …"`
	// Auth authenticates clients and authorizes their groups: a module of edgerelay.auth. Required.
	AuthRaw json.RawMessage `json:"auth,omitempty" caddy:"namespace=edgerelay.auth inline_key=kind" caddyfile:"<kind> …"`
	// Origins are the origins of pages that may connect, such as "https://awx.example.com" or "https://*.example.com";
	// "*" allows every page. Pages of the same host may always connect.
	Origins []string `json:"origins,omitempty" caddyfile:"<origin>..." example:"https://awx.example.com"`
	// Unauthenticated is the response to a client that is not logged in. "close" (default) accepts the WebSocket and
	// closes it, like AWX, whose browser code then does not retry. "reject" answers 403, like AWX since 23.8. Routes
	// always answer 403, like Daphne.
	Unauthenticated string `json:"unauthenticated,omitempty" caddyfile:"close|reject"`
	// Limits bound the resources that clients may use.
	Limits *Limits `json:"limits,omitempty" caddyfile:"{ … }"`
	// Drain is the pace at which the relay evicts clients before it stops. Default: all at once.
	Drain *node.Drain `json:"drain,omitempty" caddyfile:"[<duration>] { … }"`
	// Backplane connects this node to others. A single node, and nodes that share one channel layer, need none.
	Backplane *Backplane `json:"backplane,omitempty" caddyfile:"{ … }"`
	// Compression compresses events for clients that agree on permessage-deflate. Default: on.
	Compression *Compression `json:"compression,omitempty" caddyfile:"[off] { … }"`
	// History keeps recent events, so that clients which reconnect miss nothing. Default: no group has a history.
	History []*History `json:"history,omitempty" caddyfile:"<pattern>... { … }"`
	// HistoryKey is a secret from which nodes derive the marks in the positions of events. Nodes with a Redis each that a
	// backplane joins need the same key; nodes that share a Redis agree on a key by themselves. Write a placeholder.
	HistoryKey string `json:"history_key,omitempty" caddyfile:"<secret>" min:"1" example:"{env.EDGERELAY_HISTORY_KEY}"`
	// Plugins filter and transform events, in this order.
	Plugins []*pluginhost.Plugin `json:"plugins,omitempty" caddyfile:"plugin=<name> <file> { … }"`
	// PluginKeys are Ed25519 public keys. With a key, every plugin needs a module that one of the keys has signed.
	// Default: none, and modules need no signature.
	PluginKeys []*pluginhost.SigningKey `json:"plugin_keys,omitempty" caddyfile:"plugin_key=<name> <key>"`
	// PluginLoading bounds the process that compiles a plugin's module, in processor time, memory and time.
	PluginLoading *pluginhost.Loading `json:"plugin_loading,omitempty" caddyfile:"{ … }"`
	// Functions configures the shared state and the alarms of plugins.
	Functions *Functions `json:"functions,omitempty" caddyfile:"{ … }"`
	// TraceEvents traces one event in this many as an OpenTelemetry span, on sites that use Caddy's directive tracing.
	// Default: 0, none.
	TraceEvents int `json:"trace_events,omitempty" caddyfile:"<events>|off" min:"1"`
	// AWXMetrics adds metrics of the backplane's peers under AWX's names. Default: false.
	AWXMetrics bool `json:"awx_metrics,omitempty" caddyfile:"on|off"`
	// DirectTLS lets WebSockets under TLS use unexported fields of Go's crypto/tls, after a self-test at startup: an
	// idle WebSocket then needs no goroutine and about 7 KiB less memory. A change applies to new connections. Turn it
	// off if a build with a new Go release misbehaves under TLS. Default: true.
	DirectTLS *bool `json:"direct_tls,omitempty" caddyfile:"on|off"`
	// EventStreams lets clients without WebSockets connect by event streams (server-sent events), on the same paths.
	// Default: true.
	EventStreams *bool `json:"event_streams,omitempty" caddyfile:"on|off"`
	// EventStreamAge is the greatest age of an event stream over HTTP/2 or HTTP/3. It ends at a random age, half of this
	// at least, and the client resumes at once. Over HTTP/1.1 an event stream stays. Default: 15m.
	EventStreamAge *caddy.Duration `json:"event_stream_age,omitempty" caddyfile:"<duration>" min:"1s"`
	// LongPolls lets clients that can neither use WebSockets nor event streams ask again and again, on the same paths.
	// Default: true.
	LongPolls *bool `json:"long_polls,omitempty" caddyfile:"on|off"`
	// ExtendedConnect serves WebSockets over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220). Browsers use HTTP/2 only if the
	// process has GODEBUG=http2xconnect=1 in its environment. They do not fall back to HTTP/1.1, so "off" is for sites
	// without browsers. Default: true.
	ExtendedConnect *bool `json:"extended_connect,omitempty" caddyfile:"on|off"`
	// StartMessage is a text that is printed to standard output when the first configuration of the process serves: for
	// images and trials. Placeholders such as {env.NAME} are replaced. Default: none.
	StartMessage string `json:"start_message,omitempty" caddyfile:"<text>"`

	config *node.Config
	// authorizers is the config's authorizer: that of Auth, and those of routes. routeAuth are the routes' modules by
	// their JSON, and authNames counts the names of routes.
	authorizers    *composite.Authorizer
	routeAuth      map[string]loadedAuth
	authNames      map[string]int
	node           *node.Node
	events         *telemetry.EventTracer
	watchedServers map[*caddyhttp.Server]bool
	demos          []*DemoHandler // of this configuration
	// portsUsed is the error of Start if other processes use the ports of demos. Provision must not fail: `caddy
	// validate` is right while the relay runs.
	portsUsed error

	ctx     caddy.Context   // for Stop
	streams *httpstream.Set // of the servers of this configuration
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay", New: func() caddy.Module { return new(App) }}
}

// Provision loads the guest modules and checks the configuration. It does not change a running node.
func (a *App) Provision(ctx caddy.Context) error {
	c := &node.Config{
		Log: ctx.Slogger(), TraceEvents: a.TraceEvents, AWXMetrics: a.AWXMetrics,
		DirectTLS: a.DirectTLS == nil || *a.DirectTLS, Plugins: a.Plugins,
		ExtendedConnect: a.ExtendedConnect == nil || *a.ExtendedConnect,
	}
	a.config, a.ctx = c, ctx
	if err := settings.Check("edgerelay", a); err != nil {
		return err
	}
	if a.AuthRaw == nil {
		return errors.New("edgerelay: auth is not configured; " +
			"add 'auth http <url>', 'auth jwt', 'auth caddy', 'auth awx <url>' or, for development, 'auth none'")
	}
	if a.ChannelLayerRaw == nil {
		a.ChannelLayerRaw = json.RawMessage(`{"kind": "memory"}`)
	}
	layer, err := ctx.LoadModule(a, "ChannelLayerRaw")
	if err != nil {
		return fmt.Errorf("edgerelay: channel_layer: %w", err)
	}
	c.Layer = layer.(guest.ChannelLayer)
	kind := struct{ Kind string }{}
	_ = json.Unmarshal(a.AuthRaw, &kind) // LoadModule reports an error
	c.AuthKind = kind.Kind
	auth, err := ctx.LoadModule(a, "AuthRaw")
	if err != nil {
		return fmt.Errorf("edgerelay: auth: %w", err)
	}
	// Before Start, because the HTTP server may start before this app.
	c.Auth = auth.(guest.Auth)
	authorizer, recheck, err := c.Auth.Authorizer()
	if err != nil {
		return fmt.Errorf("edgerelay: auth: %w", err)
	}
	a.authorizers = composite.New(authorizer)
	c.Authorizer, c.RecheckGrace = a.authorizers, relay.NoGrace
	addRecheck(c, c.Auth, recheck)
	if o, ok := auth.(guest.OpenAuth); ok {
		c.OpenToAll = o.OpenToAll()
	}
	if o, ok := auth.(guest.UnprivilegedAuth); ok {
		c.LacksSuperusers = o.LacksSuperusers()
	}
	if a.Unauthenticated != "" && a.Unauthenticated != "close" && a.Unauthenticated != "reject" {
		return fmt.Errorf("edgerelay: unauthenticated: invalid value %q; use close or reject", a.Unauthenticated)
	}
	if err := checkOrigins(a.Origins); err != nil {
		return err
	}
	if c.Limits, err = a.Limits.withDefaults(); err != nil {
		return err
	}
	c.LimitByDescriptors(a.Limits != nil && a.Limits.Connections != nil)
	if c.History, err = a.historyPolicy(); err != nil {
		return err
	}
	if c.State, err = a.Functions.config(); err != nil {
		return err
	}
	if c.Compression, err = a.Compression.settings(); err != nil {
		return err
	}
	if a.Drain != nil {
		pace, err := a.Drain.Pace()
		if err != nil {
			return fmt.Errorf("edgerelay: %w", err)
		}
		c.DrainPace = &pace
	}
	if a.node, err = node.Acquire(); err != nil {
		return err
	}
	a.streams = &httpstream.Set{Parent: &a.node.StreamSockets}
	a.events = telemetry.EventTracerOf(a.node)
	c.ReportJourney = a.events.Report
	a.node.SetInitialLogger(c.Log)
	if a.Backplane != nil {
		if err := a.Backplane.provision(ctx, a.node.Log); err != nil {
			return err
		}
		c.Backplane = a.Backplane.config()
	}
	if err := a.provisionPlugins(ctx); err != nil {
		return err
	}
	telemetry.Register(a.node, ctx.GetMetricsRegistry())
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	if err := events.(*caddyevents.App).On("started", startMessage{a, os.Stdout}); err != nil {
		return err
	}
	return events.(*caddyevents.App).On("stopping", a.node)
}

// watchServer lets a site's server keep what the relay needs to know of connections, pace its accepts, and mark
// connections that have one of the last file descriptors. The kernel assigns the lowest free descriptor, so a high
// number shows that nearly all are in use. This needs no counting and includes the descriptors of the whole process.
func (a *App) watchServer(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || a.watchedServers[server] {
		return
	}
	if a.watchedServers == nil {
		a.watchedServers = map[*caddyhttp.Server]bool{}
	}
	a.watchedServers[server] = true
	a.node.PaceAccepts(server)
	if a.config.Descriptors.Max > 0 {
		a.node.MarkLastDescriptors(server, a.config.Descriptors.Max)
	}
	keepConns(server)
}

// provisionPlugins checks the plugins' settings. Without a current configuration, as in `caddy validate`, it checks the
// modules too; otherwise Start does.
func (a *App) provisionPlugins(ctx caddy.Context) error {
	var err error
	if a.config.PluginLoading, err = a.PluginLoading.Limits(); err != nil {
		return err
	}
	keys, err := pluginhost.ParseKeys(a.PluginKeys)
	if err != nil {
		return err
	}
	for _, p := range a.Plugins {
		if err := p.SetKeys(keys); err != nil {
			return err
		}
		p.SetLoading(a.config.PluginLoading)
		if err := p.Provision(); err != nil {
			return err
		}
	}
	a.config.ModuleStore = pluginhost.Store{Storage: ctx.Storage()}
	if a.node.HasConfig() {
		return nil
	}
	return pluginhost.Check(ctx, a.Plugins, a.config.ModuleStore, a.config.PluginLoading)
}

// Node implements [node.App].
func (a *App) Node() *node.Node { return a.node }

// Config implements [node.App].
func (a *App) Config() *node.Config { return a.config }

// Start applies the configuration, to open connections as well.
// See docs/decisions/caddy.md#why-does-a-configuration-take-effect-in-start-and-never-in-provision
func (a *App) Start() error {
	if a.portsUsed != nil {
		return a.portsUsed
	}
	return a.node.Attach(a.config)
}

// Stop detaches the configuration. If an earlier configuration is still attached, as after a failed reload, that one
// becomes current again.
func (a *App) Stop() error {
	a.evictStreams()
	return a.node.Detach(a.config)
}

// Cleanup releases the node. The last configuration closes the node, with all connections.
func (a *App) Cleanup() error {
	if a.node == nil {
		return nil
	}
	return node.Release()
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)

// Package caddymodule makes the relay a part of Caddy: the app `edgerelay`, the handler that takes
// websocket upgrades, endpoints of the admin API, metrics and commands. It is the only package that imports Caddy.
package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
)

func init() {
	caddy.RegisterModule(App{})
}

// App configures the relay. There is one for all sites.
type App struct {
	// ChannelLayer is where events come from: a module of edgerelay.channel_layers. Default: memory.
	ChannelLayerRaw json.RawMessage `json:"channel_layer,omitempty" caddy:"namespace=edgerelay.channel_layers inline_key=kind" caddyfile:"<kind> …"`
	// Auth says who may connect and see what: a module of edgerelay.auth. There is no default.
	AuthRaw json.RawMessage `json:"auth,omitempty" caddy:"namespace=edgerelay.auth inline_key=kind" caddyfile:"<kind> …"`
	// Origins are the pages that may connect besides those of the same host, such as
	// "https://awx.example.com" or "https://*.example.com"; "*" is every page.
	Origins []string `json:"origins,omitempty" caddyfile:"<origin>..." example:"https://awx.example.com"`
	// Unauthenticated says what becomes of a client that is not logged in: "close" (default) accepts the
	// websocket and closes it cleanly, as AWX does, so that its browser code does not retry; "reject" answers 403, as
	// AWX does since 23.8.
	Unauthenticated string `json:"unauthenticated,omitempty" caddyfile:"close|reject"`
	// Limits bound what clients may use.
	Limits *Limits `json:"limits,omitempty" caddyfile:"{ … }"`
	// Drain says how fast clients leave when the relay stops. Default: all at once.
	Drain *node.Drain `json:"drain,omitempty" caddyfile:"[<duration>] { … }"`
	// Backplane connects this node to others; without it there is one node, or all share one channel layer.
	Backplane *Backplane `json:"backplane,omitempty" caddyfile:"{ … }"`
	// Plugins filter and transform events, in this order.
	Plugins []*pluginhost.Plugin `json:"plugins,omitempty" caddyfile:"plugin=<name> <file> { … }"`
	// TraceEvents makes an OpenTelemetry span of one event in so many, where a site that uses edgerelay has Caddy's directive tracing.
	// Default: 0, none.
	TraceEvents int `json:"trace_events,omitempty" caddyfile:"<events>|off" min:"1"`
	// AWXMetrics shows the peers of the backplane in the metrics by AWX's own names, too. Default: false.
	AWXMetrics bool `json:"awx_metrics,omitempty" caddyfile:"on|off"`
	// DirectTLS lets websockets under TLS use unexported fields of Go's crypto/tls, after a self-test at startup: an idle
	// one needs no goroutine and about 7 KiB less memory. It applies to new connections. Turn it off if a build with a new
	// Go release misbehaves under TLS. Default: true.
	DirectTLS *bool `json:"direct_tls,omitempty" caddyfile:"on|off"`

	config         *node.Config
	node           *node.Node
	events         *telemetry.EventTracer
	watchedServers map[*caddyhttp.Server]bool
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay", New: func() caddy.Module { return new(App) }}
}

// Provision loads the parts of the configuration. It touches nothing that is running.
func (a *App) Provision(ctx caddy.Context) error {
	c := &node.Config{
		Log: ctx.Slogger(), TraceEvents: a.TraceEvents, AWXMetrics: a.AWXMetrics,
		DirectTLS: a.DirectTLS == nil || *a.DirectTLS, Plugins: a.Plugins,
	}
	a.config = c
	if a.AuthRaw == nil {
		return errors.New("edgerelay: it is not said who may connect: write auth awx <url>, auth caddy, or, for development, auth none")
	}
	if a.ChannelLayerRaw == nil {
		a.ChannelLayerRaw = json.RawMessage(`{"kind": "memory"}`)
	}
	layer, err := ctx.LoadModule(a, "ChannelLayerRaw")
	if err != nil {
		return fmt.Errorf("edgerelay: channel_layer: %w", err)
	}
	c.Layer = layer.(guest.ChannelLayer)
	auth, err := ctx.LoadModule(a, "AuthRaw")
	if err != nil {
		return fmt.Errorf("edgerelay: auth: %w", err)
	}
	// Here, and not in Start: the HTTP server may start before this app does.
	c.Auth = auth.(guest.Auth)
	if c.Authorizer, c.Recheck, err = c.Auth.Authorizer(); err != nil {
		return fmt.Errorf("edgerelay: auth: %w", err)
	}
	c.RecheckGrace = relay.NoGrace
	if bounded, ok := auth.(guest.RecheckGracer); ok {
		c.RecheckGrace = bounded.Grace()
	}
	if o, ok := auth.(guest.OpenAuth); ok {
		c.OpenToAll = o.OpenToAll()
	}
	if o, ok := auth.(guest.UnprivilegedAuth); ok {
		c.LacksSuperusers = o.LacksSuperusers()
	}
	if a.Unauthenticated != "" && a.Unauthenticated != "close" && a.Unauthenticated != "reject" {
		return fmt.Errorf("edgerelay: unauthenticated is close or reject, not %q", a.Unauthenticated)
	}
	if a.TraceEvents < 0 {
		return fmt.Errorf("edgerelay: trace_events is how many events there are for each that is traced, such as 1000, or 0 for none; not %d", a.TraceEvents)
	}
	if err := checkOrigins(a.Origins); err != nil {
		return err
	}
	if c.Limits, err = a.Limits.withDefaults(); err != nil {
		return err
	}
	c.LimitByDescriptors(a.Limits != nil && a.Limits.Connections != nil)
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
	return events.(*caddyevents.App).On("stopping", a.node)
}

// watchFiles has the server of a site mark connections whose own descriptor shows that nearly all are in use, unless
// others that have no request under way make room. The kernel gives the lowest one that is free, so this costs no
// counting, and it also knows what others in the process use.
func (a *App) watchDescriptors(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || a.config.Descriptors.Max <= 0 || a.watchedServers[server] {
		return
	}
	if a.watchedServers == nil {
		a.watchedServers = map[*caddyhttp.Server]bool{}
	}
	a.watchedServers[server] = true
	a.node.MarkLastDescriptors(server, a.config.Descriptors.Max)
}

// provisionPlugins checks the plugins' settings, and their modules unless Start is about to: `caddy validate` goes no further.
func (a *App) provisionPlugins(ctx caddy.Context) error {
	for _, p := range a.Plugins {
		if err := p.Provision(); err != nil {
			return err
		}
	}
	a.config.ModuleStore = pluginhost.Store{Storage: ctx.Storage()}
	if a.node.HasConfig() {
		return nil
	}
	return pluginhost.Check(ctx, a.Plugins, a.config.ModuleStore)
}

// checkOrigins refuses what no browser sends as its origin, and what would never match therefore.
func checkOrigins(origins []string) error {
	for _, o := range origins {
		scheme, host, ok := strings.Cut(o, "://")
		if !ok {
			scheme, host = "https", o
		}
		u, err := url.Parse(scheme + "://" + host)
		if o != "*" && (err != nil || u.Host == "" || u.Host != host) {
			return fmt.Errorf("edgerelay: origins: %q is no origin; write scheme and host without a path, such as https://awx.example.com, or * for every page", o)
		}
	}
	return nil
}

// Node implements [Host].
func (a *App) Node() *node.Node { return a.node }

// Config implements [Host].
func (a *App) Config() *node.Config { return a.config }

// Start puts the configuration in force, for connections that are open already, too.
// See docs/decisions/caddy.md#why-does-a-configuration-take-effect-in-start-and-never-in-provision
func (a *App) Start() error { return a.node.Attach(a.config) }

// Stop withdraws the configuration. If an earlier one is still attached, as when a reload fails half-way, that one is in force again.
func (a *App) Stop() error { return a.node.Detach(a.config) }

// Cleanup gives up the node; with its last configuration all websockets are closed.
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

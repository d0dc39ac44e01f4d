package node

import (
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

// Config is a checked configuration, as the node applies it.
type Config struct {
	Layer guest.ChannelLayer
	// Auth is the guest module of all clients but those of RouteAuth.
	Auth       guest.Auth
	Authorizer relay.Authorizer
	// RouteAuth are the guest modules of routes with an auth of their own. Authorizer includes their authorizers.
	RouteAuth []guest.Auth
	// Recheck is the time between two rechecks of an open session; 0 turns rechecks off. RecheckGrace bounds the time a
	// session stays open while the authority does not answer. Both are the shortest of all authorizers.
	Recheck, RecheckGrace time.Duration
	// OpenToAll tells that every client may see everything.
	OpenToAll bool
	// AuthKind is the name of Auth's module, such as jwt.
	AuthKind string
	// LacksSuperusers tells that no client is a superuser.
	LacksSuperusers bool
	Limits          relay.Limits
	Descriptors     DescriptorLimits
	// DrainPace is the pace at which clients are evicted when the relay stops. nil evicts all at once.
	DrainPace *hub.Pace
	// Compression is nil if no event is compressed.
	Compression *deflate.Settings
	// History decides which groups have a history.
	History relay.HistoryPolicy
	// TraceEvents traces one event in this many; 0 traces none.
	TraceEvents int
	// ReportJourney receives the traced events.
	ReportJourney func(hub.Journey)
	AWXMetrics    bool
	DirectTLS     bool
	// ExtendedConnect is the setting extended_connect.
	ExtendedConnect bool
	// Backplane is nil if none is configured.
	Backplane *Backplane
	Plugins   []*pluginhost.Plugin
	// PluginLoading limits the compilation of the plugins' modules.
	PluginLoading plugins.Limits
	ModuleStore   pluginhost.Store
	// State configures the shared state of plugins, which exists if a plugin has a grant for it.
	State StateConfig
	// Presence is nil if no route has presence.
	Presence *PresenceConfig
	// Consoles are the handlers edgerelay_console of all sites.
	Consoles []caddyhttp.MiddlewareHandler
	// Routes are the routes of all sites.
	Routes []*RouteConfig
	Log    *slog.Logger
}

// Backplane is a checked configuration of the backplane.
type Backplane struct {
	Settings backplane.Settings
	// Key identifies all settings. A reload with the same key changes nothing.
	Key [32]byte
	// TLSKey identifies the TLS settings.
	TLSKey string
}

// DescriptorLimits describes how file descriptors limit the connections.
type DescriptorLimits struct {
	// Max is the number of descriptors that the process may open; 0 means no limit.
	Max int
	// WantedConnections is the limit on connections without this bound. Configured tells that the operator has set it.
	WantedConnections int
	Configured        bool
}

// App is the app as handlers of other packages find it in Provision.
type App interface {
	// Node returns the node of this process. Config returns the app's own configuration, current or not.
	Node() *Node
	Config() *Config
}

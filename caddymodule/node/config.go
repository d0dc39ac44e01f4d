package node

import (
	"log/slog"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// Config is a checked configuration, as the node applies it.
type Config struct {
	Layer guest.ChannelLayer
	// Auth is the guest module that made Authorizer.
	Auth       guest.Auth
	Authorizer relay.Authorizer
	// Recheck is the time between two checks of an open session, 0 for none; RecheckGrace is how long a session stays
	// open without a certain answer.
	Recheck, RecheckGrace time.Duration
	// OpenToAll is true if every client may see everything.
	OpenToAll bool
	// NamesOperators is true if no client is a superuser.
	LacksSuperusers bool
	Limits          relay.Limits
	Descriptors     DescriptorLimits
	// StopPace is the pace at which clients leave when the relay stops; nil: all at once.
	DrainPace *hub.Pace
	// TraceEvents is the number of events for each that is traced, 0 for none.
	TraceEvents int
	// ReportJourney gets those.
	ReportJourney func(hub.Journey)
	AWXMetrics    bool
	DirectTLS     bool
	// Backplane is nil if none is configured.
	Backplane   *Backplane
	Plugins     []*pluginhost.Plugin
	ModuleStore pluginhost.Store
	Log         *slog.Logger
}

// Plane is a checked configuration of the backplane.
type Backplane struct {
	Settings backplane.Settings
	// Key is of all settings: a reload that does not change it touches nothing.
	Key [32]byte
	// TLSKey is of the settings of TLS alone.
	TLSKey string
}

// fileLimits bounds the connections by the file descriptors that the process may open.
type DescriptorLimits struct {
	// Open is how many descriptors the process may have open, 0 for any number.
	Max int
	// Wanted is the limit on connections before descriptors bounded it; Configured is true if the operator set it.
	WantedConnections int
	Configured        bool
}

// Host is the app, as its handlers find it in Provision.
type App interface {
	// Node is the node of this process, and Config the configuration that the app was given.
	Node() *Node
	Config() *Config
}

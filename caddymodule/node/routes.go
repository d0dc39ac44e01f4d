package node

import (
	"slices"
	"strings"
	"sync"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// RouteConfig is a checked route of a site.
type RouteConfig struct {
	// Key identifies the route across configurations. Connections of a route whose key is gone are closed.
	Key string
	// Settings take effect when the configuration is applied.
	Settings *channels.Settings
	// Route is the route of the key.
	Route *channels.Route
}

// Routes are the routes of the current configuration, and the figures of all paths that have had one.
type Routes struct {
	mu    sync.Mutex
	byKey map[string]*channels.Route
	stats map[string]*channels.Stats // by path
	// receivers counts the parts that want messages of any type although there may be no routes.
	receivers int
}

// RoutePath is a path of routes, with the figures of all its routes.
type RoutePath struct {
	Path  string
	Stats *channels.Stats
}

// Paths returns the paths of the current routes, sorted.
func (r *Routes) Paths() (list []RoutePath) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	for _, route := range r.byKey {
		if !seen[route.Path] {
			seen[route.Path] = true
			list = append(list, RoutePath{route.Path, route.Stats})
		}
	}
	slices.SortFunc(list, func(a, b RoutePath) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// ReceiveAllMessages keeps the delivery of messages of any type on, from a call with true to one with false.
func (n *Node) ReceiveAllMessages(on bool) {
	n.Routes.mu.Lock()
	if on {
		n.Routes.receivers++
	} else {
		n.Routes.receivers--
	}
	n.Routes.mu.Unlock()
	n.receiveMessages()
}

// receiveMessages lets the channel layer deliver messages of any type while a part wants them.
func (n *Node) receiveMessages() {
	n.Routes.mu.Lock()
	defer n.Routes.mu.Unlock()
	n.Hub.ReceiveMessages(len(n.Routes.byKey) > 0 || n.Routes.receivers > 0)
}

// routeOf returns the route of a key, and creates it for a new one.
func (n *Node) routeOf(key, path string) *channels.Route {
	r := &n.Routes
	r.mu.Lock()
	defer r.mu.Unlock()
	if route := r.byKey[key]; route != nil {
		return route
	}
	if r.stats == nil {
		r.stats = map[string]*channels.Stats{}
	}
	if r.stats[path] == nil {
		r.stats[path] = &channels.Stats{}
	}
	return channels.NewRoute(path, &channels.Node{
		Log: n.Log, Publish: n.Hub.PublishMessage, FrameSize: n.frameSize,
	}, r.stats[path])
}

// AddRoute adds a route to a configuration that is not applied yet.
func (n *Node) AddRoute(c *Config, key, path string, s *channels.Settings) *RouteConfig {
	for _, other := range c.Routes { // the same path and groups on another site
		if other.Key == key {
			key += "\x00"
		}
	}
	route := &RouteConfig{Key: key, Settings: s, Route: n.routeOf(key, path)}
	c.Routes = append(c.Routes, route)
	return route
}

// applyRoutes makes routes current. Open connections of other routes are closed. The caller holds n.mu.
func (n *Node) applyRoutes(routes []*RouteConfig) {
	r := &n.Routes
	r.mu.Lock()
	before, now := r.byKey, make(map[string]*channels.Route, len(routes))
	for _, c := range routes {
		c.Route.Apply(c.Settings)
		now[c.Key] = c.Route
	}
	r.byKey = now
	r.mu.Unlock()
	n.receiveMessages()
	for key, route := range before {
		if now[key] != route {
			route.Remove()
			for _, format := range route.Formats() {
				n.Hub.CloseFormat(format, relay.CloseRestart, channels.RemovedReason)
			}
			if site := n.Backends.of(key); site != nil {
				n.Hub.CloseFormat(site.Holds(), relay.CloseRestart, channels.RemovedReason)
			}
			continue
		}
		// Presence may be on now, or have other settings. A session that waits for the channel layer does not delay a reload.
		for _, format := range route.Formats() {
			go n.Hub.EachOfFormat(format, route.Follow)
		}
	}
}

// Has reports whether a key is that of a current route.
func (r *Routes) Has(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byKey[key] != nil
}

// All returns the current routes.
func (r *Routes) All() (list []*channels.Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, route := range r.byKey {
		list = append(list, route)
	}
	return list
}

package request

import (
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Place is the list of routes in which a handler stands: that of a server, or of a subroute such as a site or a handle
// block.
type Place struct {
	server   *caddyhttp.Server
	subroute *caddyhttp.Subroute
}

// PlaceOf returns the place of the handler that is being provisioned.
func PlaceOf(ctx caddy.Context) (p Place) {
	p.server, _ = ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	for _, module := range slices.Backward(ctx.Modules()) {
		if s, ok := module.(*caddyhttp.Subroute); ok {
			p.subroute = s
			break
		}
	}
	return p
}

// IsBehind reports whether a handler that was provisioned earlier, at another place, gets every request before the
// handler that is being provisioned at p: it stands in the same list, in a route without matchers or in the same route.
func (p Place) IsBehind(other Place, earlier caddyhttp.MiddlewareHandler) bool {
	if p != other || p.server == nil && p.subroute == nil {
		return false
	}
	var routes caddyhttp.RouteList
	if p.subroute != nil {
		routes = p.subroute.Routes
	} else {
		routes = p.server.Routes
	}
	for i := range routes {
		if slices.Contains(routes[i].Handlers, earlier) {
			return len(routes[i].MatcherSetsRaw) == 0 && len(routes[i].MatcherSets) == 0
		}
	}
	// The handlers of a route are added to it when all are provisioned. If none of the list waits for its handlers,
	// both stand in routes of other lists, such as named ones.
	return slices.ContainsFunc(routes, func(r caddyhttp.Route) bool { return len(r.Handlers) == 0 && len(r.HandlersRaw) > 0 })
}

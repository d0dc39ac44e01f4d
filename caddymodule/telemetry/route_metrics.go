package telemetry

import "github.com/edgerelay/edgerelay/caddymodule/node"

var (
	descRouteConnections = desc("route_connections", "Open connections of a route.", "route")
	descRouteRejected    = desc("route_rejections_total", "Handshakes that a route rejected.", "route")
	descRouteEvents      = desc("route_events_total",
		"Events for clients of a route by result; an event counts once for each group.", "route", "result")
	descRouteMessages = desc("route_messages_total", "Messages of a route's clients by result.", "route", "result")
	descRouteTypes    = desc("route_types_without_rule_total",
		"Events for clients of a route of a type without a rule, by type.", "route", "type")
)

// collectRoutes collects the metrics of routes. The label route is the path as it is configured.
func collectRoutes(out sink, routes *node.Routes) {
	for _, p := range routes.Paths() {
		out.gauge(descRouteConnections, float64(p.Stats.Connections.Load()), p.Path)
		out.count(descRouteRejected, p.Stats.Rejected.Load(), p.Path)
		for result, n := range p.Stats.EventResults() {
			out.count(descRouteEvents, n, p.Path, result)
		}
		for result, n := range p.Stats.MessageResults() {
			out.count(descRouteMessages, n, p.Path, result)
		}
		for kind, n := range p.Stats.Unknown() {
			out.count(descRouteTypes, n, p.Path, kind)
		}
	}
}

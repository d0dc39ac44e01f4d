package telemetry

import (
	"strings"

	"github.com/edgerelay/edgerelay/caddymodule/node"
)

var (
	descBackendConnections = desc("backend_connections",
		"Open connections whose messages a site answers, by route.", "route")
	descBackendQueued = desc("backend_queued",
		"Connections that wait for a request to the site, by route.", "route")
	descBackendRequests = desc("backend_requests_total",
		"Requests to the site of a route, repeated ones included.", "route")
	descBackendRetries = desc("backend_retries_total",
		"Requests that were repeated because the site of a route was not reached.", "route")
	descBackendFailed = desc("backend_failed_total",
		"Requests to the site of a route without an answer.", "route")
	descBackendBusy = desc("backend_busy_total",
		"Connections and handshakes that ended because the site of a route was busy.", "route")
	descBackendHeld = desc("backend_held",
		"Responses that the site of a route holds, by route.", "route")
	descBackendFollowed = desc("backend_followed_total",
		"Requests to the site of a route that held responses have caused.", "route")
	descBackendMessages = desc("backend_messages_total",
		"Messages of clients that the site of a route has taken.", "route")
)

// collectBackends collects the metrics of the sites that answer messages, added up by the paths of their routes.
func collectBackends(out sink, all *node.Backends) {
	type sums struct {
		connections, queued, held                 float64
		followed                                  uint64
		requests, retries, failed, busy, messages uint64
	}
	byPath := map[string]*sums{}
	for key, b := range all.All() {
		path, _, _ := strings.Cut(key, "\x00")
		s := byPath[path]
		if s == nil {
			s = &sums{}
			byPath[path] = s
		}
		s.connections += float64(b.Stats.Connections.Load())
		s.queued += float64(b.Queued())
		s.held += float64(b.Stats.Held.Load())
		s.followed += b.Stats.Followed.Load()
		s.requests += b.Stats.Requests.Load()
		s.retries += b.Stats.Retries.Load()
		s.failed += b.Stats.Failed.Load()
		s.busy += b.Stats.Busy.Load()
		s.messages += b.Stats.Messages.Load()
	}
	for path, s := range byPath {
		out.gauge(descBackendConnections, s.connections, path)
		out.gauge(descBackendQueued, s.queued, path)
		out.gauge(descBackendHeld, s.held, path)
		out.count(descBackendFollowed, s.followed, path)
		out.count(descBackendRequests, s.requests, path)
		out.count(descBackendRetries, s.retries, path)
		out.count(descBackendFailed, s.failed, path)
		out.count(descBackendBusy, s.busy, path)
		out.count(descBackendMessages, s.messages, path)
	}
}

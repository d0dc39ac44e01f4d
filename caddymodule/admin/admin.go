// Package admin adds the relay's endpoints to Caddy's admin API. Handlers are functions of the node, which the console
// and the site handlers reuse: [ServeOverview], [WriteHealth], [Publish], [Diagnose]. docs/openapi.json describes all
// requests and responses; a test compares the two.
package admin

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/docs"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin is the module of the endpoints:
//
//	GET  /edgerelay/status        metrics of the node
//	GET  /edgerelay/overview      the same with top groups, slowest clients, peers, plugins and the last two minutes
//	GET  /edgerelay/connections   the clients, in pages; ?user= ?group= ?address= ?sort=slowest
//	POST /edgerelay/connections/close       {"user": "…"} closes connections
//	GET  /edgerelay/groups        the groups, in pages; ?prefix= ?sort=rate
//	GET  /edgerelay/groups/<name>/history   depth, size and age of the group's history
//	GET  /edgerelay/groups/<name>/replay    the effect of a replay; ?since=
//	POST /edgerelay/groups/<name>/replay    tells the group's clients that they may have missed events; ?since=
//	GET  /edgerelay/groups/<name>/tail      the group's events, as a stream
//	GET  /edgerelay/presence      the users in a group; ?group= ?limit=
//	POST /edgerelay/doctor        checks every stage of an event's path
//	GET  /edgerelay/openapi.json  the OpenAPI document of this API
//	GET  /edgerelay/health        state of the node; 503 while events cannot reach the node
//	GET  /edgerelay/health/ready  the same
//	GET  /edgerelay/health/live   200 while the process responds
//	GET  /edgerelay/peers         the nodes of the backplane, with state, lag and drops
//	POST /edgerelay/drain         starts a drain; GET returns the progress, DELETE cancels the drain
//	POST /edgerelay/publish       {"group": "…", "data": <any JSON>} publishes data to a group
//	GET  /edgerelay/plugins       the plugins, with state and metrics
//	GET  /edgerelay/plugin-nodes  which plugins the nodes run that share the storage
//	GET  /edgerelay/plugins/<name>          the plugin
//	PUT  /edgerelay/plugins/<name>          deploys the body as the plugin's module, on every node of the storage
//	PUT  /edgerelay/plugins/<name>?canary=10%25 tries the body on a share of the groups
//	PUT  /edgerelay/plugins/<name>/canary?share=50%25 changes the share
//	POST /edgerelay/plugins/<name>/promote  makes the candidate the module of all groups; rollback takes it back
//	DELETE /edgerelay/plugins/<name>/deployment takes the deployment back; each node runs its file
//	POST /edgerelay/plugins/<name>/rollback deploys an earlier module; ?to=<version>
//	GET  /edgerelay/plugins/<name>/history  the last ten versions, with author and reason
//	GET  /edgerelay/plugins/<name>/logs     recent log lines of the plugin
//	GET  /edgerelay/plugins/<name>/recording  the function's connections, as golden samples, as a stream
//	GET  /edgerelay/plugins/<name>/differences events about which a shadow decided otherwise than its original
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.edgerelay", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements [caddy.AdminRouter].
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/edgerelay/openapi.json", Handler: caddy.AdminHandlerFunc(serveOpenAPI)},
		{Pattern: "/edgerelay/status", Handler: withNode(http.MethodGet, serveStatus)},
		{Pattern: "/edgerelay/overview", Handler: withNode(http.MethodGet, ServeOverview)},
		{Pattern: "/edgerelay/connections", Handler: withNode(http.MethodGet, ServeConnections)},
		{Pattern: "/edgerelay/connections/close", Handler: withNode(http.MethodPost, serveClose)},
		{Pattern: "/edgerelay/groups", Handler: withNode(http.MethodGet, ServeGroups)},
		{Pattern: "/edgerelay/groups/{name}/history", Handler: withNode(http.MethodGet, serveGroupHistory)},
		{Pattern: "/edgerelay/groups/{name}/replay", Handler: withMethods(map[string]nodeHandler{
			http.MethodGet: ServeReplayPlan, http.MethodPost: ServeReplay,
		})},
		{Pattern: "/edgerelay/groups/{name}/tail", Handler: withNode(http.MethodGet, serveTail)},
		{Pattern: "/edgerelay/doctor", Handler: withNode(http.MethodPost, serveDoctor)},
		{Pattern: "/edgerelay/health", Handler: withNode(http.MethodGet, serveHealth)},
		{Pattern: "/edgerelay/health/ready", Handler: withNode(http.MethodGet, serveHealth)},
		{Pattern: "/edgerelay/health/live", Handler: withNode(http.MethodGet, serveLive)},
		{Pattern: "/edgerelay/presence", Handler: withNode(http.MethodGet, ServePresence)},
		{Pattern: "/edgerelay/drain", Handler: caddy.AdminHandlerFunc(serveDrain)},
		{Pattern: "/edgerelay/peers", Handler: withNode(http.MethodGet, servePeers)},
		{Pattern: "/edgerelay/plugins", Handler: withNode(http.MethodGet, servePlugins)},
		{Pattern: "/edgerelay/plugin-nodes", Handler: withNode(http.MethodGet, servePluginNodes)},
		{Pattern: "/edgerelay/plugins/{name}", Handler: withMethods(map[string]nodeHandler{
			http.MethodGet: servePlugin, http.MethodPut: ServeDeploy, http.MethodDelete: ServeUndeploy,
		})},
		{Pattern: "/edgerelay/plugins/{name}/deployment", Handler: withNode(http.MethodDelete, ServeUndeploy)},
		{Pattern: "/edgerelay/plugins/{name}/canary", Handler: withNode(http.MethodPut, ServeResizeCanary)},
		{Pattern: "/edgerelay/plugins/{name}/promote", Handler: withNode(http.MethodPost, ServePromote)},
		{Pattern: "/edgerelay/plugins/{name}/history", Handler: withNode(http.MethodGet, ServePluginHistory)},
		{Pattern: "/edgerelay/plugins/{name}/rollback", Handler: withNode(http.MethodPost, ServeRollback)},
		{Pattern: "/edgerelay/plugins/{name}/logs", Handler: withNode(http.MethodGet, servePluginLogs)},
		{Pattern: "/edgerelay/plugins/{name}/recording", Handler: withNode(http.MethodGet, serveRecording)},
		{Pattern: "/edgerelay/plugins/{name}/differences", Handler: withNode(http.MethodGet, servePluginDifferences)},
		{Pattern: "/edgerelay/logs", Handler: withNode(http.MethodGet, serveLogs)},
		{Pattern: "/edgerelay/secrets/find", Handler: withNode(http.MethodPost, serveFindSecrets)},
		{Pattern: "/edgerelay/publish", Handler: withNode(http.MethodPost, servePublish)},
	}
}

// serveOpenAPI returns the API's OpenAPI document.
func serveOpenAPI(w http.ResponseWriter, r *http.Request) error {
	if err := requireMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(docs.OpenAPI)
	return err
}

// withNode returns a handler that calls f with the current node. Requests of another method get a 405; without a
// configuration of the relay, all get a 503.
func withNode(method string, f nodeHandler) caddy.AdminHandlerFunc {
	return withMethods(map[string]nodeHandler{method: f})
}

// nodeHandler serves a request with the current node.
type nodeHandler func(*node.Node, http.ResponseWriter, *http.Request) error

// withMethods is [withNode] for several methods.
func withMethods(handlers map[string]nodeHandler) caddy.AdminHandlerFunc {
	methods := strings.Join(slices.Sorted(maps.Keys(handlers)), ", ")
	return func(w http.ResponseWriter, r *http.Request) error {
		f := handlers[r.Method]
		if f == nil {
			return requireMethod(w, r, methods)
		}
		n := node.Current()
		if n == nil {
			return errNoConfig
		}
		return f(n, w, r)
	}
}

// servePeers lists the nodes of the backplane.
func servePeers(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	plane := n.Backplane.Load()
	if plane == nil {
		err := errors.New("listing the peers: the current configuration has no backplane; add 'backplane' to the edgerelay block")
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	}
	return WriteJSON(w, plane.Status())
}

var _ caddy.AdminRouter = Admin{}

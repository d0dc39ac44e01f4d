package console

import (
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
)

// view writes a part of the console for an operator.
type view func(h *Handler, w http.ResponseWriter, r *http.Request, id relay.Identity) error

// views are the page and the data that it reads, by path below the console's.
var views = map[string]view{
	"":             (*Handler).servePage,
	"session":      (*Handler).serveSession,
	"overview":     adminView(admin.ServeOverview),
	"tail":         (*Handler).serveTail,
	"history":      (*Handler).serveHistory,
	"presence":     (*Handler).servePresence,
	"groups":       adminView(admin.ServeGroups),
	"connections":  adminView(admin.ServeConnections),
	"plugin-nodes": (*Handler).servePluginNodes,
	"versions":     namedView("plugin", admin.ServePluginHistory),
	"replay":       (*Handler).serveReplayPlan,
}

// adminView returns the view of a handler of the admin API.
func adminView(serve adminHandler) view {
	return func(h *Handler, w http.ResponseWriter, r *http.Request, _ relay.Identity) error {
		return serve(h.node, w, r)
	}
}

// namedView is adminView for a handler of a single object, which a parameter names.
func namedView(parameter string, serve adminHandler) view {
	return func(h *Handler, w http.ResponseWriter, r *http.Request, id relay.Identity) error {
		q := r.URL.Query()
		name := q.Get(parameter)
		q.Del(parameter)
		return serve(h.node, w, adminRequest(r, id, name, q))
	}
}

// serveReplayPlan describes the effect of a replay in a group that the operator may see.
func (h *Handler) serveReplayPlan(w http.ResponseWriter, r *http.Request, id relay.Identity) error {
	if err := h.authorizeGroup(r.Context(), id, r.URL.Query().Get("group")); err != nil {
		return err
	}
	return namedView("group", admin.ServeReplayPlan)(h, w, r, id)
}

// session tells the page the rights of its user.
type session struct {
	// User is the name of the operator, and Node that of the host.
	User string `json:"user"`
	Node string `json:"node"`
	// Actions, Uploads and Registries are the rights of the operator. Token is needed for each action.
	Actions    bool     `json:"actions"`
	Uploads    bool     `json:"uploads"`
	Registries []string `json:"registries,omitempty"`
	Token      string   `json:"token,omitempty"`
}

// serveSession tells the page the rights of its user.
func (h *Handler) serveSession(w http.ResponseWriter, r *http.Request, id relay.Identity) error {
	s := session{User: authorOf(id), Actions: h.mayAct(id) && h.checkHost(r) == nil}
	s.Node, _ = os.Hostname()
	if s.Actions {
		s.Registries = h.registries
		s.Uploads, s.Token = h.Uploads, tokensOf(h.node).issue(r, id, time.Now())
	}
	return admin.WriteJSON(w, s)
}

// nodesCache keeps the plugins of all nodes, which cost a read of the storage for each node.
type nodesCache struct {
	mu    sync.Mutex
	at    time.Time
	nodes admin.PluginNodes
}

// nodesInterval is the least time between two reads of the plugins of all nodes.
const nodesInterval = 5 * time.Second

// servePluginNodes shows which plugins the nodes run that share the storage.
func (h *Handler) servePluginNodes(w http.ResponseWriter, r *http.Request, _ relay.Identity) error {
	c := nodesCacheOf(h.node)
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) >= nodesInterval {
		nodes, err := admin.PluginNodesOf(r.Context(), h.node)
		if err != nil {
			return err
		}
		c.at, c.nodes = time.Now(), nodes
	}
	return admin.WriteJSON(w, c.nodes)
}

func nodesCacheOf(n *node.Node) *nodesCache {
	type key struct{}
	return n.Extension(key{}, func() any { return new(nodesCache) }).(*nodesCache)
}

package admin

import (
	"context"
	"net/http"
	"strings"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/internal/doctor"
)

// PluginNodes is the response to GET /edgerelay/plugin-nodes.
type PluginNodes struct {
	// Nodes are the nodes that share the storage, with their plugins.
	Nodes []pluginhost.NodeStatus `json:"nodes"`
	// Plugins tells whether all live nodes run the same, by plugin.
	Plugins []pluginhost.PluginConvergence `json:"plugins"`
}

// servePluginNodes shows which plugins the nodes run that share the storage.
func servePluginNodes(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	out, err := PluginNodesOf(r.Context(), n)
	if err != nil {
		return err
	}
	return WriteJSON(w, out)
}

// PluginNodesOf returns which plugins the nodes run that share the storage. The error is an answer for the client.
func PluginNodesOf(ctx context.Context, n *node.Node) (PluginNodes, error) {
	out := PluginNodes{Nodes: []pluginhost.NodeStatus{}, Plugins: []pluginhost.PluginConvergence{}}
	h := n.Plugins.Load()
	if h == nil {
		return out, nil
	}
	nodes, err := h.Nodes(ctx)
	if err != nil {
		return out, pluginError(err)
	}
	out.Nodes, out.Plugins = nodes, pluginhost.Converged(nodes)
	return out, nil
}

// checkPluginNodes examines whether all nodes run the same plugins.
func checkPluginNodes(ctx context.Context, running *node.Node) []doctor.Finding {
	h := running.Plugins.Load()
	if h == nil || len(h.Pipeline.Health()) == 0 {
		return nil
	}
	nodes, err := h.Nodes(ctx)
	if err != nil {
		return []doctor.Finding{doctor.PluginNodes(0, nil, nil, err)}
	}
	live, stale, differ := 0, []string{}, []string{}
	for _, n := range nodes {
		switch n.State {
		case pluginhost.NodeLive:
			live++
		case pluginhost.NodeStale:
			stale = append(stale, n.Node)
		}
	}
	for _, p := range pluginhost.Converged(nodes) {
		if !p.Converged {
			differ = append(differ, p.Name+": "+strings.Join(p.Why, "; "))
		}
	}
	return []doctor.Finding{doctor.PluginNodes(live, stale, differ, nil)}
}

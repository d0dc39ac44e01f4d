package node

import (
	"context"
	"errors"
	"log/slog"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// planPlugins reads, compiles and checks the plugins of c, which may take long. The plan is nil if there is nothing to
// change.
func (n *Node) planPlugins(c *Config) (*pluginhost.Plan, error) {
	h, err := n.pluginHost(c)
	if h == nil {
		return nil, err
	}
	h.SetLoading(c.PluginLoading)
	return h.Plan(context.Background(), c.Plugins, c.ModuleStore)
}

// pluginHost returns the host of plugins, nil if neither this nor an earlier configuration needs one.
func (n *Node) pluginHost(c *Config) (*pluginhost.Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.Plugins.Load()
	if h != nil || len(c.Plugins) == 0 {
		return h, nil
	}
	h, err := pluginhost.New(n.Hub, n.Log, slog.New(n.logOutlet))
	if err == nil {
		n.Plugins.Store(h)
	}
	return h, err
}

// installPlugins makes a plan effective. The caller holds n.mu.
func (n *Node) installPlugins(plan *pluginhost.Plan) error {
	if plan == nil {
		return nil
	}
	return n.Plugins.Load().Install(plan)
}

// settlePlugins makes the plugins of c the only ones, after another configuration was rejected or has stopped. The
// caller holds n.mu.
func (n *Node) settlePlugins(c *Config) {
	h := n.Plugins.Load()
	if h == nil {
		return
	}
	h.SetLoading(c.PluginLoading)
	if err := h.Apply(context.Background(), c.Plugins, c.ModuleStore); err != nil {
		n.Log.Error("plugins of the configuration not applied", "error", err,
			"effect", "plugins of another configuration run",
			"remedy", "load a configuration whose plugins can be read")
	}
}

// RunPlugins makes list, a part of the plugins of c, the only ones until another configuration is applied.
func (n *Node) RunPlugins(ctx context.Context, c *Config, list []*pluginhost.Plugin) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := len(n.attached) - 1; last < 0 || n.attached[last] != c {
		return errors.New("the configuration has changed; try again")
	}
	h := n.Plugins.Load()
	if h == nil {
		return nil
	}
	return h.Apply(ctx, list, c.ModuleStore)
}

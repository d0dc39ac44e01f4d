package node

import (
	"context"
	"log/slog"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// applyPlugins applies the plugins of c. The caller holds n.mu.
func (n *Node) applyPlugins(c *Config) error {
	h := n.Plugins.Load()
	if h == nil {
		if len(c.Plugins) == 0 {
			return nil
		}
		var err error
		if h, err = pluginhost.New(n.Hub, n.Log, slog.New(n.logOutlet)); err != nil {
			return err
		}
		n.Plugins.Store(h)
	}
	h.SetLoading(c.PluginLoading)
	return h.Apply(context.Background(), c.Plugins, c.ModuleStore)
}

// restorePlugins applies the plugins of c again, after another configuration was rejected. The caller holds n.mu.
func (n *Node) restorePlugins(c *Config) {
	if err := n.applyPlugins(c); err != nil {
		n.Log.Error("earlier plugins not restored", "error", err,
			"effect", "plugins of the rejected configuration run",
			"remedy", "load a configuration whose plugins can be read")
	}
}

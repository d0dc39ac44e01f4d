package node

import (
	"context"
	"log/slog"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// applyPlugins makes the plugins follow c. n.mu is held.
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
	if err := h.Apply(context.Background(), c.Plugins, c.ModuleStore); err != nil {
		return err
	}
	return nil
}

// restorePlugins makes the plugins follow c again, after another configuration was refused. n.mu is held.
func (n *Node) restorePlugins(c *Config) {
	if err := n.applyPlugins(c); err != nil {
		n.Log.Error("the plugins of the refused configuration go on: those before cannot be loaded any more", "error", err)
	}
}

package caddymodule

import (
	"context"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
)

// provisionPlugins checks the plugins' settings, and their modules unless Start is about to: `caddy validate` goes no further.
func (a *App) provisionPlugins(ctx caddy.Context) error {
	for _, p := range a.Plugins {
		if err := p.provision(); err != nil {
			return err
		}
	}
	a.config.Modules = moduleStore{ctx.Storage()}
	if a.node.hasConfig() {
		return nil
	}
	return checkPlugins(ctx, a.Plugins, a.config.Modules)
}

// applyPlugins makes the plugins follow c. n.mu is held.
func (n *node) applyPlugins(c *nodeConfig) error {
	h := n.plugins.Load()
	if h == nil {
		if len(c.Plugins) == 0 {
			return nil
		}
		var err error
		if h, err = newPluginHost(n.hub, n.log, slog.New(n.out)); err != nil {
			return err
		}
		n.plugins.Store(h)
	}
	if err := h.apply(context.Background(), c.Plugins, c.Modules); err != nil {
		return err
	}
	return nil
}

// restorePlugins makes the plugins follow c again, after another configuration was refused. n.mu is held.
func (n *node) restorePlugins(c *nodeConfig) {
	if err := n.applyPlugins(c); err != nil {
		n.log.Error("the plugins of the refused configuration go on: those before cannot be loaded any more", "error", err)
	}
}

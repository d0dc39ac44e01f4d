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
	a.modules = moduleStore{ctx.Storage()}
	if a.node.hasConfig() {
		return nil
	}
	return checkPlugins(ctx, a.Plugins, a.modules)
}

// applyPlugins makes the plugins follow a. n.mu is held.
func (n *node) applyPlugins(a *App) error {
	h := n.plugins.Load()
	if h == nil {
		if len(a.Plugins) == 0 {
			return nil
		}
		var err error
		if h, err = newPluginHost(n.hub, n.log, slog.New(n.out)); err != nil {
			return err
		}
		n.plugins.Store(h)
	}
	if err := h.apply(context.Background(), a.Plugins, a.modules); err != nil {
		return err
	}
	return nil
}

// restorePlugins makes the plugins follow a again, after another configuration was refused. n.mu is held.
func (n *node) restorePlugins(a *App) {
	if err := n.applyPlugins(a); err != nil {
		n.log.Error("the plugins of the refused configuration go on: those before cannot be loaded any more", "error", err)
	}
}

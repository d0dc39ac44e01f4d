package caddymodule

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
)

// clientAuth authenticates the clients of a handler's paths, or of a route.
type clientAuth struct {
	relay.Authorizer
	// messages tells how clients send tokens in messages; nil: they do not.
	messages guest.TokenAuth
	// route is nil for clients of AWX's protocol.
	route *Route
}

// loadedAuth is an auth that routes have in common.
type loadedAuth struct {
	auth       guest.Auth
	authorizer relay.Authorizer
}

// defaultAuth returns the app's auth, for clients of routes without an auth of their own.
func (a *App) defaultAuth() clientAuth {
	messages, _ := a.config.Auth.(guest.TokenAuth)
	return clientAuth{Authorizer: a.authorizers, messages: messages}
}

// addAuth loads the auth of a route, a module of edgerelay.auth with the inline key "kind"; without one, the route has
// the app's. name identifies the route across configurations: its clients stay connected after a reload, under the new
// settings. Routes with equal settings share an authorizer, and so its cache and keys. A handler calls addAuth in
// Provision.
func (a *App) addAuth(ctx caddy.Context, name string, raw json.RawMessage) (clientAuth, error) {
	if raw == nil {
		return a.defaultAuth(), nil
	}
	loaded, ok := a.routeAuth[string(raw)]
	if !ok {
		var err error
		if loaded, err = a.loadAuth(ctx, raw); err != nil {
			return clientAuth{}, fmt.Errorf("auth: %w", err)
		}
		if a.routeAuth == nil {
			a.routeAuth = map[string]loadedAuth{}
		}
		a.routeAuth[string(raw)] = loaded
	}
	if a.authNames == nil {
		a.authNames = map[string]int{}
	}
	if a.authNames[name]++; a.authNames[name] > 1 { // the same route of another site
		name += "\x00" + strconv.Itoa(a.authNames[name])
	}
	member, err := a.authorizers.Add(name, loaded.authorizer)
	messages, _ := loaded.auth.(guest.TokenAuth)
	return clientAuth{Authorizer: member, messages: messages}, err
}

// loadAuth loads a route's module and adds it to the configuration.
func (a *App) loadAuth(ctx caddy.Context, raw json.RawMessage) (loaded loadedAuth, err error) {
	holder := struct {
		AuthRaw json.RawMessage `caddy:"namespace=edgerelay.auth inline_key=kind"`
	}{raw}
	module, err := ctx.LoadModule(&holder, "AuthRaw")
	if err != nil {
		return loaded, err
	}
	loaded.auth = module.(guest.Auth)
	var recheck time.Duration
	if loaded.authorizer, recheck, err = loaded.auth.Authorizer(); err != nil {
		return loaded, err
	}
	a.config.RouteAuth = append(a.config.RouteAuth, loaded.auth)
	addRecheck(a.config, loaded.auth, recheck)
	return loaded, nil
}

// addRecheck shortens the recheck interval and the grace time of a configuration to those of an auth.
func addRecheck(c *node.Config, auth guest.Auth, recheck time.Duration) {
	if recheck > 0 && (c.Recheck == 0 || recheck < c.Recheck) {
		c.Recheck = recheck
	}
	bounded, ok := auth.(guest.RecheckGracer)
	if !ok {
		return
	}
	if grace := bounded.Grace(); grace >= 0 && (c.RecheckGrace < 0 || grace < c.RecheckGrace) {
		c.RecheckGrace = grace
	}
}

// Package guests has two guest modules to copy: a channel layer and an authenticator that are not part of edgerelay.
//
// A guest module is a Caddy module in one of edgerelay's namespaces. It registers itself in init, and a Caddyfile names
// it by the last part of its ID:
//
//	edgerelay.channel_layers.<kind>   channel_layer <kind> …   caddymodule/guest.ChannelLayer
//	edgerelay.auth.<kind>             auth <kind> …            caddymodule/guest.Auth
//	edgerelay.discovery.<kind>        backplane { <kind> … }   relay/backplane.Discoverer
//
// Copy the file into a module of your own, change its name, and build it in with
//
//	xcaddy build --with github.com/edgerelay/edgerelay/caddymodule --with example.com/your/module
//
// The methods that Caddy calls (CaddyModule, Provision, UnmarshalCaddyfile) are described in Caddy's documentation,
// "Extending Caddy". Package relay describes the rest, and lists the optional interfaces that a channel layer or an
// authorizer may have as well.
package guests

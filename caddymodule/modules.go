package caddymodule

// Importing this package registers the whole plugin: the packages below register their modules, endpoints, commands and
// directives with Caddy in init.
import (
	_ "github.com/edgerelay/edgerelay/caddymodule/admin"
	_ "github.com/edgerelay/edgerelay/caddymodule/auth"
	_ "github.com/edgerelay/edgerelay/caddymodule/cli"
	_ "github.com/edgerelay/edgerelay/caddymodule/console"
	_ "github.com/edgerelay/edgerelay/caddymodule/discovery"
	_ "github.com/edgerelay/edgerelay/caddymodule/layers"
	_ "github.com/edgerelay/edgerelay/caddymodule/publishing"
	_ "github.com/edgerelay/edgerelay/caddymodule/uwsgi"
)

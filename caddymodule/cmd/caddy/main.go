// Command caddy is Caddy with its standard modules and edgerelay, for development:
// it builds in seconds. What is released is built by xcaddy (internal/build).
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/edgerelay/edgerelay/caddymodule"
)

func main() { caddycmd.Main() }

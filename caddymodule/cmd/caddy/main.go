// Command caddy is Caddy with the standard modules and edgerelay. It builds in seconds and serves development and
// releases, which name it edgerelay; xcaddy builds bin/caddy (internal/build).
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/edgerelay/edgerelay/caddymodule"
)

func main() {
	caddycmd.Main()
}

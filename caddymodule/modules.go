package caddymodule

// The guest modules that belong to every build. Importing them here, and not in a main package, includes them in
// `xcaddy build --with`, too.
import (
	_ "github.com/edgerelay/edgerelay/caddymodule/discovery" // edgerelay.discovery.*
)

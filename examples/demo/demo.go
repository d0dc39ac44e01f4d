// Package demo contains the page of `make run`. The page connects with the browser client, lists the events of some
// groups, publishes events, loses its connection on request, and switches a plugin.
package demo

import "embed"

// Page is the HTML of the page. All of its addresses are relative.
//
//go:embed index.html
var Page []byte

// Assets are the page's script and style, below demo/ of the page's address.
//
//go:embed page.js network.js style.css
var Assets embed.FS

// Redact is the plugin of `caddy edgerelay demo`: examples/plugins/redact-c/plugin.wasm, which is in another Go module.
//
//go:embed redact.wasm
var Redact []byte

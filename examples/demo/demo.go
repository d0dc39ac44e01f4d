// Package demo is the page that `make run` shows: it connects to the relay,
// subscribes to groups, lists their events and publishes one.
package demo

import _ "embed"

// Page is the whole page, HTML with its style and script. It asks for nothing
// but websocket/ and publish (a POST of {"group": …, "data": …}), both relative
// to its own address. Not to be changed.
//
//go:embed index.html
var Page []byte

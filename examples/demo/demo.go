// Package demo contains the page of `make run`, which connects to the relay, subscribes to groups, lists their events
// and publishes an event.
package demo

import _ "embed"

// Page is the whole page: HTML with style and script. The page uses only websocket/ and publish (a POST of
// {"group": …, "data": …}), both relative to its own address. The bytes must not change.
//
//go:embed index.html
var Page []byte

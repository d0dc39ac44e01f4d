package caddymodule

import (
	"fmt"

	"github.com/edgerelay/edgerelay/caddymodule/node"
)

// config returns the settings for the node.
func (b *Backplane) config() *node.Backplane {
	return &node.Backplane{
		Settings: b.settings, Key: b.key,
		TLSKey: fmt.Sprint(b.serverName, b.TLSInsecureSkipVerify, b.roots),
	}
}

package caddymodule

import "fmt"

// config returns the settings for the node.
func (b *Backplane) config() *planeConfig {
	return &planeConfig{
		Settings: b.settings, Key: b.key,
		TLSKey: fmt.Sprint(b.serverName, b.TLSInsecureSkipVerify, b.roots),
	}
}

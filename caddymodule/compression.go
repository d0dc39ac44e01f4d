package caddymodule

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

// Compression compresses events for clients that offer permessage-deflate, as all browsers do. Each event is compressed
// once for all of them.
type Compression struct {
	// Enabled turns compression on or off, for open connections as well. Default: true.
	Enabled *bool `json:"enabled,omitempty"`
	// MinSize is the length of the shortest event that is compressed. Default: 512 bytes.
	MinSize int `json:"min_size,omitempty" caddyfile:"<size>" min:"1"`
	// Level is the effort, from 1 (fast) to 9 (small). Level 5 takes half as long again as level 1, for a tenth fewer
	// bytes. Default: 1.
	Level int `json:"level,omitempty" caddyfile:"<1 to 9>" min:"1"`
	// Exclude are groups whose events are not compressed, because outsiders could place a text beside a secret in them:
	// names in which "*" stands for any run of characters. They are added to AWX's groups that are excluded by default:
	// ad_hoc_command_events-*, inventory_update_events-* and project_update_events-*.
	Exclude []string `json:"exclude,omitempty" caddyfile:"<pattern>..." example:"job_events-*"`
	// Include takes groups that are excluded by default from the list: the pattern exactly as above.
	Include []string `json:"include,omitempty" caddyfile:"<pattern>..." example:"project_update_events-*"`
}

// defaultExclude are AWX's groups whose ordinary events have text of outsiders beside secrets.
// See docs/decisions/transport.md#why-are-some-groups-not-compressed
func defaultExclude() []string {
	return []string{"ad_hoc_command_events-*", "inventory_update_events-*", "project_update_events-*"}
}

// ReadBlock reads `compression off` or `compression { … }`.
func (c *Compression) ReadBlock(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		on := d.Val() == "on"
		if !on && d.Val() != "off" {
			return d.Errf("edgerelay: compression: invalid value %q; %s", d.Val(),
				settings.Remedy(d.Val(), []string{"on", "off"}, "use on, off or a block"))
		}
		c.Enabled = &on
		if d.NextArg() {
			return d.ArgErr()
		}
	}
	return settings.Read(d, "compression", c)
}

// settings checks the settings and returns them with the defaults; nil is off.
func (c *Compression) settings() (*deflate.Settings, error) {
	s := &deflate.Settings{
		MinSize: deflate.DefaultMinSize, Level: deflate.DefaultLevel, Exclude: defaultExclude(),
	}
	if c == nil {
		return s, nil
	}
	if c.MinSize != 0 {
		s.MinSize = c.MinSize
	}
	if c.Level != 0 {
		s.Level = c.Level
	}
	for _, pattern := range c.Exclude {
		if err := checkPattern("compression", pattern); err != nil {
			return nil, err
		}
	}
	for _, pattern := range c.Include {
		at := slices.Index(s.Exclude, pattern)
		if at < 0 {
			return nil, fmt.Errorf("edgerelay: compression: include: %q is not excluded by default; use one of %v",
				pattern, defaultExclude())
		}
		s.Exclude = slices.Delete(s.Exclude, at, at+1)
	}
	s.Exclude = append(s.Exclude, c.Exclude...)
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("edgerelay: compression: %w", err)
	}
	if c.Enabled != nil && !*c.Enabled {
		return nil, nil
	}
	return s, nil
}

package caddymodule

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay"
)

// History keeps recent events of groups, so that clients which reconnect get the events that they missed. Of several
// blocks, the first with a pattern that matches a group applies.
type History struct {
	// Groups are the groups with this history: names in which "*" stands for any run of characters.
	Groups []string `json:"groups,omitempty" caddyfile:"<pattern>..." example:"job_events-*"`
	// Count is the number of events that are kept for each group. Default: 1000.
	Count int `json:"count,omitempty" caddyfile:"<events>" min:"1"`
	// Size is the number of bytes that the events of each group may have. Default: 1 MiB.
	Size int `json:"size,omitempty" caddyfile:"<size>"`
	// Age is how long events are kept, and how long the node stays a member of the group after the last client has
	// left. Default: 5m.
	Age caddy.Duration `json:"age,omitempty" caddyfile:"<duration>" min:"1"`
}

// ReadBlock reads `history <pattern>... { … }`.
func (h *History) ReadBlock(d *caddyfile.Dispenser) error {
	h.Groups = d.RemainingArgs()
	return settings.Read(d, "history", h)
}

// historyPolicy checks the settings.
func (a *App) historyPolicy() (p relay.HistoryPolicy, err error) {
	replaced := placeholders.New()
	p.Key = replaced.In("history_key", a.HistoryKey)
	if err := replaced.Err(); err != nil {
		return p, fmt.Errorf("edgerelay: %w", err)
	}
	for _, h := range a.History {
		limits := relay.DefaultHistoryLimits
		if h.Count != 0 {
			limits.Count = h.Count
		}
		if h.Size != 0 {
			limits.Bytes = h.Size
		}
		if h.Age != 0 {
			limits.Age = time.Duration(h.Age)
		}
		if len(h.Groups) == 0 {
			return p, fmt.Errorf("edgerelay: history: no groups; name them, as in: history job_events-*")
		}
		for _, pattern := range h.Groups {
			p.Rules = append(p.Rules, relay.HistoryRule{Pattern: pattern, HistoryLimits: limits})
		}
	}
	if err := p.Validate(); err != nil {
		return p, fmt.Errorf("edgerelay: history: %w", err)
	}
	return p, nil
}

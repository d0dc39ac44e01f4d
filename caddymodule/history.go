package caddymodule

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// History keeps recent events of groups, so that clients which reconnect get the events that they missed. Of several
// blocks, the first with a pattern that matches a group applies.
type History struct {
	// Groups are the groups with this history: names in which "*" stands for any run of characters.
	Groups []string `json:"groups,omitempty" caddyfile:"<pattern>..." example:"job_events-*"`
	// Count is the number of events that are kept for each group. Default: 1000.
	Count int `json:"count,omitempty" caddyfile:"<events>" min:"1"`
	// Size is the number of bytes that the events of each group may have. Default: 1 MiB.
	Size int `json:"size,omitempty" caddyfile:"<size>" min:"1"`
	// Age is how long events are kept, and how long the node stays a member of the group after the last client has
	// left. Default: 5m.
	Age caddy.Duration `json:"age,omitempty" caddyfile:"<duration>" min:"1"`
}

// ReadBlock reads `history <pattern>... { … }`.
func (h *History) ReadBlock(d *caddyfile.Dispenser) error {
	h.Groups = d.RemainingArgs()
	return settings.Read(d, "history", h)
}

// minHistoryKey is the least length of a key, in bytes: a key that can be guessed tells whether a withheld event has a
// certain text.
const minHistoryKey = 16

// historyPolicy checks the settings.
func (a *App) historyPolicy() (p relay.HistoryPolicy, err error) {
	p.Exempt = []string{awx.BroadcastGroup} // copies of all events between AWX's nodes, which no client gets
	replaced := placeholders.New()
	p.Key = replaced.In("history_key", a.HistoryKey)
	if err := replaced.Err(); err != nil {
		return p, fmt.Errorf("edgerelay: %w", err)
	}
	if p.Key != "" && len(p.Key) < minHistoryKey {
		return p, fmt.Errorf("edgerelay: history_key: the key has %d bytes; use at least %d random characters",
			len(p.Key), minHistoryKey)
	}
	for _, h := range a.History {
		if len(h.Groups) == 0 {
			return p, errors.New("edgerelay: history: no groups; name them, as in: history job_events-*")
		}
		for _, pattern := range h.Groups {
			if err := checkPattern("history", pattern); err != nil {
				return p, err
			}
			for _, before := range p.Rules {
				if before.Pattern == pattern {
					return p, fmt.Errorf("edgerelay: history: %s is listed twice, and only the first counts; remove one", pattern)
				}
				// Only a "*" of the earlier pattern matches a "*" of this one.
				if covered, err := path.Match(before.Pattern, pattern); covered && err == nil {
					return p, fmt.Errorf("edgerelay: history: %s has no effect behind %s, which comes before and matches the "+
						"same groups; put %[1]s before %[2]s", pattern, before.Pattern)
				}
			}
			p.Rules = append(p.Rules, relay.HistoryRule{Pattern: pattern, HistoryLimits: h.limits()})
		}
	}
	if err := p.Validate(); err != nil {
		return p, fmt.Errorf("edgerelay: history: %w", err)
	}
	return p, nil
}

// checkPattern returns an error for a pattern of a setting that matches no group's name, which would be silence.
func checkPattern(setting, pattern string) error {
	if !relay.ValidGroup(strings.ReplaceAll(pattern, "*", "x")) {
		return fmt.Errorf("edgerelay: %s: no group has the name %q; use ASCII letters, digits, '-', '_' and '.', "+
			"with * for any characters, as in job_events-*", setting, pattern)
	}
	return nil
}

// limits returns the bounds, with defaults.
func (h *History) limits() relay.HistoryLimits {
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
	return limits
}

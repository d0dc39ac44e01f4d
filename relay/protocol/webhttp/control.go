package webhttp

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Bounds of what control messages may ask of a connection.
const (
	maxFilters      = 5
	maxKeptMessage  = 64 << 10
	maxControlDelay = 24 * time.Hour
	// The times of keep-alive and send-delayed without a timeout.
	defaultKeepAlive = 55 * time.Second
	defaultDelay     = time.Second
)

var errFilters = fmt.Errorf("a subscription with more than %d filters; use fewer", maxFilters)

// control is a control message: the JSON behind "c:".
type control struct {
	Type        string          `json:"type"`
	Channel     string          `json:"channel"`
	Filters     []string        `json:"filters"`
	Name        string          `json:"name"`
	Value       *string         `json:"value"`
	MessageType string          `json:"message-type"`
	Content     *string         `json:"content"`
	ContentBin  *string         `json:"content-bin"`
	Timeout     json.RawMessage `json:"timeout"`
	Mode        string          `json:"mode"`
}

// applyControl handles a control message. Unknown and malformed ones are ignored, as in Pushpin, and logged.
func (c *Conn) applyControl(raw []byte, out *output) *failure {
	var m control
	if err := json.Unmarshal(raw, &m); err != nil {
		c.ignore("malformed", err.Error())
		return nil
	}
	switch m.Type {
	case "subscribe", "unsubscribe":
		if m.Channel == "" {
			c.ignore(m.Type, "no channel")
			return nil
		}
		switch {
		case m.Type == "unsubscribe":
			c.removeChannel(m.Channel)
		case len(m.Filters) > maxFilters: // without the others, the client could get what they withhold
			return &failure{code: closeInternal, reason: "too many filters", err: errFilters}
		default:
			c.addChannel(m.Channel, m.Filters)
			// Twice as many, because an answer may replace all. The work for each grows with their number.
			if n, most := len(c.currentGroups()), c.session.Limits().GroupsPerConnection; most > 0 && n > 2*most {
				return tooManyChannels(relay.TooManyGroupsError{Wanted: n, Limit: most})
			}
		}
		out.resubscribe = true
	case "detach":
		c.flush(out)
		c.turnTo(backendDetaches)
	case "set-meta":
		c.setValue(m.Name, m.Value)
	case "keep-alive", "send-delayed":
		frame, timeout, ok := m.frame(c.backend.times.minClientIdle)
		switch {
		case m.Type == "keep-alive" && !ok:
			c.keepClientAlive(nil, 0, false)
		case m.Type == "keep-alive":
			c.keepClientAlive(frame, timeout, m.Mode == "interval")
		case ok:
			c.flush(out)
			c.sendLater(frame, timeout)
		}
	case "flush-delayed":
		c.flush(out)
		c.flushDelayed()
	default:
		c.ignore(m.Type, "unknown type")
	}
	return nil
}

func (c *Conn) ignore(what, reason string) {
	c.backend.current.Load().Log.Warn("backend control message ignored", "type", what, "reason", reason)
}

// frame returns the message of keep-alive and send-delayed, and its time, which for keep-alive is at least least. ok is
// false without one.
func (m *control) frame(least time.Duration) (frame []byte, timeout time.Duration, ok bool) {
	k := kindText
	var content []byte
	switch {
	case m.ContentBin != nil:
		b, err := base64.StdEncoding.DecodeString(*m.ContentBin)
		if err != nil {
			return nil, 0, false
		}
		content, k = b, kindBinary
	case m.Content != nil:
		content = []byte(*m.Content)
	}
	if m.MessageType != "" {
		named, known := kindNamed(m.MessageType)
		if !known {
			return nil, 0, false
		}
		k = named
	} else if m.ContentBin == nil && m.Content == nil {
		return nil, 0, false
	}
	var seconds float64
	if m.Timeout != nil && json.Unmarshal(m.Timeout, &seconds) != nil || !(seconds >= 0) || len(content) > maxKeptMessage ||
		!k.isData() && len(content) > maxControl {
		return nil, 0, false
	}
	timeout = time.Duration(min(seconds, maxControlDelay.Seconds()) * float64(time.Second))
	switch {
	case m.Type == "keep-alive" && timeout == 0:
		timeout = defaultKeepAlive
	case m.Type == "keep-alive":
		timeout = max(timeout, least)
	case timeout == 0:
		timeout = defaultDelay
	}
	return appendFrame(nil, k, content), timeout, true
}

// groupsOf returns the groups of a channel: its own, and the Channels group that the settings map it to.
func (c *Conn) groupsOf(channel string) []string {
	groups := []string{Group(channel)}
	if s := c.backend.current.Load(); s.MapChannel != nil && s.MapChannel(channel) {
		groups = append(groups, channel)
	}
	return groups
}

// addChannel adds the groups of a channel. A repeated subscription replaces the filters.
func (c *Conn) addChannel(channel string, filters []string) {
	filters = slices.Clone(filters)
	for _, name := range c.groupsOf(channel) {
		entry := groupEntry{name: strings.Clone(name), filters: filters}
		groups := slices.Clone(c.currentGroups())
		if i := slices.IndexFunc(groups, func(g groupEntry) bool { return g.name == name }); i >= 0 {
			entry.granted = groups[i].granted
			groups[i] = entry
		} else {
			groups = append(groups, entry)
		}
		c.changeGroups(groups)
	}
}

// removeChannel removes the groups of a channel.
func (c *Conn) removeChannel(channel string) {
	names := c.groupsOf(channel)
	c.changeGroups(slices.DeleteFunc(slices.Clone(c.currentGroups()), func(g groupEntry) bool {
		return slices.Contains(names, g.name) && !g.granted
	}))
}

// currentGroups returns the groups, which do not change. The end of the client can replace them at any time.
func (c *Conn) currentGroups() []groupEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.groups
}

// changeGroups replaces the groups, and tells the format which of them have subscribers with filters. A client that is
// gone has no groups.
func (c *Conn) changeGroups(groups []groupEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase.changes() {
		c.replaceGroups(groups)
	}
}

// replaceGroups is changeGroups in any phase. c.mu is held.
func (c *Conn) replaceGroups(groups []groupEntry) {
	for _, g := range groups {
		c.backend.format.countFiltered(g, 1)
	}
	for _, g := range c.groups {
		c.backend.format.countFiltered(g, -1)
	}
	c.groups = slices.Clip(groups)
}

// setValue sets a value that filters compare. Nil removes it.
func (c *Conn) setValue(name string, value *string) {
	if name == "" || value != nil && len(name)+len(*value) > 1024 {
		c.ignore("set-meta", "no name, or more than 1024 bytes")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.extras()
	x.values = slices.DeleteFunc(x.values, func(p pair) bool { return p.name == name })
	if value != nil && len(x.values) < maxMeta {
		x.values = append(x.values, pair{name, *value})
	}
}

package caddymodule

import (
	"errors"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// RouteFirst is what a client gets before all events. Of several, the text comes first, then the response of the site,
// then the list of present users, and then the history.
type RouteFirst struct {
	// Text is a text frame. Placeholders are replaced, with their values escaped as inside a JSON string.
	Text string `json:"text,omitempty"`
	// Fetch asks the site for the frame, with the browser's cookies. Events that arrive meanwhile follow the frame.
	Fetch *RouteFetch `json:"fetch,omitempty"`
	// History is the number of last events of the route's groups, which the route's rules map to frames. The groups need
	// a history, see the global option's history.
	History int `json:"history,omitempty"`
	// Presence is a frame with the users who are in the groups. The route needs presence. Default: false.
	Presence bool `json:"presence,omitempty"`
}

// firstFrame is a checked RouteFirst.
type firstFrame struct {
	text    channels.Template
	hasText bool
	fetch   *fetcher
	history int
	// presence is nil if the users are not listed.
	presence *node.RoutePresence
}

// slow reports whether a part of the first frames takes time.
func (f *firstFrame) slow() bool { return f.fetch != nil || f.presence != nil }

// maxFirstHistory bounds the events that each client of a route begins with.
const maxFirstHistory = 10_000

// compile checks the settings. A nil RouteFirst is no first frame.
func (f *RouteFirst) compile(ctx caddy.Context, app *App, rt *Route) (*firstFrame, error) {
	if f == nil {
		return &firstFrame{}, nil
	}
	first := &firstFrame{history: f.History, hasText: f.Text != ""}
	if f.History < 0 || f.History > maxFirstHistory {
		return nil, fmt.Errorf("first history: invalid number %d; use 1 to %d", f.History, maxFirstHistory)
	}
	if f.History > 0 && !rt.mayHaveHistory(app.config.History) {
		return nil, errors.New("first history: no group of the route has a history; add 'history <pattern>' to the global " +
			"option edgerelay")
	}
	first.text = channels.ParseText(f.Text)
	for _, name := range first.text.Names() {
		if !rt.knows(name) {
			return nil, fmt.Errorf("first text: {%s} is no parameter of the path; write {%s} into the path", name, name)
		}
	}
	if f.Fetch != nil {
		var err error
		if first.fetch, err = f.Fetch.compile(ctx, rt); err != nil {
			return nil, fmt.Errorf("first fetch: %w", err)
		}
	}
	return first, nil
}

// mayHaveHistory reports whether a group of the route may have a history. Clients may choose the groups of a route
// without any, and what a placeholder becomes is not known.
func (rt *Route) mayHaveHistory(policy relay.HistoryPolicy) bool {
	if len(policy.Rules) == 0 {
		return false
	}
	return len(rt.groups) == 0 || slices.ContainsFunc(rt.groups, func(t channels.Template) bool {
		_, ok := policy.Limits(t.String())
		return ok || len(t.Names()) > 0
	})
}

// greeting returns the frame with the constant text, nil without one.
func (f *firstFrame) greeting(p *routeValues) []byte {
	if !f.hasText {
		return nil
	}
	text, err := f.text.Render(func(_, name string) (string, error) {
		values := p.values(name)
		if len(values) == 0 {
			return "", nil
		}
		quoted := pyjson.AppendString(nil, values[0])
		return string(quoted[1 : len(quoted)-1]), nil
	})
	if err != nil {
		return nil
	}
	return relay.AppendFrame(nil, []byte(text))
}

// errNoValue is the error for a URL with a placeholder that has no value.
var errNoValue = errors.New("the placeholder has no value")

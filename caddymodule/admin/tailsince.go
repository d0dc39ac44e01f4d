package admin

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// sinceTail is the wish of a tail for earlier events.
type sinceTail struct {
	// resume is nil for a tail of live events.
	resume *relay.Resume
	// from is the time of the first event, zero for any.
	from time.Time
}

// tailSince reads the parameter since: a position, a duration, a time, or a number of last events. An empty text is no
// wish. The error is an answer for the client.
func tailSince(n *node.Node, group, text string) (s sinceTail, err error) {
	if text == "" {
		return s, nil
	}
	if s, err = parseTailSince(text, time.Now()); err != nil {
		return s, badRequest(err)
	}
	if strings.Contains(group, "*") { // the hub has an error for it
		return s, nil
	}
	history := n.Hub.History()
	if history == nil {
		return s, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errNoHistory}
	}
	limits, ok := history.Limits(group)
	if !ok {
		return s, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errNoHistory}
	}
	if !s.from.IsZero() {
		s.resume.Latest = limits.Count
	}
	return s, nil
}

// parseTailSince reads a wish. With a time, the number of events is still to be set.
func parseTailSince(text string, now time.Time) (s sinceTail, err error) {
	if position, err := relay.ParsePosition(text); err == nil {
		return sinceTail{resume: &relay.Resume{After: []relay.Position{position}}}, nil
	}
	number := strings.TrimSpace(strings.TrimPrefix(text, "latest"))
	if latest, err := strconv.ParseUint(number, 10, 31); err == nil && latest > 0 {
		return sinceTail{resume: &relay.Resume{Latest: int(latest)}}, nil
	}
	if ago, err := caddy.ParseDuration(text); err == nil && ago > 0 {
		return sinceTail{resume: &relay.Resume{}, from: now.Add(-ago)}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return sinceTail{resume: &relay.Resume{}, from: at}, nil
	}
	return s, fmt.Errorf("invalid since %.40q; use a duration such as 5m, a time such as 2006-01-02T15:04:05Z, "+
		"'latest 20', or a position", text)
}

// trim leaves out the events of the history that are too old.
func (s *sinceTail) trim(events []hub.TailEvent) []hub.TailEvent {
	if s.from.IsZero() {
		return events
	}
	for len(events) > 0 && events[0].Source == relay.FromHistory && timeOf(&events[0]).Before(s.from) {
		events = events[1:]
	}
	return events
}

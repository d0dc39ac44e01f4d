package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// Replay is the response to GET and POST /edgerelay/groups/<name>/replay: what clients of this node are told.
type Replay struct {
	// Clients is the number of clients with positions, which are told of a gap. Resync is the number of other clients,
	// which get the text of the setting resync, and Untold their number if there is no such text.
	Clients int `json:"clients"`
	Resync  int `json:"resync"`
	Untold  int `json:"untold"`
	// Position is the place in the history from which clients get the events again, and Events the number of events
	// behind it. Absent if clients have to fetch the events elsewhere, for Reason.
	Position string    `json:"position,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Events   int       `json:"events"`
	Reason   string    `json:"reason,omitempty"`
}

// errReplaySince is the error for a missing beginning of a replay.
var errReplaySince = errors.New(
	"since is missing; use a duration such as 5m, a time such as 2006-01-02T15:04:05Z, or a position")

// ServeReplayPlan describes the effect of a replay.
func ServeReplayPlan(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	plan, err := planReplay(n, r)
	if err != nil {
		return err
	}
	return WriteJSON(w, replayOf(plan))
}

// ServeReplay tells the clients of a group that they may have missed events.
func ServeReplay(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	plan, err := planReplay(n, r)
	if err != nil {
		return err
	}
	n.Hub.AnnounceGap(r.PathValue("name"), plan)
	n.Log.Info("replay started by an operator", "group", r.PathValue("name"), "count", plan.Positions)
	return WriteJSON(w, replayOf(plan))
}

// planReplay reads a request for a replay.
func planReplay(n *node.Node, r *http.Request) (p hub.GapPlan, err error) {
	q := r.URL.Query()
	if err := rejectUnknownParameters(q, "since"); err != nil {
		return p, badRequest(err)
	}
	if q.Get("since") == "" {
		return p, badRequest(errReplaySince)
	}
	since, err := parseTailSince(q.Get("since"), time.Now())
	if err != nil {
		return p, badRequest(err)
	}
	start := hub.GapStart{Time: since.from}
	switch {
	case len(since.resume.After) > 0:
		start.After = since.resume.After[0]
	case since.from.IsZero(): // a number of last events has no beginning
		return p, badRequest(errReplaySince)
	}
	ctx, cancel := context.WithTimeout(r.Context(), inspectTimeout)
	defer cancel()
	if p, err = n.Hub.PlanGap(ctx, r.PathValue("name"), start); err != nil {
		return p, badRequest(err)
	}
	return p, nil
}

// replayOf converts a plan of the hub.
func replayOf(p hub.GapPlan) Replay {
	out := Replay{Clients: p.Positions, Resync: p.Resync, Untold: p.Untold, Events: p.Events}
	if p.Reason != nil {
		out.Reason = p.Reason.Error()
	}
	if !p.Position.IsZero() {
		out.Position, out.At = p.Position.String(), time.UnixMicro(p.Position.Micros)
	}
	return out
}

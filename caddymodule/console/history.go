package console

import (
	"context"
	"net/http"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

const (
	// maxHistoryReads is the number of histories that are read at once: plugins process the events again.
	maxHistoryReads = 4
	// maxEntries is the greatest number of entries in a response, and defaultEntries the default.
	maxEntries, defaultEntries = 1000, 100
	// maxPreview is the part of an event's payload that a history shows, in bytes.
	maxPreview = 1 << 10
	// historyTimeout bounds the time for a history.
	historyTimeout = 10 * time.Second
)

// entry is an event of a history, as the page shows it.
type entry struct {
	event
	// Position is the place from which a client resumes behind the event.
	Position string `json:"position"`
	Size     int    `json:"size"`
}

// historyPage is the response to GET history?group=….
type historyPage struct {
	// Entries are events that the operator may see, newest first.
	Entries []entry `json:"entries"`
	// Kept describes the whole history. Hidden is the number of events that the operator may not see, among as many of the
	// newest events as Entries may have.
	Kept   admin.GroupHistory `json:"kept"`
	Hidden int                `json:"hidden"`
	// Reason tells why the history cannot be read; absent if it can.
	Reason string `json:"reason,omitempty"`
}

// serveHistory shows the events of a group's history that a client with the operator's rights would get.
func (h *Handler) serveHistory(w http.ResponseWriter, r *http.Request, id relay.Identity) error {
	group, limit, err := groupParameters(r, defaultEntries, maxEntries)
	if err != nil {
		return err
	}
	reads := limitsOf(h.node).reads
	select {
	case reads <- struct{}{}:
		defer func() { <-reads }()
	default:
		return &refusal{http.StatusTooManyRequests, "too_many_reads", "too many histories are being read; try again"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), historyTimeout)
	defer cancel()
	options, err := h.tailOptions(ctx, id, group)
	if err != nil {
		return authorizationError(err)
	}
	page := historyPage{Entries: []entry{}}
	if page.Kept, err = admin.InspectHistory(ctx, h.node, group); err != nil {
		return err
	}
	options.Since = &relay.Resume{Latest: limit}
	tail, err := h.node.Hub.Tail(ctx, group, options)
	if err != nil {
		return badRequest(err)
	}
	defer tail.Close()
	page.fill(tail, limit)
	return admin.WriteJSON(w, page)
}

// fill adds the entries of a tail, newest first.
func (p *historyPage) fill(tail *hub.Tail, limit int) {
	if reason := tail.Resumed().Reason; reason != nil {
		p.Reason = reason.Error()
	}
	events, _ := tail.Take()
	for i := len(events) - 1; i >= 0; i-- {
		ev := events[i]
		if ev.Source != relay.FromHistory || ev.Position.IsZero() {
			continue
		}
		p.Entries = append(p.Entries, entry{eventOf(ev, 0, maxPreview), ev.Position.String(), len(ev.Text)})
	}
	p.Hidden = max(0, min(p.Kept.Events, limit)-len(p.Entries))
}

// servePresence lists the users in a group that the operator may see.
func (h *Handler) servePresence(w http.ResponseWriter, r *http.Request, id relay.Identity) error {
	group, _, err := groupParameters(r, 0, maxEntries)
	if err != nil {
		return err
	}
	if err := h.authorizeGroup(r.Context(), id, group); err != nil {
		return err
	}
	return admin.ServePresence(h.node, w, r)
}

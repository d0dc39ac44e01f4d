package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/doctor"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/presence"
)

// PresenceStatus describes the presence of routes on this node.
type PresenceStatus struct {
	// Groups is the number of groups with users on this node, and Members the number of those users in groups.
	Groups  int `json:"groups"`
	Members int `json:"members"`
	// Waiting is the number of changes that are not in the channel layer yet.
	Waiting int `json:"waiting"`
	// Trouble tells why the channel layer cannot be used; absent if it can.
	Trouble string `json:"trouble,omitempty"`
	// The counters are those of this node, since its start or since another channel layer. Joins, Leaves and Counts were
	// announced, Unannounced could not be announced at once, Restored were lost by the channel layer, and Expelled were
	// users of dead nodes.
	Joins       uint64 `json:"joins"`
	Leaves      uint64 `json:"leaves"`
	Counts      uint64 `json:"counts"`
	Unannounced uint64 `json:"unannounced"`
	Restored    uint64 `json:"restored"`
	Expelled    uint64 `json:"expelled"`
	// Webhooks are the webhooks of the configuration.
	Webhooks []WebhookStatus `json:"webhooks"`
	// WebhookEvents were queued by this node, WebhookSent were sent by this node, WebhookDropped were dropped because a
	// queue was full, and WebhookFailed counts requests that failed.
	WebhookEvents  uint64 `json:"webhook_events"`
	WebhookSent    uint64 `json:"webhook_sent"`
	WebhookDropped uint64 `json:"webhook_dropped"`
	WebhookFailed  uint64 `json:"webhook_failed"`
}

// WebhookStatus describes a webhook.
type WebhookStatus struct {
	URL string `json:"url"`
	// Trouble tells why the last request failed, and Since when that began; absent if it did not fail.
	Trouble string    `json:"trouble,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// presenceStatus describes the presence; nil if no route has presence.
func presenceStatus(n *node.Node) *PresenceStatus {
	t := n.Presence.Tracker()
	if t == nil {
		return nil
	}
	s := t.Stats()
	status := &PresenceStatus{
		Groups: s.Groups, Members: s.Members, Waiting: s.Waiting, Trouble: s.Trouble,
		Joins: s.Announced[presence.Join], Leaves: s.Announced[presence.Leave], Counts: s.Announced[presence.Count],
		Unannounced: s.Unannounced, Restored: s.Restored, Expelled: s.Expelled, Webhooks: []WebhookStatus{},
		WebhookEvents: s.CallsQueued, WebhookSent: s.CallsSent, WebhookDropped: s.CallsDropped, WebhookFailed: s.CallsFailed,
	}
	for _, h := range n.Presence.Webhooks() {
		state := s.Webhooks[h.ID()]
		status.Webhooks = append(status.Webhooks, WebhookStatus{h.URL(), state.Trouble, state.Since})
	}
	return status
}

// GroupPresence is the response to GET /edgerelay/presence.
type GroupPresence struct {
	Group string `json:"group"`
	// Users are users in the order of their ids, at most as many as the request has asked for.
	Users []PresentUser `json:"users"`
	// Count is the number of all users, on all nodes of the channel layer.
	Count int `json:"count"`
}

// PresentUser is a user in a group.
type PresentUser struct {
	// User is the user's id, and Info what the route tells about the user.
	User json.RawMessage `json:"user"`
	Info json.RawMessage `json:"info"`
}

// ServePresence lists the users in a group.
func ServePresence(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	group := q.Get("group")
	limit, err := IntParameter(q, "limit", pageSize, 0, maxPageSize)
	if err := errors.Join(err, relay.CheckGroup(group), rejectUnknownParameters(q, "group", "limit")); err != nil {
		return badRequest(err)
	}
	t := n.Presence.Tracker()
	if t == nil {
		err := errors.New("no route has presence; add 'presence' to a route")
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	}
	ctx, cancel := context.WithTimeout(r.Context(), inspectTimeout)
	defer cancel()
	list, err := t.List(ctx, group, int(limit))
	if err != nil {
		err = fmt.Errorf("listing the users: %w; check the channel layer with 'caddy edgerelay doctor'", err)
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	response := GroupPresence{Group: group, Users: []PresentUser{}, Count: list.Count}
	for _, u := range list.Users {
		info := u.Info
		if info == "" {
			info = "{}"
		}
		response.Users = append(response.Users, PresentUser{json.RawMessage(u.User), json.RawMessage(info)})
	}
	return WriteJSON(w, response)
}

// checkPresence examines the store of presence, and asks the webhooks.
func checkPresence(ctx context.Context, running *node.Node) (list []doctor.Finding) {
	t := running.Presence.Tracker()
	if t == nil {
		return nil
	}
	s := t.Stats()
	list = append(list, doctor.Presence(s.Members, s.Trouble, s.CallsDropped))
	for _, h := range running.Presence.Webhooks() {
		asking, cancel := context.WithTimeout(ctx, webhookPingTimeout)
		list = append(list, doctor.Webhook(h.URL(), h.Ping(asking)))
		cancel()
	}
	return list
}

// webhookPingTimeout bounds the wait for the site's response to a request without events.
const webhookPingTimeout = 5 * time.Second

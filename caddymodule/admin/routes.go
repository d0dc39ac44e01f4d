package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/internal/doctor"
)

// RouteStatus has the figures of the routes of a path. An event counts once for each group, whatever the number of
// clients.
type RouteStatus struct {
	Path        string `json:"path"`
	Connections int64  `json:"connections"`
	// Opened counts connections, Rejected the handshakes that the route rejected.
	Opened   uint64 `json:"opened"`
	Rejected uint64 `json:"rejected"`
	// Events counts events by result: rendered, ignored by a rule, no_rule or unrenderable.
	Events map[string]uint64 `json:"events"`
	// Messages counts messages of clients by result: published, ignored, refused, malformed or failed.
	Messages map[string]uint64 `json:"messages"`
	// Backend counts what the site was asked about the clients' messages: requests, retries, failed, busy, messages, and
	// queued, the connections that wait now; and of its held responses: held now, and followed, the requests that they
	// caused. It is nil without `messages backend` and without `hold`.
	Backend map[string]uint64 `json:"backend,omitempty"`
	// TypesWithoutRule counts events without a rule by type.
	TypesWithoutRule map[string]uint64 `json:"types_without_rule"`
	// Unrenderable counts events that their rule cannot render by type.
	Unrenderable map[string]uint64 `json:"unrenderable"`
}

// routeStatus returns the figures of all paths that are routes, sorted.
func routeStatus(n *node.Node) (list []RouteStatus) {
	backends := backendFigures(n)
	for _, path := range n.Routes.Paths() {
		s := path.Stats
		list = append(list, RouteStatus{
			Path: path.Path, Connections: s.Connections.Load(), Opened: s.Opened.Load(), Rejected: s.Rejected.Load(),
			Events: s.EventResults(), Messages: s.MessageResults(), Backend: backends[path.Path],
			TypesWithoutRule: s.Unknown(), Unrenderable: s.Broken(),
		})
	}
	return list
}

// backendFigures returns the figures of the sites that answer messages, by the paths of their routes.
func backendFigures(n *node.Node) map[string]map[string]uint64 {
	byPath := map[string]map[string]uint64{}
	for key, b := range n.Backends.All() {
		path, _, _ := strings.Cut(key, "\x00")
		if byPath[path] == nil {
			byPath[path] = map[string]uint64{}
		}
		sums := byPath[path]
		sums["queued"] += uint64(b.Queued())
		sums["held"] += uint64(b.Stats.Held.Load())
		sums["followed"] += b.Stats.Followed.Load()
		sums["requests"] += b.Stats.Requests.Load()
		sums["retries"] += b.Stats.Retries.Load()
		sums["failed"] += b.Stats.Failed.Load()
		sums["busy"] += b.Stats.Busy.Load()
		sums["messages"] += b.Stats.Messages.Load()
	}
	return byPath
}

// maxChannelsTime bounds the time for which doctor listens to groups.
const maxChannelsTime = 10 * time.Minute

var errChannelsTime = errors.New("channels: invalid duration; use one above 0 and up to 10m, such as 30s")

// channelsTime reads for how long doctor listens to the groups of the site; 0: not at all.
func channelsTime(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("channels")
	if text == "" {
		return 0, nil
	}
	d, err := settings.ParseDuration(text)
	if err == nil && (d <= 0 || time.Duration(d) > maxChannelsTime) {
		err = errChannelsTime
	}
	if err != nil {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	return time.Duration(d), nil
}

// examineChannels listens to the groups that the site uses, and compares the types of their events with the routes.
func examineChannels(ctx context.Context, n *node.Node, c *node.Config, span time.Duration) []doctor.Finding {
	lister, everyone := c.Layer.(guest.GroupLister)
	list := func(ctx context.Context) ([]string, error) {
		groups := n.Hub.Interested()
		if !everyone {
			return groups, nil
		}
		listed, err := lister.ListGroups(ctx, doctor.MaxChannelGroups)
		return append(groups, listed...), err
	}
	n.ReceiveAllMessages(true)
	defer n.ReceiveAllMessages(false)
	return doctor.Channels(ctx, n.Hub, doctor.ChannelGroups{List: list, Everyone: everyone}, n.Routes.All(), span)
}

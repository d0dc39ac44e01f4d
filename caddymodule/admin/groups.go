package admin

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// Group is a group, as the admin API and the console show it.
type Group struct {
	Group string `json:"group"`
	// Subscribers is the number of subscribed clients of this node.
	Subscribers int `json:"subscribers"`
	// Tails is the number of operators that watch the group: with the command tail, in the console or over the admin
	// API.
	Tails int `json:"tails"`
	// Rate is in events a second, since the previous request for rates and over at least a second.
	Rate float64 `json:"rate"`
	// History describes the group's history, in an overview only; absent if the group has none.
	History *GroupHistory `json:"history,omitempty"`
}

// groupPage is the response to GET /edgerelay/groups.
type groupPage struct {
	// Total is the number of groups with the prefix, on all pages.
	Total  int     `json:"total"`
	Groups []Group `json:"groups"`
	// Next is the value of the parameter after for the next page; absent on the last page.
	Next string `json:"next,omitempty"`
}

var groupOrders = map[string]hub.GroupOrder{
	"": hub.GroupsByName, "name": hub.GroupsByName, "rate": hub.GroupsByRate, "subscribers": hub.GroupsBySubscribers,
}

// ServeGroups lists groups.
func ServeGroups(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if err := rejectUnknownParameters(q, "prefix", "sort", "limit", "after"); err != nil {
		return badRequest(err)
	}
	limit, err := IntParameter(q, "limit", pageSize, 1, maxPageSize)
	order, ok := groupOrders[q.Get("sort")]
	if !ok {
		err = errors.Join(err, fmt.Errorf("invalid sort %q; use name, rate or subscribers", q.Get("sort")))
	}
	if err != nil {
		return badRequest(err)
	}
	var page groupPage
	page.Groups, page.Total = listGroups(n, q.Get("prefix"), order, q.Get("after"), int(limit)+1)
	if len(page.Groups) > int(limit) {
		page.Groups = page.Groups[:limit]
		if order == hub.GroupsByName {
			page.Next = page.Groups[limit-1].Group
		}
	}
	return WriteJSON(w, page)
}

// listGroups returns a page of groups with current rates, and the number of groups on all pages.
func listGroups(
	n *node.Node, prefix string, order hub.GroupOrder, after string, limit int,
) (list []Group, total int) {
	n.Monitor.MeasureGroups()
	page, total := n.Hub.Groups(prefix, order, after, limit)
	list = make([]Group, len(page))
	for i, g := range page {
		list[i] = Group{Group: g.Group, Subscribers: g.Subscribers, Tails: g.Tails, Rate: g.Rate}
	}
	return list, total
}

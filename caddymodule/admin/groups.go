package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// groupStatus is a group as the admin API and the console show it.
type groupStatus struct {
	Group string `json:"group"`
	// Subscribers is how many clients of this node there are.
	Subscribers int `json:"subscribers"`
	// Tails is how many operators watch it: with `tail`, in the console or over the admin API.
	Tails int `json:"tails"`
	// Rate is in events a second since somebody last asked for rates, but at least over one second.
	Rate float64 `json:"rate"`
}

// groupPage is what GET /edgerelay/groups answers.
type groupPage struct {
	// Total is how many groups there are with the prefix.
	Total  int           `json:"total"`
	Groups []groupStatus `json:"groups"`
	// Next is the value of `after` for the next page; absent on the last.
	Next string `json:"next,omitempty"`
}

var groupOrders = map[string]hub.GroupOrder{
	"": hub.GroupsByName, "name": hub.GroupsByName, "rate": hub.GroupsByRate, "subscribers": hub.GroupsBySubscribers,
}

func serveGroups(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if err := onlyParameters(q, "prefix", "sort", "limit", "after"); err != nil {
		return err
	}
	limit, err := Parameter(q, "limit", pageSize, 1, maxPageSize)
	order, ok := groupOrders[q.Get("sort")]
	if !ok {
		err = errors.Join(err, fmt.Errorf("sort is name, rate or subscribers, not %q", q.Get("sort")))
	}
	if err != nil {
		return badRequest(err)
	}
	var page groupPage
	page.Groups, page.Total = groupsOf(n, q.Get("prefix"), order, q.Get("after"), int(limit)+1)
	if len(page.Groups) > int(limit) {
		page.Groups = page.Groups[:limit]
		if order == hub.GroupsByName {
			page.Next = page.Groups[limit-1].Group
		}
	}
	return WriteJSON(w, page)
}

func groupsOf(n *node.Node, prefix string, order hub.GroupOrder, after string, limit int) (list []groupStatus, total int) {
	n.Monitor.MeasureGroups()
	page, total := n.Hub.Groups(prefix, order, after, limit)
	list = make([]groupStatus, len(page))
	for i, g := range page {
		list[i] = groupStatus(g)
	}
	return list, total
}

// tailEvent is one line of GET /edgerelay/groups/<name>/tail.
type TailEvent struct {
	// At is when the event reached this node, Sent when it was published, as far as that is known.
	At   time.Time `json:"at"`
	Sent time.Time `json:"sent,omitzero"`
	// Source is layer or peer.
	Source string `json:"source"`
	// Data is the payload if it is JSON, else Text is.
	Data json.RawMessage `json:"data,omitempty"`
	Text string          `json:"text,omitempty"`
}

// tailGap is a line where events were left out.
type tailGap struct {
	At      time.Time `json:"at"`
	Dropped int       `json:"dropped"`
}

func tailEventOf(ev hub.TailEvent) TailEvent {
	e := TailEvent{At: ev.At, Sent: ev.Sent, Source: ev.Source.String()}
	var line bytes.Buffer
	if json.Compact(&line, ev.Text) == nil {
		e.Data = line.Bytes()
	} else {
		e.Text = string(ev.Text)
	}
	return e
}

// tailJoinWait is how long a tail waits for the membership in its group before it begins all the same.
const tailJoinWait = 5 * time.Second

func serveTail(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	q, group := r.URL.Query(), r.PathValue("name")
	if err := onlyParameters(q, "raw", "class"); err != nil {
		return err
	}
	if err := relay.CheckGroup(group); err != nil {
		return badRequest(err)
	}
	o := hub.TailOptions{Raw: q.Get("raw") == "true"}
	if raw := q.Get("raw"); raw != "" && raw != "true" && raw != "false" {
		return badRequest(fmt.Errorf("raw is true or false, not %q", raw))
	}
	class, err := Parameter(q, "class", 0, 0, 63)
	if err != nil {
		return badRequest(err)
	}
	o.Class = uint8(class)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the admin server's would end the request after ten seconds
	joining, cancel := context.WithTimeout(r.Context(), tailJoinWait)
	tail, err := n.Hub.Tail(joining, group, o)
	cancel()
	if err != nil {
		return badRequest(err)
	}
	defer tail.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		return nil // nobody reads
	}
	for {
		events, dropped, err := tail.Next(r.Context())
		if err != nil {
			return nil
		}
		if err := writeTail(w, events, dropped); err != nil {
			return nil
		}
		if err := control.Flush(); err != nil {
			return nil
		}
	}
}

// writeTail writes events as lines of JSON.
func writeTail(w http.ResponseWriter, events []hub.TailEvent, dropped int) error {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	for _, ev := range events {
		if err := lines.Encode(tailEventOf(ev)); err != nil {
			return err
		}
	}
	if dropped > 0 {
		return lines.Encode(tailGap{time.Now(), dropped})
	}
	return nil
}
